"""Restoration against closed forms: a VAE with a linear decoder and Gaussian pixels has Gaussian posteriors."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from genjax import keys, parallel
from genjax.checks import flag
from genjax.data import sources
from genjax.loading import load_sampler
from genjax.vae.inference import InferenceConfig
from genjax.vae.operators import Downsample, Mask, downsampling_matrix, refuse_gibbs
from linear_vae import SIDE, linear_vae, posterior, relative

pytestmark = pytest.mark.slow

LEFT = np.arange(SIDE * SIDE).reshape(SIDE, SIDE) % SIDE < 2  # missing
LONG = InferenceConfig(
    thinning=3, num_proposals=16000, num_integration_steps=6, num_ascent_steps=300, num_warmup=100, num_particles=32
)


def moments(sampler, operator, observed, method, num=64, draws=1024):
    """Moments of E[x|z] over draws of z for as many copies of one image: [L], [L, L]."""
    observed = np.repeat(observed, num, axis=0)
    restored = sampler.restore(operator, observed, keys.root_key(0), method, draws, LONG)
    assert restored.images.shape == (num, draws, SIDE, SIDE, 1)
    rows = restored.images.reshape(num * draws, -1).astype(np.float64)
    return rows.mean(axis=0), np.cov(rows.T)


def inpainting_errors(method, encoder_scale=1.0):
    """Errors, relative, of mean (from the image's average) and covariance of the missing pixels."""
    sampler, w, image = linear_vae(encoder_scale)
    mean, covariance = moments(sampler, Mask(LEFT), image, method)
    missing = LEFT.ravel()
    z_mean, z_covariance = posterior(w, np.eye(SIDE * SIDE)[~missing], image)
    expected = w[missing] @ z_covariance @ w[missing].T
    return (
        relative(mean[missing] - 0.5, w[missing] @ z_mean),
        relative(covariance[np.ix_(missing, missing)], expected),
        np.abs(mean[~missing] - image.ravel()[~missing]).max(),
    )


@pytest.mark.parametrize("method", ["metropolis", "importance", "hmc"])
def test_restore_mask_draws_exact_posterior_despite_wrong_encoder(method):
    mean, covariance, observed = inpainting_errors(method, encoder_scale=1.5)
    assert mean < 0.02 and covariance < 0.02 and observed < 1e-6


def test_pseudo_gibbs_is_as_right_as_the_encoder():
    mean, covariance, _ = inpainting_errors("pseudo_gibbs")
    assert mean < 0.02 and covariance < 0.02
    mean, covariance, _ = inpainting_errors("pseudo_gibbs", encoder_scale=1.5)
    assert covariance > 0.2


@pytest.mark.parametrize("search", ["latents", "images"])
def test_map_finds_the_posterior_mode(search):
    """With the exact encoder of Gaussians, the best image is that of the mode."""
    sampler, w, image = linear_vae()
    settings = dataclasses.replace(LONG, search=search)
    found = sampler.restore(Mask(LEFT), image, keys.root_key(0), "map", 2, settings)
    z_mean, _ = posterior(w, np.eye(SIDE * SIDE)[~LEFT.ravel()], image)
    np.testing.assert_allclose(found.images[0, 0][LEFT].ravel() - 0.5, w[LEFT.ravel()] @ z_mean, atol=2e-4)
    np.testing.assert_array_equal(found.images[0, 0], found.images[0, 1])


@pytest.mark.parametrize("method", ["metropolis", "hmc"])
def test_restore_downsample_draws_exact_posterior(method):
    sampler, w, image = linear_vae()
    operator = Downsample(2, "bicubic")
    small = operator.apply(image)
    mean, covariance = moments(sampler, operator, small, method)
    side = downsampling_matrix(SIDE, 2, "bicubic")
    measure = np.kron(side, side)
    z_mean, z_covariance = posterior(w, measure, image)
    free = np.eye(SIDE * SIDE) - np.linalg.pinv(measure) @ measure
    expected = np.linalg.pinv(measure) @ small.ravel() + free @ (0.5 + w @ z_mean)
    assert relative(mean - 0.5, expected - 0.5) < 0.02
    assert relative(covariance, free @ w @ z_covariance @ w.T @ free) < 0.02


# What holds for any VAE, on the tiny one that is trained on 8x8 digits.

QUICK = InferenceConfig(
    num_chains=3, num_particles=5, num_warmup=3, thinning=1, num_integration_steps=2, num_proposals=10, num_restarts=2,
    num_ascent_steps=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def sampler(trained):
    return load_sampler(trained.workdir)


@pytest.fixture(scope="module")
def digits(trained):
    return sources.load(trained.data, trained.seed).test[0][:70]


@pytest.mark.parametrize("method", ["metropolis", "importance", "hmc"])
def test_restore_keeps_observed_pixels_and_rows_apart(request, trained, sampler, digits, method):
    if method == "importance":  # for the machine code that users run, one method is enough
        request.getfixturevalue("full")
    key, mask = keys.root_key(3), np.random.default_rng(0).uniform(size=(70, 8, 8)) < 0.5
    whole = sampler.restore(Mask(mask), digits, key, method, 7, QUICK)
    assert whole.health.shape == (70,)
    observed = ~np.repeat(mask[:, None, ..., None], 7, axis=1)
    given = np.repeat(digits[:, None], 7, axis=1).astype(np.float32) / 255
    np.testing.assert_array_equal(whole.images[observed], given[observed])
    unseen = np.where(mask[..., None], 0, digits)  # what is missing is not looked at
    some = slice(60, 70)
    one_device = load_sampler(trained.workdir, mesh=parallel.make_mesh(jax.devices()[:1]))
    part = one_device.restore(Mask(mask[some]), unseen[some], key, method, 4, QUICK, np.arange(60, 70))
    np.testing.assert_array_equal(part.images, whole.images[some, :4])
    assert np.std(whole.images, axis=1).max() > 0.01


@pytest.mark.parametrize("factor, kernel", [(2, "bicubic"), (4, "box"), (8, "bicubic")])
def test_restore_downsample_agrees_within_half_a_level(sampler, digits, factor, kernel):
    operator = Downsample(factor, kernel)
    small = np.clip(operator.apply(digits / 255), 0, 1)
    found = sampler.restore(operator, small, keys.root_key(0), "importance", 2, QUICK).images
    assert found.min() >= 0 and found.max() <= 1
    for sample in (0, 1):
        assert np.abs(operator.apply(found[:, sample]) - small).max() * 255 < 0.5


@pytest.mark.parametrize("kernel", ["box", "bicubic"])
def test_downsample_apply_equals_pillow(kernel):
    image = np.random.default_rng(0).uniform(size=(24, 32)).astype(np.float32)
    for factor in (2, 4, 8):
        resample = Image.Resampling[kernel.upper()]
        expected = Image.fromarray(image).resize((32 // factor, 24 // factor), resample)
        np.testing.assert_allclose(Downsample(factor, kernel).apply(image[..., None])[..., 0], expected, atol=1e-6)


# An operator from outside the library.


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class HalfMeans:
    """y is the mean of the left and the right half of an image, pixel by pixel."""

    def check(self, observed, image_shape):
        return self, np.float32(observed)

    def log_prob(self, likelihood, y):
        return -0.5 * jnp.sum((self.mean(likelihood.mean()) - y) ** 2, axis=(2, 3, 4)) / 0.05**2

    def impute(self, images, y):
        return images + jnp.tile(y - self.mean(images), (1, 1, 1, 2, 1))

    def sample(self, likelihood, y, image_keys):
        refuse_gibbs("HalfMeans")

    def project(self, likelihood, y):
        return self.impute(likelihood.mean(), y)

    def mean(self, images):
        left, right = jnp.split(images, 2, axis=3)
        return (left + right) / 2


def test_restore_takes_operators_from_outside(sampler, digits):
    y = (digits[:3, :, :4].astype(np.float32) + digits[:3, :, 4:]) / 510
    found = sampler.restore(HalfMeans(), y, keys.root_key(0), "hmc", 3, QUICK).images
    left, right = np.split(found, 2, axis=3)
    np.testing.assert_allclose((left + right) / 2, np.repeat(y[:, None], 3, axis=1), atol=1e-6)
    with pytest.raises(ValueError, match="Gibbs sampling cannot impute binary pixels for HalfMeans"):
        sampler.restore(HalfMeans(), y, keys.root_key(0), "metropolis", 3, QUICK)


@pytest.mark.parametrize("method", ["map", "hmc"])
def test_restore_refuses_results_that_are_nan(sampler, digits, method):
    broken = dataclasses.replace(sampler, params=jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), sampler.params))
    some = np.eye(8, dtype=bool)
    with pytest.raises(ValueError, match=f"{method} found no finite restoration of image 0 \\(3 of 3 images\\)"):
        broken.restore(Mask(some), digits[:3], keys.root_key(0), method, 2, QUICK)


def test_restore_refuses_what_does_not_fit(sampler, digits):
    key, some = keys.root_key(0), np.zeros((8, 8), bool)
    some[0] = True
    for operator, images, said in [
        (Mask(some[:4]), digits, r"a mask of bools \[8, 8\] or \[70, 8, 8\], .* got bool \[4, 8\]"),
        (Mask(some.astype(np.uint8)), digits, "got uint8"),
        (Mask(np.zeros((8, 8), bool)), digits, "image 0 has no missing pixel"),
        (Mask(np.ones((8, 8), bool)), digits, "image 0 has no observed pixel: for new images, sample the prior"),
        (Mask(some), digits[:, :4], r"expected images \[n, 8, 8, 1\] .*, got \[70, 4, 8, 1\]"),
        (Mask(some), digits.astype(np.float32), r"expected floats in \[0, 1\], got 0.0 to 255.0"),
        (Mask(some), digits.astype(np.int32), "expected uint8 or uint16 images or floats"),
        (Downsample(3), digits[:, :2, :2], "factor 3 cannot lead .* 8x8 images; it enlarges: 4x4 by factor 2, 2x2 by"),
        (Downsample(2), digits[:, :2, :2], r"expected images \[n, 4, 4, 1\] .*factor 2.*, got \[70, 2, 2, 1\]"),
    ]:
        with pytest.raises(ValueError, match=said):
            sampler.restore(operator, images, key)
    with pytest.raises(ValueError, match="Gibbs sampling cannot impute binary pixels for Downsample"):
        sampler.restore(Downsample(2), digits[:, :4, :4], key, "metropolis")
    for num in (0, -2):
        with pytest.raises(ValueError, match=f"num_samples must be at least 1, got {num}"):
            sampler.restore(Mask(some), digits, key, num_samples=num)
    for field in (field for field in dataclasses.fields(InferenceConfig) if field.name != "search"):
        with pytest.raises(ValueError, match=f"{flag('inference', field.name)} must be positive, got -1"):
            InferenceConfig(**{field.name: -1})
