"""Sampling from a trained VAE: pure functions of a model, its parameters and rows of examples.

Each row depends only on its own inputs and key, so a call for 64 images gives the first 64 of a call for 128.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys
from genjax.data import augment, image_arrays
from genjax.data.config import DataConfig
from genjax.optim import Params
from genjax.vae.mixture import Mixture
from genjax.vae.model import Model, Posterior, draw_noise


class Encodings(NamedTuple):
    """One draw of e from q(e|x) for each image."""

    e: Any
    """[n, d]."""
    log_prob: Any
    """[n], log q(e|x) + (d / 2) log 2 pi, in nats."""
    kl_per_dimension: Any
    """[n, d], KL(q(e|x) || N(0, I)) of each dimension, in nats; its mean over draws with several groups of latents."""


def prior(model: Model, params: Params, key: Array, temperature: Array | float, position: Array) -> Array:
    """Draws images E[x|z] of the prior, e ~ N(0, temperature^2), at `position` [n]: [n, h, w, c], about [0, 1].

    `temperature` is one number, or [1, d].
    """
    return decode(model, params, temperature * draw_noise(model, key, position))


def from_mixture(
    model: Model, params: Params, key: Array, temperature: Array | float, mixture: Mixture, position: Array
) -> Array:
    """Draws images E[x|z] with e from `mixture` at `position` [n]: [n, h, w, c], about [0, 1].

    `temperature`, one number or [1, d], scales the noise within a component.
    """
    component_key, noise_key = jax.random.split(key)
    uniform = keys.uniform(keys.per_example(component_key, position), (1,))[:, 0]
    return decode(model, params, mixture.sample(uniform, temperature * draw_noise(model, noise_key, position)))


def reconstruct(model: Model, data: DataConfig, params: Params, key: Array, position: Array, images: Array) -> Array:
    """Draws E[x|z] with z ~ q(z|x) of uint8 images [n, h, w, c], binarised or dequantised as in training."""
    image_key, latent_key = jax.random.split(key)
    x = augment.evaluation_images(data, keys.per_example(image_key, position), images)
    latents = model.infer(params, x, draw_noise(model, latent_key, position))
    return model.decode(params, latents.groups).mean()


def encode(model: Model, params: Params, images: Array) -> Posterior:
    """Returns q(e|x) of uint8 images [n, h, w, c], without binarisation or dequantisation."""
    return model.encode(params, image_arrays.to_unit(images))


def draw_encodings(
    model: Model, data: DataConfig, params: Params, key: Array, position: Array, images: Array
) -> Encodings:
    """Draws e from q(e|x) of uint8 images [n, h, w, c], augmented as in training."""
    image_key, latent_key = jax.random.split(key)
    x = augment.training_images(data, keys.per_example(image_key, position), images)
    noise = draw_noise(model, latent_key, position)
    latents = model.infer(params, x, noise)
    e = latents.posterior.sample(noise)
    return Encodings(e, latents.posterior.log_prob(e), latents.kl_per_dimension)


def decode(model: Model, params: Params, e: Array) -> Array:
    """Returns the images E[x|z] of noise e [n, d]."""
    return model.decode(params, model.generate(params, e)).mean()


def interpolate(model: Model, params: Params, starts: Array, ends: Array, fraction: Array) -> Array:
    """Returns images between the posterior means of uint8 images [n, h, w, c], `fraction` [n] of the way."""
    # A line in e, where the prior is N(0, I) for any number of groups.
    start, end = (encode(model, params, images).mean for images in (starts, ends))
    return decode(model, params, start + fraction[:, None] * (end - start))


def traverse(model: Model, params: Params, images: Array, dimension: Array, value: Array) -> Array:
    """Decodes the posterior means of uint8 images [n, h, w, c], with e[dimension[i]] = value[i] in row i."""
    e = encode(model, params, images).mean
    return decode(model, params, e.at[jnp.arange(len(e)), dimension].set(value))
