import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from genjax import keys
from genjax.vae.config import VaeConfig
from genjax.vae.distributions import Bernoulli, Gaussian


def test_bernoulli_log_prob_equals_scipy(x64):
    rng = np.random.default_rng(0)
    logits, x = rng.normal(scale=3, size=(4, 5, 6, 1)), rng.integers(0, 2, (4, 5, 6, 1))
    expected = scipy.stats.bernoulli.logpmf(x, 1 / (1 + np.exp(-logits)))
    likelihood = Bernoulli(jnp.asarray(logits))
    np.testing.assert_allclose(likelihood.log_prob_per_pixel(jnp.asarray(x)), expected, rtol=1e-9)
    np.testing.assert_allclose(likelihood.log_prob(jnp.asarray(x)), expected.sum((1, 2, 3)), rtol=1e-10)


@pytest.mark.parametrize("logit", [1e4, -1e4, 104.0, -104.0, 0.0])
@pytest.mark.parametrize("x", [0.0, 1.0])
def test_bernoulli_log_prob_is_finite_for_any_logit(logit, x):
    def log_prob(logits):
        return Bernoulli(logits).log_prob(jnp.full((1, 1, 1, 1), x))[0]

    value, grad = jax.value_and_grad(log_prob)(jnp.full((1, 1, 1, 1), logit))
    expected = {0.0: -math.log(2)}.get(logit, 0.0 if (logit > 0) == (x == 1) else -abs(logit))
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(grad, x - 1 / (1 + math.exp(-min(max(logit, -700), 700))), atol=1e-6)


def test_gaussian_log_prob_equals_scipy(x64):
    rng = np.random.default_rng(1)
    mean, x = rng.normal(size=(2, 3, 4, 5, 1))
    expected = scipy.stats.norm.logpdf(x, mean, np.exp(-0.7))
    likelihood = Gaussian(jnp.asarray(mean), jnp.asarray(-0.7))
    np.testing.assert_allclose(likelihood.log_prob_per_pixel(jnp.asarray(x)), expected)
    np.testing.assert_allclose(likelihood.log_prob(jnp.asarray(x)), expected.sum((1, 2, 3)))


def test_gaussian_default_sigma_gives_squared_error(x64):
    rng = np.random.default_rng(2)
    mean, x = rng.uniform(size=(2, 3, 4, 5, 1))
    expected = -((x - mean) ** 2).sum((1, 2, 3)) - 20 / 2 * math.log(math.pi)
    likelihood = Gaussian(jnp.asarray(mean), jnp.log(VaeConfig().sigma))
    np.testing.assert_allclose(likelihood.log_prob(jnp.asarray(x)), expected, rtol=1e-12)


@pytest.mark.parametrize(
    "likelihood, variance",
    [
        (Bernoulli(jnp.array([-2.0, 0.0, 1.0, 3.0]).reshape(1, 1, 2, 2, 1)), None),
        (Gaussian(jnp.array([-2.0, 0.0, 1.0, 3.0]).reshape(1, 1, 2, 2, 1), jnp.log(0.5)), 0.25),
    ],
    ids=["bernoulli", "gaussian"],
)
def test_sample_has_the_likelihoods_moments(likelihood, variance):
    num = 20_000
    many = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (2, num, *leaf.shape[2:])) if leaf.ndim else leaf, likelihood
    )
    image_keys = keys.per_example(keys.root_key(0), jnp.arange(2 * num)).reshape(2, num)
    x, mean = np.asarray(many.sample(image_keys)), np.asarray(likelihood.mean())[0]
    variance = mean * (1 - mean) if variance is None else np.full(mean.shape, variance)
    error = np.sqrt(variance / (2 * num))
    assert (np.abs(x.mean((0, 1)) - mean[0]) < 4 * error).all()
    np.testing.assert_allclose(x.var((0, 1)), variance[0], rtol=0.05)
    one = jax.tree.map(lambda leaf: leaf[1:, 5:6] if leaf.ndim else leaf, many)
    np.testing.assert_array_equal(one.sample(image_keys[1:, 5:6]), x[1:, 5:6])  # an image's own key decides
