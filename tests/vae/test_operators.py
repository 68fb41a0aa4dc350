import jax.numpy as jnp
import numpy as np
import pytest

from genjax.vae.distributions import Bernoulli
from genjax.vae.operators import Downsample


@pytest.mark.parametrize("factor", [2, 4])
def test_downsample_counts_each_binary_pixel(factor):
    """Where a block's pixels have one probability, its evidence is that of all of its pixels."""
    rng = np.random.default_rng(0)
    logits, y = (rng.normal(size=(1, 2, 2, 2, 1)), rng.uniform(size=(1, 1, 2, 2, 1)))
    large = lambda small: jnp.asarray(small.repeat(factor, axis=2).repeat(factor, axis=3))  # noqa: E731
    likelihood = Bernoulli(large(logits))
    found = Downsample(factor).log_prob(likelihood, jnp.asarray(y))
    np.testing.assert_allclose(found, likelihood.log_prob(large(y)), rtol=1e-4)
