"""Augmentation on the device, with one key for each example: flips, turns, dequantisation, binarisation."""

import jax
import jax.numpy as jnp
from jax import Array

from genjax.data import image_arrays
from genjax.data.config import DataConfig
from genjax.keys import uniform


def training_images(config: DataConfig, keys: Array, images: Array) -> Array:
    """Augments uint8 or uint16 images [b, h, w, c] to floats in [0, 1]; `keys` is [b]."""
    # Each augmentation draws from keys of its own, so switching one on leaves the others' draws as they were.
    split = jax.vmap(jax.random.split)(keys)
    flip_keys, last_keys = split[:, 0], split[:, 1]
    if config.flip:
        images = flip(flip_keys, images)
    if config.turns:
        images = turn(jax.vmap(lambda key: jax.random.fold_in(key, 1))(flip_keys), images)
    return evaluation_images(config, last_keys, images)


def evaluation_images(config: DataConfig, keys: Array, images: Array) -> Array:
    """Maps uint8 or uint16 [b, h, w, c] to floats in [0, 1] as in training, but without augmentation."""
    if config.dequantize:
        return dequantize(keys, images)
    if config.binarize == "stochastic":
        return binarize(keys, images)
    return image_arrays.to_unit(images)  # "fixed" binarisation happened when the source was loaded


def flip(keys: Array, images: Array) -> Array:
    """Mirrors each image [b, h, w, c] left to right with probability 1/2."""
    mirrored = jax.vmap(jax.random.bernoulli)(keys)
    return jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


def turn(keys: Array, images: Array) -> Array:
    """Turns each square image [b, h, h, c] by 0, 90, 180 or 270 degrees, each with probability 1/4."""
    quarters = jax.vmap(lambda key: jax.random.randint(key, (), 0, 4))(keys)[:, None, None, None]
    turned = [jnp.rot90(images, k, axes=(1, 2)) for k in range(4)]
    return jnp.select([quarters == k for k in range(4)], turned)


def dequantize(keys: Array, images: Array) -> Array:
    """Dequantises uint8 x to (x + u) / 256, u uniform in [0, 1) (Uria et al. 2013).

    The divisor of uint16 is 65536.
    """
    return (images + uniform(keys, images.shape[1:])) / (jnp.iinfo(images.dtype).max + 1)


def binarize(keys: Array, images: Array) -> Array:
    """Maps uint8 or uint16 x to 1 with the probability `to_unit(x)`, else to 0 (Salakhutdinov and Murray 2008)."""
    # uniform() lies in [0, 1): level 0 is never drawn as 1, level 255 always.
    draws = uniform(keys, images.shape[1:])
    return (draws < image_arrays.to_unit(images)).astype(draws.dtype)
