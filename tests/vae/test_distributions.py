import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from genjax import keys
from genjax.vae.config import VaeConfig
from genjax.vae.distributions import Bernoulli, Gaussian, LogisticMixture


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
    np.testing.assert_allclose(np.broadcast_to(likelihood.variance(), (1, *mean.shape))[0], variance, rtol=1e-6)
    error = np.sqrt(variance / (2 * num))
    assert (np.abs(x.mean((0, 1)) - mean[0]) < 4 * error).all()
    np.testing.assert_allclose(x.var((0, 1)), variance[0], rtol=0.05)
    one = jax.tree.map(lambda leaf: leaf[1:, 5:6] if leaf.ndim else leaf, many)
    np.testing.assert_array_equal(one.sample(image_keys[1:, 5:6]), x[1:, 5:6])  # an image's own key decides


def mixture(scale=1.0, mixtures=3, channels=3, pixels=5, seed=3):
    """A logistic mixture of one row of pixels, with parameters of that scale."""
    num = LogisticMixture.num_outputs(channels, mixtures)
    outputs = np.random.default_rng(seed).normal(size=(1, pixels, num)) * scale
    return LogisticMixture.from_outputs(jnp.asarray(outputs), channels)


@jax.jit
def log_prob_per_pixel(likelihood, x):
    return likelihood.log_prob_per_pixel(x)


@jax.jit
def log_prob(likelihood, x):
    return likelihood.log_prob(x)


@jax.jit
def sample(likelihood, image_keys):
    return likelihood.sample(image_keys)


def log_prob_of_levels(likelihood, channel, others):
    """Log probabilities [256, h, w] of all levels of a channel, where the others have those of `others`."""
    h, w, c, _ = likelihood.means.shape
    x = np.tile(np.asarray(others, float) / 255, (256, h, w, 1))
    x[..., channel] = np.arange(256)[:, None, None] / 255
    one = jax.tree.map(lambda leaf: leaf[None], likelihood)
    return np.asarray(log_prob_per_pixel(one, x))[..., channel]


@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 1e4])
@pytest.mark.parametrize("channel", [0, 1, 2])
def test_logistic_mixture_log_prob_per_pixel_sums_to_one(x64, scale, channel):
    likelihood = mixture(scale)
    log_prob = log_prob_of_levels(likelihood, channel, (250, 0, 17))
    np.testing.assert_allclose(scipy.special.logsumexp(log_prob, axis=0), 0.0, atol=1e-9)


@jax.jit
@jax.value_and_grad
def log_prob_of_outputs(outputs, x):
    return LogisticMixture.from_outputs(outputs, 3).log_prob(x)


@pytest.mark.parametrize("outputs", [1e4, -1e4])
@pytest.mark.parametrize("level", [0, 1, 128, 255])
def test_logistic_mixture_log_prob_is_finite_for_any_output(outputs, level):
    num = LogisticMixture.num_outputs(3, 2)
    each = np.full((1, 2, num), outputs, np.float32) * np.float32([1, -1]).reshape(1, 2, 1)
    value, grad = log_prob_of_outputs(each, np.full((1, 2, 3), level / 255, np.float32))
    assert np.isfinite(value) and np.isfinite(grad).all()


def test_logistic_mixture_log_prob_equals_differences_of_scipys_logistic(x64):
    """One pixel, level by level: the paper's equation 2 and 3, by another library."""
    likelihood, levels = mixture(), np.random.default_rng(0).integers(0, 256, (1, 5, 3))
    weight = np.exp(np.asarray(likelihood.logits) - scipy.special.logsumexp(likelihood.logits, axis=-1, keepdims=True))
    slopes, x = np.asarray(likelihood.slopes), levels / 127.5 - 1
    expected = np.zeros((1, 5))
    for i in range(5):
        total = 0.0
        for k in range(3):
            red, green, _ = x[0, i]
            m = np.asarray(likelihood.means)[0, i, :, k]
            centre = [m[0], m[1] + slopes[0, i, 0, k] * red]
            centre.append(m[2] + slopes[0, i, 1, k] * red + slopes[0, i, 2, k] * green)
            p = weight[0, i, k]
            for channel in range(3):
                logistic = scipy.stats.logistic(centre[channel], np.exp(likelihood.log_scales[0, i, channel, k]))
                above = 1.0 if levels[0, i, channel] == 255 else logistic.cdf(x[0, i, channel] + 1 / 255)
                below = 0.0 if levels[0, i, channel] == 0 else logistic.cdf(x[0, i, channel] - 1 / 255)
                p *= above - below
            total += p
        expected[0, i] = np.log(total)
    found = likelihood.log_prob_per_pixel(jnp.asarray(levels / 255))
    np.testing.assert_allclose(found.sum(-1), expected, rtol=1e-7)
    np.testing.assert_allclose(likelihood.log_prob(jnp.asarray(levels / 255)), expected.sum(), rtol=1e-8)


def test_logistic_mixture_sample_has_the_levels_probabilities_and_mean(x64):
    num = 40_000
    one = LogisticMixture(
        logits=jnp.array([[[0.3, -0.5]]]),
        means=jnp.array([[[[-0.2, 0.3], [0.1, 0.0], [0.05, -0.1]]]]),
        log_scales=jnp.full((1, 1, 3, 2), -3.0),
        slopes=jnp.array([[[[0.5, -0.4], [0.2, 0.1], [-0.3, 0.6]]]]),
    )
    many = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num, *leaf.shape)), one)
    x = np.asarray(sample(many, keys.per_example(keys.root_key(0), jnp.arange(num))))
    np.testing.assert_allclose(x * 255, np.round(x * 255), atol=1e-9)
    # Channel 0 has no channel before it, so its levels' probabilities are these; 8 levels to a bin.
    expected = np.exp(log_prob_of_levels(one, 0, (0, 0, 0))).reshape(32, 8).sum(1)
    counts = np.bincount(np.round(x[:, 0, 0, 0] * 255).astype(int) // 8, minlength=32)
    assert (np.abs(counts - num * expected) < 5 * np.sqrt(num * expected) + 1).all()
    assert (np.abs(x.mean(0) - one.mean()) < 5 * x.std(0) / np.sqrt(num)).all()
    # E p'(x) / p(x) is 1 for any p' if x is drawn from p: this joins the draws of all three channels to log_prob.
    other = many._replace(means=many.means + jnp.full((1, 1, 1, 1, 1), 0.02))
    ratio = np.exp(log_prob(other, x) - log_prob(many, x))
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / np.sqrt(num)


def test_logistic_mixture_sample_depends_on_an_images_own_key(x64):
    likelihood = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf, leaf]), mixture())
    image_keys = keys.per_example(keys.root_key(0), jnp.arange(3))
    last = jax.tree.map(lambda leaf: leaf[2:], likelihood)
    np.testing.assert_array_equal(sample(last, image_keys[2:]), sample(likelihood, image_keys)[2:])
