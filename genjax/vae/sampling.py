"""Images from a trained VAE: pure functions of (config, params, ...), one example a row.

Each row depends on its own inputs and key alone, so a call for 64 images gives the first 64 of a call for 128.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys
from genjax.data import augment, image_arrays
from genjax.vae import losses, nets
from genjax.vae.config import VaeRun


def prior(config: VaeRun, params: Any, key: Array, position: Array, temperature: Array | float) -> Array:
    """E[x|z] for z ~ N(0, temperature^2), row i from `key` and `position` [n] (int32): [n, h, w, c], about [0, 1]."""
    noise = keys.normal(keys.per_example(key, position), config.vae.latent_dim)
    return losses.mean_image(config.vae, nets.decode(config, params, temperature * noise))


def reconstruct(config: VaeRun, params: Any, key: Array, position: Array, images: Array) -> Array:
    """E[x|z] for z ~ q(z|x) of uint8 images [n, h, w, c], binarised at random or dequantised as in training."""
    image_key, latent_key = jax.random.split(key)
    x = augment.evaluation_images(config.data, keys.per_example(image_key, position), images)
    noise = keys.normal(keys.per_example(latent_key, position), config.vae.latent_dim)
    z = losses.sample_posterior(nets.encode(config, params, x), noise)
    return losses.mean_image(config.vae, nets.decode(config, params, z))


def interpolate(config: VaeRun, params: Any, starts: Array, ends: Array, fraction: Array) -> Array:
    """E[x|z] on the line between the posterior means of uint8 images `starts` and `ends`, both [n, h, w, c].

    `fraction` [n] is 0 at the start and 1 at the end.
    """
    z_start, z_end = (_latents(config, params, images) for images in (starts, ends))
    z = z_start + fraction[:, None] * (z_end - z_start)
    return losses.mean_image(config.vae, nets.decode(config, params, z))


def traverse(config: VaeRun, params: Any, images: Array, dimension: Array, value: Array) -> Array:
    """E[x|z] for the posterior means of uint8 images [n, h, w, c], with z[dimension[i]] set to value[i] in row i."""
    z = _latents(config, params, images)
    z = z.at[jnp.arange(len(z)), dimension].set(value)
    return losses.mean_image(config.vae, nets.decode(config, params, z))


def _latents(config: VaeRun, params: Any, images: Array) -> Array:
    return nets.encode(config, params, image_arrays.to_unit(images)).mean
