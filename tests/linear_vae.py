"""A VAE with a linear decoder and Gaussian pixels, for `Sampler`: its posterior given any linear y is Gaussian."""

import math

import jax
import numpy as np

from genjax import parallel
from genjax.loading import Sampler
from genjax.vae.model import from_config
from tiny import tiny_run

SIDE, LATENTS, SIGMA = 4, 3, 0.05


def linear_vae(encoder_scale=1.0, channels=1):
    """A VAE with x = 0.5 + W z + SIGMA noise, W's columns orthogonal, so that q(z|x) can be exact.

    Its standard deviations are those of the posterior times `encoder_scale`. Two rectifiers make each linear map.
    """
    rng, size = np.random.default_rng(0), SIDE * SIDE * channels
    w = np.linalg.qr(rng.normal(size=(size, LATENTS)))[0] * [0.15, 0.2, 0.25]
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
            "Dense_1": {"kernel": np.concatenate([w.T, -w.T]), "bias": np.full(size, 0.5)},
        },
    }
    run = tiny_run(
        "unused", data={"image_size": (SIDE, SIDE), "channels": (channels,), "binarize": "none"},
        vae={"hidden_sizes": (2 * LATENTS,), "latent_dim": LATENTS, "activation": "relu", "likelihood": "gaussian",
             "sigma": SIGMA},
    )  # fmt: skip
    image = 0.5 + w @ rng.normal(size=LATENTS) + SIGMA * rng.normal(size=size)
    sampler = Sampler(run, from_config(run), jax.tree.map(np.float32, params), 0, parallel.make_mesh())
    return sampler, w, image.reshape(1, SIDE, SIDE, channels)


def posterior(w, measure, image):
    """Mean [L] and covariance of z given y = measure @ x."""
    return posterior_given(w, measure, measure @ image.ravel(), 0.0)


def posterior_given(w, measure, y, sigma):
    """Mean [L] and covariance of z given y = measure @ x + sigma * noise."""
    y = y - measure @ np.full(len(w), 0.5)
    precision = np.linalg.inv(SIGMA**2 * measure @ measure.T + sigma**2 * np.eye(len(y)))
    covariance = np.linalg.inv(np.eye(LATENTS) + w.T @ measure.T @ precision @ measure @ w)
    return covariance @ w.T @ measure.T @ precision @ y, covariance


def relative(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)
