"""Restoration against closed forms: a VAE with a linear decoder and Gaussian pixels has Gaussian posteriors."""

import dataclasses
import math

import jax
import numpy as np
import pytest
from PIL import Image

from genjax import keys, parallel
from genjax.data import sources
from genjax.loading import load_sampler
from genjax.vae import restoration
from genjax.vae.inference import Effort
from genjax.vae.restoration import downsample, inpaint, super_resolve
from tiny import cheaply_compiled, tiny_run

SIDE, LATENTS, SIGMA = 4, 3, 0.05
LEFT = np.arange(SIDE * SIDE).reshape(SIDE, SIDE) % SIDE < 2  # missing
LONG = Effort(steps_per_draw=3, proposals=16000, leapfrogs=6, ascent_steps=300, warmup=100)


def linear_vae(encoder_scale=1.0):
    """A VAE with x = 0.5 + W z + SIGMA noise, W's columns orthogonal, so that q(z|x) can be exact.

    Its standard deviations are those of the posterior times `encoder_scale`. Two rectifiers make each linear map.
    """
    rng = np.random.default_rng(0)
    w = np.linalg.qr(rng.normal(size=(SIDE * SIDE, LATENTS)))[0] * [0.15, 0.2, 0.25]
    variance = 1 / (1 + (w**2).sum(axis=0) / SIGMA**2)
    to_mean = w * variance / SIGMA**2  # times x - 0.5, of which the encoder sees twice as much
    log_sigma = 0.5 * np.log(variance) + math.log(encoder_scale)
    both = lambda x: np.concatenate([x, -x], axis=1)  # noqa: E731
    ends = np.concatenate([np.eye(LATENTS), -np.eye(LATENTS)])
    params = {
        "encoder": {
            "Dense_0": {"kernel": both(to_mean / 2), "bias": np.zeros(2 * LATENTS)},
            "Dense_1": {
                "kernel": np.concatenate([ends, np.zeros_like(ends)], axis=1),
                "bias": np.concatenate([np.zeros(LATENTS), 6 * np.arctanh(log_sigma / 6)]),
            },
        },
        "decoder": {
            "Dense_0": {"kernel": both(np.eye(LATENTS)), "bias": np.zeros(2 * LATENTS)},
            "Dense_1": {"kernel": np.concatenate([w.T, -w.T]), "bias": np.full(SIDE * SIDE, 0.5)},
        },
    }
    run = tiny_run(
        "unused", data={"image_size": (SIDE, SIDE), "binarize": "none"},
        vae={"hidden": (2 * LATENTS,), "latent_dim": LATENTS, "activation": "relu", "likelihood": "gaussian",
             "sigma": SIGMA},
    )  # fmt: skip
    image = 0.5 + w @ rng.normal(size=LATENTS) + SIGMA * rng.normal(size=SIDE * SIDE)
    return run, jax.tree.map(np.float32, params), w, image.reshape(1, SIDE, SIDE, 1)


def posterior(w, measure, image):
    """Mean [L] and covariance of z given y = measure @ x."""
    y = measure @ (image.ravel() - 0.5)
    precision = np.linalg.inv(SIGMA**2 * measure @ measure.T)
    covariance = np.linalg.inv(np.eye(LATENTS) + w.T @ measure.T @ precision @ measure @ w)
    return covariance @ w.T @ measure.T @ precision @ y, covariance


def many(verb, num=128, draws=1024, **options):
    """Moments of E[x|z] over draws of z for as many copies of one image: [L], [L, L]."""
    with cheaply_compiled():
        restored = verb(num_samples=draws, effort=LONG, **options)
    assert restored.images.shape == (num, draws, SIDE, SIDE, 1)
    rows = restored.images.reshape(num * draws, -1).astype(np.float64)
    return rows.mean(axis=0), np.cov(rows.T)


