"""Both bounds on log p(x) against closed forms, by a linear VAE whose encoder is too narrow or too wide."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import keys
from genjax.vae import sandwich
from genjax.vae.sandwich import AnnealingConfig
from linear_gaussian import LinearGaussian

NUM = 500


def bounds(widen, num_steps, num_chains=1):
    """Bounds, less the exact log p(x), of NUM images drawn from the model."""
    model = LinearGaussian(widen)
    config = AnnealingConfig(num_chains=num_chains, num_steps=num_steps, num_integration_steps=3)

    @jax.jit
    def run(key):
        found = sandwich.simulated_rows(model, config, {}, key, jnp.arange(NUM))
        e_key, x_key, *_ = jax.random.split(key, 5)
        return found, e_key, x_key

    with jax.debug_key_reuse(False):
        found, e_key, x_key = run(keys.root_key(0))
        e = sandwich.draw_noise(model, e_key, jnp.arange(NUM))
        x = model.decode({}, (e,)).sample(keys.per_example(x_key, jnp.arange(NUM)))
    exact = model.log_prob(np.asarray(x).reshape(NUM, 6))
    return np.asarray(found.lower) - exact, np.asarray(found.upper) - exact


@pytest.mark.slow
@pytest.mark.parametrize("widen", [-0.7, 0.7])
def test_simulated_rows_close_in_on_the_likelihood(widen):
    lower, upper = bounds(widen, 100, num_chains=4)
    assert lower.mean() < 0 < upper.mean() < lower.mean() + 0.1


@pytest.mark.slow
def test_weights_of_a_short_path_are_unbiased():
    """The mean weight is p(x) on the way there, and 1 / p(x) on the way back (Jarzynski 1997)."""
    lower, upper = bounds(0.3, 3)
    assert lower.mean() < -0.02 and upper.mean() > 0.02  # far from exact
    for relative in (np.exp(lower), np.exp(-upper)):
        assert abs(relative.mean() - 1) < 3 * relative.std() / np.sqrt(NUM) < 0.13
