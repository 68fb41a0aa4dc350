import jax.numpy as jnp
import numpy as np
import pytest

from folded import diagnose_draws, draw, right_mass
from genjax.vae.diagnostics import diagnose
from genjax.vae.inference import InferenceConfig, agreement_of_chains

pytestmark = pytest.mark.slow

ROUNDS, PARTICLES = 8, 64
QUICK = InferenceConfig(
    num_chains=8, num_particles=PARTICLES, thinning=1, num_warmup=20, num_restarts=4, num_ascent_steps=50
)


def hmc(**params):
    """Draws [images, rounds, particles], and the health."""
    e, health = draw("hmc", ROUNDS * PARTICLES, QUICK, **params)
    return e.reshape(-1, ROUNDS, PARTICLES), health


# With slope 2.66 the modes have one mass and different heights, with 0.66 neither is equal.
@pytest.mark.parametrize("slope, mass", [(1.0, 0.5), (2.66, 0.505), (0.66, 0.731)])
def test_hmc_gives_each_mode_its_mass(slope, mass):
    assert right_mass(slope) == pytest.approx(mass, abs=0.001)
    e, health = hmc(slope=slope)
    assert np.mean(e > 0) == pytest.approx(mass, abs=0.04)
    assert 0.2 < np.median(health) < 0.7


def test_hmc_health_falls_with_lost_starts():
    assert np.median(hmc(sigma=10.0)[1]) > 2 * np.median(hmc(sigma=0.003)[1])


def test_hmc_moves_on_after_trajectories_diverged():
    e, _ = hmc(wall=1.8)
    assert np.abs(e).max() <= 1.8  # and not NaN
    assert np.mean(np.ptp(e, axis=1) > 0) > 0.95


@pytest.mark.parametrize("method", ["hmc", "importance", "map"])
def test_health_is_nan_where_nothing_is_finite(method):
    _, health = draw(method, ROUNDS * PARTICLES, QUICK, wall=0.0)
    assert np.isnan(health).all()


def test_hmc_keeps_step_sizes_after_warm_up():
    e, _ = hmc(sigma=10.0, log_sigma=-3.0)  # far wider than the steps, which warm-up lengthens up to its end
    jump = np.abs(np.diff(e, axis=1)).mean(axis=(0, 2))
    assert jump[-3:].mean() / jump[:3].mean() == pytest.approx(1, abs=0.1)


def test_gibbs_health_is_that_of_steps_after_warm_up():
    e, health = draw("metropolis", 8 * 10, QUICK, unseen=1.0, seen=0.0)
    steps = e.reshape(-1, 10, 8, 1).swapaxes(0, 1)
    np.testing.assert_allclose(health, agreement_of_chains(jnp.asarray(steps)), rtol=1e-5)


def test_draws_have_diagnostics_of_their_chains():
    e, found = diagnose_draws("metropolis", 8 * 10, QUICK, unseen=1.0, seen=0.0)
    steps = e.reshape(-1, 10, 8, 1).swapaxes(0, 1)
    again = diagnose(jnp.asarray(steps), jnp.ones((10, len(e), 8)))
    np.testing.assert_allclose(found[:2], again[:2], rtol=1e-4)
    moved = np.mean(np.diff(steps, axis=0) != 0)
    assert np.mean(found.acceptance_rate) == pytest.approx(moved, abs=0.03) and 0.1 < moved < 0.9
    assert (diagnose_draws("pseudo_gibbs", 80, QUICK)[1].acceptance_rate == 1).all()


def test_hmc_has_an_acceptance_rate_near_its_aim():
    found = diagnose_draws("hmc", ROUNDS * PARTICLES, QUICK)[1]
    assert 0.7 < np.mean(found.acceptance_rate) < 0.97
    assert np.isfinite(found.r_hat).all() and np.isfinite(found.effective_sample_size).all()


@pytest.mark.parametrize("method", ["importance", "map"])
def test_methods_without_chains_have_no_diagnostics(method):
    assert np.isnan(diagnose_draws(method, ROUNDS * PARTICLES, QUICK)[1]).all()


def test_pseudo_gibbs_health_tells_slow_chains():
    quick, slow = (np.median(draw("pseudo_gibbs", 80, QUICK, **p)[1]) for p in ({}, {"seen": 0.0, "unseen": 1.0}))
    assert quick > 0.8 and slow < 0.4