def relative(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def inpainted(method, encoder_scale=1.0):
    """Errors, relative, of mean (from the image's average) and covariance of the missing pixels."""
    run, params, w, image = linear_vae(encoder_scale)
    mean, covariance = many(
        lambda **options: inpaint(run, params, keys.root_key(0), np.repeat(image, 128, axis=0), LEFT, method, **options)
    )
    missing = LEFT.ravel()
    z_mean, z_covariance = posterior(w, np.eye(SIDE * SIDE)[~missing], image)
    expected = w[missing] @ z_covariance @ w[missing].T
    return (
        relative(mean[missing] - 0.5, w[missing] @ z_mean),
        relative(covariance[np.ix_(missing, missing)], expected),
        np.abs(mean[~missing] - image.ravel()[~missing]).max(),
    )


@pytest.mark.parametrize("method", ["metropolis", "importance", "hamiltonian"])
def test_the_posterior_of_missing_pixels_is_the_closed_form_though_the_encoder_is_wrong(method):
    mean, covariance, observed = inpainted(method, encoder_scale=1.5)
    assert mean < 0.02 and covariance < 0.02 and observed < 1e-6


def test_pseudo_gibbs_is_right_if_the_encoder_is_and_biased_if_not():
    mean, covariance, _ = inpainted("pseudo_gibbs")
    assert mean < 0.02 and covariance < 0.02
    mean, covariance, _ = inpainted("pseudo_gibbs", encoder_scale=1.5)
    assert covariance > 0.2


def test_the_mode_is_the_closed_form():
    run, params, w, image = linear_vae()
    found = inpaint(run, params, keys.root_key(0), image, LEFT, "map", num_samples=2, effort=LONG)
    z_mean, _ = posterior(w, np.eye(SIDE * SIDE)[~LEFT.ravel()], image)
    np.testing.assert_allclose(found.images[0, 0][LEFT].ravel() - 0.5, w[LEFT.ravel()] @ z_mean, atol=2e-4)
    np.testing.assert_array_equal(found.images[0, 0], found.images[0, 1])


@pytest.mark.parametrize("method", ["metropolis", "hamiltonian"])
def test_the_posterior_of_an_enlarged_image_is_the_closed_form(method):
    run, params, w, image = linear_vae()
    low = downsample(image, 2, "bicubic")
    mean, covariance = many(
        lambda **options: super_resolve(
            run, params, keys.root_key(0), np.repeat(low, 128, axis=0), 2, "bicubic", method, **options
        )
    )
    side = restoration.downsampling(SIDE, 2, "bicubic")
    measure = np.kron(side, side)
    z_mean, z_covariance = posterior(w, measure, image)
    free = np.eye(SIDE * SIDE) - np.linalg.pinv(measure) @ measure
    expected = np.linalg.pinv(measure) @ low.ravel() + free @ (0.5 + w @ z_mean)
    assert relative(mean - 0.5, expected - 0.5) < 0.02
    assert relative(covariance, free @ w @ z_covariance @ w.T @ free) < 0.02


# What holds for any VAE, on the tiny one that is trained on 8x8 digits.

QUICK = Effort(chains=3, warmup=3, steps_per_draw=1, leapfrogs=2, proposals=10, restarts=2, ascent_steps=3)
METHODS = ["pseudo_gibbs", "metropolis", "importance", "map", "hamiltonian"]


@pytest.fixture(scope="module")
def sampler(trained):
    return load_sampler(trained.workdir)


@pytest.fixture(scope="module")
def digits(trained):
    return sources.load(trained.data, trained.seed).test[0][:70]


@pytest.mark.parametrize("method", ["metropolis", "importance", "hamiltonian"])
def test_observed_pixels_come_back_bit_for_bit_and_an_image_depends_on_nothing_else(sampler, digits, method):
    config, params, key = sampler.config, sampler.params, keys.root_key(3)
    mask = np.random.default_rng(0).uniform(size=(70, 8, 8)) < 0.5
    whole = inpaint(config, params, key, digits, mask, method, 7, QUICK)
    assert whole.method == method and whole.health.shape == (70,)
    np.testing.assert_array_equal(
        np.rint(whole.images * 255)[~np.repeat(mask[:, None, ..., None], 7, axis=1)],
        np.repeat(digits[:, None], 7, axis=1)[~np.repeat(mask[:, None, ..., None], 7, axis=1)],
    )
    hidden = np.where(mask[..., None], 0, digits)  # what is missing is not looked at
    some = slice(60, 70)
    one_device = parallel.make_mesh(jax.devices()[:1])
    part = inpaint(
        config, params, key, hidden[some], mask[some], method, 4, QUICK, position=np.arange(60, 70), mesh=one_device
    )
    np.testing.assert_array_equal(part.images, whole.images[some, :4])
    assert np.std(whole.images, axis=1).max() > 0.01


@pytest.mark.parametrize("factor, kernel", [(2, "box"), (2, "bicubic"), (4, "box"), (4, "bicubic"), (8, "bicubic")])
def test_scaled_down_again_an_enlarged_image_is_the_given_one_to_within_half_a_grey_level(
    sampler, digits, factor, kernel
):
    low = np.clip(downsample(digits / 255, factor, kernel), 0, 1)
    found = super_resolve(
        sampler.config, sampler.params, keys.root_key(0), low, factor, kernel, "importance", 2, QUICK
    ).images
    assert found.min() >= 0 and found.max() <= 1
    for sample in (0, 1):
        assert np.abs(downsample(found[:, sample], factor, kernel) - low).max() * 255 < 0.5


@pytest.mark.parametrize("kernel", ["box", "bicubic"])
def test_scaling_down_is_pillows(kernel):
    image = np.random.default_rng(0).uniform(size=(24, 32)).astype(np.float32)
    for factor in (2, 4, 8):
        resample = Image.Resampling[kernel.upper()]
        expected = Image.fromarray(image).resize((32 // factor, 24 // factor), resample)
        np.testing.assert_allclose(downsample(image[..., None], factor, kernel)[..., 0], expected, atol=1e-6)


def test_auto_says_what_it_chose(sampler, digits):
    run, params, key = sampler.config, sampler.params, keys.root_key(0)
    mask = np.zeros((8, 8), bool)
    mask[2:5] = True
    auto = inpaint(run, params, key, digits[:2], mask, num_samples=2, effort=QUICK)
    named = inpaint(run, params, key, digits[:2], mask, auto.method, num_samples=2, effort=QUICK)
    assert auto.method in METHODS
    np.testing.assert_array_equal(auto.images, named.images)


def test_what_cannot_be_restored_is_refused_with_the_numbers(sampler, digits):
    run, params, key = sampler.config, sampler.params, keys.root_key(0)
    some = np.zeros((8, 8), bool)
    some[0] = True
    for images, mask, said in [
        (digits, some[:4], r"a mask of bools \[8, 8\] or \[70, 8, 8\], .* got bool \[4, 8\]"),
        (digits, some.astype(np.uint8), "got uint8"),
        (digits, np.zeros((8, 8), bool), "nothing of image 0 is missing"),
        (digits, np.ones((8, 8), bool), "nothing of image 0 is observed: for new images, sample from the prior"),
        (digits[:, :4], some, r"expected images \[n, 8, 8, 1\] .*, got \[70, 4, 8, 1\]"),
        (digits.astype(np.float32), some, r"expected floats in \[0, 1\], got 0.0 to 255.0"),
        (digits.astype(np.int32), some, "expected uint8 images or floats"),
    ]:
        with pytest.raises(ValueError, match=said):
            inpaint(run, params, key, images, mask)
    with pytest.raises(
        ValueError, match="factor 3 cannot lead .* 8x8 images; it enlarges: 4x4 by factor 2, 2x2 by fac"
    ):
        super_resolve(run, params, key, digits[:, :2, :2], 3)
    with pytest.raises(ValueError, match=r"expected images \[n, 4, 4, 1\] .*factor 2.*, got \[70, 2, 2, 1\]"):
        super_resolve(run, params, key, digits[:, :2, :2], 2)
    with pytest.raises(ValueError, match="metropolis cannot draw binary pixels"):
        super_resolve(run, params, key, digits[:, :4, :4], 2, method="metropolis")
    with pytest.raises(ValueError, match="num_samples must be at least 1, got 0"):
        inpaint(run, params, key, digits, some, num_samples=0)
    with pytest.raises(ValueError, match="num_samples must be at least 1, got -2"):
        super_resolve(run, params, key, digits[:, :4, :4], 2, num_samples=-2)
    for field in dataclasses.fields(Effort):
        with pytest.raises(ValueError, match=f"{field.name} must be positive, got -1"):
            Effort(**{field.name: -1})
