"""Calibration of draws of a known posterior: right, too narrow, too wide, shifted, dependent."""

import numpy as np
import pytest

from genjax import keys
from genjax.vae import calibration, linear
from genjax.vae.inference import InferenceConfig
from genjax.vae.operators import Mask
from linear_vae import LATENTS, SIDE, SIGMA, linear_vae, posterior_given

NUM, DRAWS = 600, 8


def linear_gaussian(scale=1.0, shift=0.0, alike=0.0):
    """Values of log p(y, e) and of the latents, for truths of a linear VAE and draws from its posterior, changed.

    `scale` multiplies the standard deviations, `shift` is added in units of them; `alike` is the correlation of draws.
    """
    rng, (_, w, _) = np.random.default_rng(1), linear_vae()
    measure, sigma = rng.normal(size=(5, len(w))), 0.1
    e = rng.normal(size=(NUM, LATENTS))
    x = 0.5 + e @ w.T + SIGMA * rng.normal(size=(NUM, len(w)))
    y = x @ measure.T + sigma * rng.normal(size=(NUM, 5))
    posterior = [posterior_given(w, measure, row, sigma) for row in y]
    means, root = np.array([mean for mean, _ in posterior]), np.linalg.cholesky(posterior[0][1])
    noise = np.sqrt(1 - alike) * rng.normal(size=(NUM, DRAWS, LATENTS))
    noise += np.sqrt(alike) * rng.normal(size=(NUM, 1, LATENTS))
    draws = means[:, None] + (scale * noise + shift) @ root.T
    precision = np.linalg.inv(posterior[0][1])

    def values(e):
        off = e - means[:, None]
        return np.concatenate([-0.5 * np.einsum("nki,ij,nkj->nk", off, precision, off)[..., None], e], axis=2)

    return values(e[:, None])[:, 0], values(draws)


def test_p_value_is_high_for_exact_draws():
    truth, draws = linear_gaussian()
    for num in (8, 4, 1):
        assert calibration.p_value(calibration.ranks(truth, draws, num), num) > 0.05
    np.testing.assert_allclose(calibration.spread(calibration.ranks(truth, draws, 8), 8), 1, atol=0.1)


@pytest.mark.parametrize(
    "change, spread", [({"scale": 0.7}, 1.3), ({"scale": 1.5}, 0.75), ({"shift": 0.5}, 1.1), ({"alike": 0.3}, 1.2)]
)
def test_p_value_and_spread_tell_wrong_draws(change, spread):
    ranks = calibration.ranks(*linear_gaussian(**change), DRAWS)
    assert calibration.p_value(ranks, DRAWS) < 1e-4
    found = calibration.spread(ranks, DRAWS)[1:].mean()
    assert found > spread if spread > 1 else found < spread


def test_one_draw_of_those_that_depend_on_each_other_is_right():
    assert calibration.p_value(calibration.ranks(*linear_gaussian(alike=0.3), 1), 1) > 0.05


def test_ranks_counts_evenly_spaced_draws():
    draws = np.arange(8.0).reshape(1, 8, 1)
    assert [calibration.ranks(np.array([[4.5]]), draws, num)[0, 0] for num in (8, 4, 2, 1)] == [5, 3, 2, 1]


def test_p_value_refuses_too_few_truths():
    with pytest.raises(ValueError, match="ranks 0 to 8 need at least 45 truths to test, got 44"):
        calibration.p_value(np.zeros((44, 1), int), 8)


QUICK = InferenceConfig(num_proposals=2000, num_chains=8, num_warmup=15)
LEFT = Mask(np.arange(SIDE * SIDE).reshape(SIDE, SIDE) % SIDE < 2)


@pytest.mark.slow
@pytest.mark.parametrize("method, encoder_scale", [("importance", 1.0), ("pseudo_gibbs", 1.0), ("pseudo_gibbs", 0.5)])
@pytest.mark.parametrize("operator", [LEFT, linear.noise(0.1)])
def test_calibrate_tells_a_narrow_encoder_from_exact_draws(operator, method, encoder_scale):
    """Of pseudo-Gibbs sampling, which believes the encoder."""
    sampler, _, _ = linear_vae(encoder_scale)
    found = sampler.calibrate(operator, keys.root_key(0), np.arange(200), method, DRAWS, QUICK)
    assert found.truth.shape == (200, len(calibration.FUNCTIONS)) and found.health.shape == (200,)
    ranks = calibration.ranks(found.truth, found.draws, DRAWS)
    if encoder_scale == 1:
        assert calibration.p_value(ranks, DRAWS) > 0.01
    else:
        assert calibration.p_value(ranks, DRAWS) < 1e-4 and calibration.spread(ranks, DRAWS)[2:].max() > 1.2
