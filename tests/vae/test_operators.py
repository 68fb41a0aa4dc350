import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.vae import linear
from genjax.vae.distributions import Bernoulli, LogisticMixture
from genjax.vae.operators import Downsample, Mask


@pytest.mark.parametrize("factor", [2, 4])
def test_downsample_counts_each_binary_pixel(factor):
    """Where a block's pixels have one probability, its evidence is that of all of its pixels."""
    rng = np.random.default_rng(0)
    logits, y = (rng.normal(size=(1, 2, 2, 2, 1)), rng.uniform(size=(1, 1, 2, 2, 1)))
    large = lambda small: jnp.asarray(small.repeat(factor, axis=2).repeat(factor, axis=3))  # noqa: E731
    likelihood = Bernoulli(large(logits))
    found = Downsample(factor).log_prob(likelihood, jnp.asarray(y))
    np.testing.assert_allclose(found, likelihood.log_prob(large(y)), rtol=1e-4)


def test_operators_of_sums_refuse_a_logistic_mixture():
    likelihood = LogisticMixture.from_outputs(jnp.zeros((1, 1, 4, 4, 6)), 1)
    with pytest.raises(ValueError, match="which a logistic mixture does not have in closed form: train"):
        Downsample(2).log_prob(likelihood, jnp.zeros((1, 1, 2, 2, 1)))
    checked = linear.noise(0.1).check(np.zeros((1, 4, 4, 1)), (4, 4, 1))
    noisy, y = jax.tree.map(lambda leaf: jnp.asarray(leaf)[:, None], checked)
    for use in (noisy.log_prob, noisy.project):
        with pytest.raises(ValueError, match="y = A x . noise needs p.y.z. of sums or noisy values of pixels"):
            use(likelihood, y)


def test_mask_takes_the_marginal_of_a_logistic_mixture():
    """Missing pixels, with all of their channels, drop out, whatever they hold."""
    rng = np.random.default_rng(0)
    outputs = jnp.asarray(rng.normal(size=(1, 2, 4, 4, LogisticMixture.num_outputs(3, 2))))
    likelihood, y = LogisticMixture.from_outputs(outputs, 3), rng.integers(0, 256, (1, 1, 4, 4, 3)) / 255
    missing = rng.uniform(size=(1, 1, 4, 4, 1)) < 0.5
    found = Mask(missing).log_prob(likelihood, jnp.asarray(y))
    seen = jnp.where(missing, 0.0, likelihood.log_prob_per_pixel(jnp.asarray(y)))
    np.testing.assert_allclose(found, seen.sum(axis=(2, 3, 4)), rtol=1e-6)
    other = np.where(missing, 1 - y, y)
    np.testing.assert_array_equal(found, Mask(missing).log_prob(likelihood, jnp.asarray(other)))
