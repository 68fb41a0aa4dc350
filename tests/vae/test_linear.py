"""Linear operators with noise against closed forms: with Gaussian pixels, and with binary ones by counting."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats

from genjax import keys
from genjax.vae import linear
from genjax.vae.distributions import Bernoulli, Gaussian
from genjax.vae.inference import InferenceConfig
from linear_vae import LATENTS, SIDE, SIGMA, linear_vae, posterior_given, relative

SHAPE, KEY = (SIDE, SIDE, 3), keys.root_key(0)
SIZE = SIDE * SIDE * 3
OPERATORS = {
    "noise": linear.noise(0.1),
    "blur": linear.blur(SHAPE, 0.8, 0.02),
    "gray": linear.gray(SHAPE, 0.01),
    "measurements": linear.measurements(linear.random_matrix(KEY, 7, SHAPE), 0.05),
}
SIGMAS = {"noise": 0.1, "blur": 0.02, "gray": 0.01, "measurements": 0.05}
each_operator = pytest.mark.parametrize("name", OPERATORS)
sums = pytest.mark.parametrize("name", ["blur", "gray", "measurements"])


def matrix(name):
    """The matrix [m, SIZE] of an operator, from the images of each unit vector."""
    return OPERATORS[name].apply(np.eye(SIZE).reshape(SIZE, *SHAPE)).reshape(SIZE, -1).T


def given(name, y):
    """The operator and y with the axes of `log_prob`, for one image."""
    operator, y = OPERATORS[name].check(y[None], SHAPE)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[:, None].astype(float), (operator, y))


def drawn(num=5, seed=0):
    """Means of Gaussian pixels [1, num, h, w, c], and images near the first of them."""
    rng = np.random.default_rng(seed)
    means = rng.uniform(size=(1, num, *SHAPE))
    return means, means[0, 0] + SIGMA * rng.normal(size=SHAPE)


def observed(name, image, seed=1):
    y = OPERATORS[name].apply(image[None])[0]
    return y + SIGMAS[name] * np.random.default_rng(seed).normal(size=y.shape)


@each_operator
def test_log_prob_is_exact_for_gaussian_pixels(name, x64):
    means, image = drawn()
    y, a = observed(name, image), matrix(name)
    operator, seen = given(name, y)
    found = operator.log_prob(Gaussian(jnp.asarray(means), jnp.log(SIGMA)), seen)[0]
    covariance = SIGMA**2 * a @ a.T + SIGMAS[name] ** 2 * np.eye(len(a))
    expected = [scipy.stats.multivariate_normal(a @ mean.ravel(), covariance).logpdf(y.ravel()) for mean in means[0]]
    np.testing.assert_allclose(found - found[0], np.array(expected) - expected[0], rtol=1e-4)  # y is a float32


@pytest.mark.slow
@each_operator
def test_project_and_sample_are_those_of_gaussian_pixels(name, x64):
    means, image = drawn(1)
    y, a = observed(name, image), matrix(name)
    operator, seen = given(name, y)
    gain = SIGMA**2 * a.T @ np.linalg.inv(SIGMA**2 * a @ a.T + SIGMAS[name] ** 2 * np.eye(len(a)))
    mean = means.ravel() + gain @ (y.ravel() - a @ means.ravel())
    likelihood = Gaussian(jnp.asarray(means), jnp.log(SIGMA))
    found = operator.project(likelihood, seen)
    np.testing.assert_allclose(found.ravel(), mean.clip(0, 1), atol=1e-5)
    num = 4000
    many = Gaussian(jnp.broadcast_to(likelihood.location, (1, num, *SHAPE)), likelihood.log_sigma)
    draws = operator.sample(many, seen, keys.per_example(KEY, jnp.arange(num))[None])[0].reshape(num, SIZE)
    covariance = SIGMA**2 * (np.eye(SIZE) - gain @ a)
    np.testing.assert_allclose(draws.mean(axis=0), mean, atol=5 * SIGMA / num**0.5)
    assert relative(np.cov(draws.T), covariance) < 0.12


def test_noise_counts_both_values_of_binary_pixels(x64):
    rng, sigma = np.random.default_rng(0), 0.3
    logits, y = rng.normal(size=(1, 3, 1, 3, 1)), rng.normal(0.5, 0.7, size=(1, 1, 1, 3, 1))
    operator, _ = linear.noise(sigma).check(y[0], (1, 3, 1))
    operator = jax.tree.map(lambda leaf: jnp.asarray(leaf)[:, None].astype(float), operator)
    found = operator.log_prob(Bernoulli(jnp.asarray(logits)), jnp.asarray(y))[0]
    p, x = 1 / (1 + np.exp(-logits[0, :, 0, :, 0])), np.array(list(itertools.product((0, 1), repeat=3)))
    weight = np.prod(np.where(x, p[:, None], 1 - p[:, None]), axis=2) * np.prod(
        scipy.stats.norm(x, sigma).pdf(y.ravel()), axis=1
    )  # [z, x]
    expected = np.log(weight.sum(axis=1))
    np.testing.assert_allclose(found - found[0], expected - expected[0], rtol=1e-5)
    num = 4000
    many = Bernoulli(jnp.broadcast_to(jnp.asarray(logits)[:, :1], (1, num, 1, 3, 1)))
    draws = operator.sample(many, jnp.asarray(y), keys.per_example(KEY, jnp.arange(num))[None])
    expected = weight[0] @ x / weight[0].sum()
    np.testing.assert_allclose(draws[0].mean(axis=0).ravel(), expected, atol=0.03)


@sums
def test_sample_refuses_sums_of_binary_pixels(name):
    operator, y = given(name, observed(name, drawn()[1]))
    with pytest.raises(ValueError, match="Gibbs sampling cannot impute binary pixels for y = A x .* importance, map"):
        operator.sample(Bernoulli(jnp.zeros((1, 1, *SHAPE))), y, keys.per_example(KEY, jnp.arange(1))[None])


@sums
def test_log_prob_of_binary_pixels_has_their_mean_and_variance(name, x64):
    """As one pixel's variance for all of them is exact: logits that are all alike."""
    rng = np.random.default_rng(0)
    logit = np.array([-1.0, 0.3, 2.0])
    operator, y = given(name, observed(name, rng.uniform(size=SHAPE)))
    p = 1 / (1 + np.exp(-logit))
    found = operator.log_prob(Bernoulli(jnp.broadcast_to(logit.reshape(1, 3, 1, 1, 1), (1, 3, *SHAPE))), y)
    for i in range(3):
        alike = Gaussian(jnp.full((1, 1, *SHAPE), p[i]), 0.5 * jnp.log(p[i] * (1 - p[i])))
        np.testing.assert_allclose(operator.log_prob(alike, y)[0, 0], found[0, i], rtol=1e-6)


