import jax.numpy as jnp
import numpy as np
import pytest

from folded import Y, draw
from genjax.vae.inference import InferenceConfig, agreement_of_chains, agreement_of_restarts, resample

QUICK = InferenceConfig(num_proposals=100, num_restarts=8)


def test_importance_health_is_a_share():
    _, equal = draw("importance", 2, QUICK, sigma=1e4, seen=0.0, log_sigma=0.0)
    np.testing.assert_allclose(equal, 1, rtol=1e-3)
    _, single = draw("importance", 2, QUICK, sigma=1e-4, seen=0.0, log_sigma=0.0)
    np.testing.assert_allclose(np.median(single), 1 / 100, rtol=0.1)


def test_map_passes_over_restarts_that_are_nan():
    e, health = draw("map", 2, QUICK, wall=2.5, seen=2.0)  # the encoder's start, at 3, is beyond the wall
    np.testing.assert_allclose(np.abs(e), Y / 1.01, atol=0.01)
    assert health.max() < 1 and np.median(health) > 0.7


def test_map_health_is_the_share_of_restarts_at_the_best():
    _, alike = draw("map", 2, QUICK)
    _, apart = draw("map", 2, QUICK, slope=0.3)  # the left mode is 11 nats lower
    assert np.mean(alike) > 0.95 and 0.2 < np.mean(apart) < 0.8


def test_agreement_of_restarts_leaves_out_the_best():
    height = jnp.array([[5.0, 4.5, 0.0, -jnp.inf], [-jnp.inf] * 4])
    np.testing.assert_allclose(agreement_of_restarts(height), [1 / 3, np.nan])
    np.testing.assert_array_equal(agreement_of_restarts(height[:1, :1]), [0])


def test_agreement_of_chains_falls_with_distance():
    noise = np.random.default_rng(0).normal(size=(400, 1, 10, 1))
    apart = np.array([-1.0, 1.0]).repeat(5).reshape(1, 1, 10, 1)
    trend = np.linspace(-3, 3, 400).reshape(400, 1, 1, 1)
    for steps, expected in ((noise, 1), (noise + apart, 1 / 2), (noise + 3 * apart, 1 / 10), (noise + trend, 0.4)):
        found = agreement_of_chains(jnp.asarray(steps))
        assert found[0] == pytest.approx(expected, abs=0.06)
    np.testing.assert_array_equal(agreement_of_chains(jnp.zeros((6, 2, 3, 1))), [0, 0])
    np.testing.assert_array_equal(agreement_of_chains(jnp.asarray(noise[:1])), [0])


@pytest.mark.parametrize("num", [8, 9])
def test_agreement_of_chains_is_split_r_hat(num):
    """By the book: halves of each chain, which share the middle step of an odd number."""
    steps = np.random.default_rng(num).normal(size=(num, 1, 3, 1)) + np.arange(3)[:, None]  # chains apart
    half = -(-num // 2)
    halves = np.concatenate([steps[:half, 0, :, 0], steps[-half:, 0, :, 0]], axis=1)
    within, between = halves.var(axis=0, ddof=1).mean(), half * halves.mean(axis=0).var(ddof=1)
    r_hat_squared = ((half - 1) / half * within + between / half) / within
    np.testing.assert_allclose(agreement_of_chains(jnp.asarray(steps)), min(1 / r_hat_squared, 1), rtol=1e-5)


def test_resample_picks_rows_by_weight():
    weight = jnp.asarray([[0.0, 1.0, 3.0], [2.0, 2.0, 0.0]])
    picked = resample(weight, jnp.asarray([[0.0, 0.2, 0.26, 1.0]] * 2))
    np.testing.assert_array_equal(picked, [[1, 1, 2, 2], [0, 0, 0, 2]])  # a uniform number may round up to 1


def test_agreement_of_chains_is_that_of_the_worst_latent():
    noise = np.random.default_rng(0).normal(size=(100, 1, 4, 3))
    noise[:, :, :2, 1] += 6
    assert agreement_of_chains(jnp.asarray(noise))[0] < 0.2