def test_apply_is_scipys_blur_pillows_grey_and_the_matrix():
    image = np.random.default_rng(0).uniform(size=(2, *SHAPE))
    blurred = scipy.ndimage.gaussian_filter(image, (0, 0.8, 0.8, 0))
    np.testing.assert_allclose(OPERATORS["blur"].apply(image), blurred, atol=1e-12)
    np.testing.assert_allclose(OPERATORS["gray"].apply(image)[..., 0], image @ [0.299, 0.587, 0.114], atol=1e-12)
    rows = linear.random_matrix(KEY, 7, SHAPE)
    measured = linear.measurements(rows, 0.05).apply(image)
    np.testing.assert_allclose(measured, image.reshape(2, -1) @ rows.T, atol=1e-12)
    np.testing.assert_array_equal(OPERATORS["noise"].apply(image), image)


def test_random_matrix_keeps_lengths_on_average():
    rows = linear.random_matrix(KEY, 400, SHAPE)
    assert rows.shape == (400, SIZE) and (rows**2).sum() == pytest.approx(SIZE, rel=0.05)


@each_operator
def test_observe_adds_noise_of_each_position(name):
    images = np.broadcast_to(drawn()[1].clip(0, 1), (300, *SHAPE))
    operator = OPERATORS[name]
    y = operator.observe(images, KEY, np.arange(300))
    error = y - operator.apply(images)
    assert error.std() == pytest.approx(SIGMAS[name], rel=0.06) and abs(error.mean()) < 0.1 * SIGMAS[name]
    np.testing.assert_array_equal(operator.observe(images[:3], KEY, np.arange(7, 10)), y[7:10])


def test_linear_refuses_what_does_not_fit():
    images = np.zeros((2, *SHAPE))
    for operator, y, said in [
        (OPERATORS["noise"], images[:, :2], r"expected observations \[n, 4, 4, 3\], got \[2, 2, 4, 3\]"),
        (OPERATORS["gray"], images, r"expected observations \[n, 4, 4, 1\], got \[2, 4, 4, 3\]"),
        (OPERATORS["measurements"], images, r"expected observations \[n, 7\], got \[2, 4, 4, 3\]"),
        (linear.blur((8, 8, 3), 1, 0.1), images, "this operator is for 8 .* VAE's images have 4"),
        (linear.measurements(np.ones((2, 5)), 0.1), np.zeros((2, 2)), "for 5 where the VAE's images have 48"),
        (OPERATORS["noise"], images + np.nan, "expected finite observations"),
        (OPERATORS["noise"], images.astype(int), "expected uint8 or uint16"),
    ]:
        with pytest.raises(ValueError, match=said):
            operator.check(y, SHAPE)
    for make, said in [
        (lambda: linear.noise(0.0), "the sigma of the noise must be positive, got 0.0"),
        (lambda: linear.blur(SHAPE, 0.0, 0.1), "the width of a blur must be positive, got 0.0"),
        (lambda: linear.gray((4, 4, 1), 0.1), "colour has 3 channels, and this VAE was trained on images with 1"),
        (lambda: linear.random_matrix(KEY, 0, SHAPE), "number of measurements must be at least 1, got 0"),
        (lambda: linear.measurements(np.ones(5), 0.1), r"the matrix must be \[m, h \* w \* c\], got \[5\]"),
    ]:
        with pytest.raises(ValueError, match=said):
            make()


LONG = InferenceConfig(
    thinning=3, num_proposals=8000, num_integration_steps=6, num_ascent_steps=200, num_warmup=60, num_particles=32
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, method",
    # Each operator and each method: a method sees of an operator what the tests above hold to closed forms.
    [("noise", "importance"), ("blur", "metropolis"), ("gray", "hmc"), ("measurements", "hmc")],
)
def test_restore_draws_exact_posterior(name, method):
    sampler, w, image = linear_vae(encoder_scale=1.2, channels=3)
    y = observed(name, image[0])
    copies = np.repeat(y[None], 32, axis=0)
    e = sampler.restore(OPERATORS[name], copies, KEY, method, 320, LONG).e
    mean, covariance = posterior_given(w, matrix(name), y.ravel(), SIGMAS[name])
    draws = e.reshape(-1, LATENTS).astype(np.float64)
    assert np.abs(draws.mean(axis=0) - mean).max() < 0.05 * np.sqrt(np.diag(covariance)).max()
    assert relative(np.cov(draws.T), covariance) < 0.08  # draws of one chain depend on each other
