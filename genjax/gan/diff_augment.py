"""What a discriminator is shown in place of an image, so that it cannot learn a small set of images by heart.

DiffAugment (Zhao et al. 2020) changes real and translated images alike, in the generator's step too, so a translation
has nothing to gain from looking augmented; and it is differentiable, so the generator still learns from every pixel
that is shown. Images are [b, h, w, c] in [-1, 1], and may leave that range here; nothing is 0, mid-grey.
"""

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys

TRANSLATION, CUTOUT = 1 / 8, 1 / 2
"""Largest shift and side of the hole at strength 1, as shares of height and width: those of the paper."""


def augment(example_keys: Array, images: Array, strength: float) -> Array:
    """Colour, translation and cutout of each image, by its own of `example_keys` [b]; `strength` 1 is the paper's.

    At 0 the images themselves; between, colours vary less, shifts and holes are smaller. An image's result depends on
    its own key alone: what is drawn to the bit, pixels up to how its mean level is rounded.
    """
    if strength == 0:
        return images
    draws = jax.vmap(lambda key: jax.random.uniform(key, (7,), images.dtype))(example_keys)
    images = colour(draws[:, :3], images, strength)
    images = translate(draws[:, 3:5], images, strength)
    return cut_out(draws[:, 5:], images, strength)


def colour(draws: Array, images: Array, strength: float) -> Array:
    """Brightness, saturation and contrast, from `draws` [b, 3] in [0, 1).

    Adds up to strength / 2 to all pixels, scales their distance from their own mean over channels by 1 +- strength, and
    that from the image's mean level by 1 +- strength / 2. Grey images have no saturation.
    """
    brightness, saturation, contrast = ((2 * draws[:, i] - 1).reshape(-1, 1, 1, 1) for i in range(3))
    images = images + strength / 2 * brightness
    if images.shape[-1] > 1:
        grey = jnp.mean(images, axis=3, keepdims=True)
        images = grey + (1 + strength * saturation) * (images - grey)
    level = jnp.mean(images, axis=(1, 2, 3), keepdims=True)
    return level + (1 + strength / 2 * contrast) * (images - level)


def translate(draws: Array, images: Array, strength: float) -> Array:
    """Moves images down and right by whole pixels, up to strength / 8 of their size either way, from `draws` [b, 2].

    Every shift is as probable as any other. What moves in is 0.
    """
    for axis in (1, 2):
        most = _round(strength * TRANSLATION * images.shape[axis])
        by = jnp.floor(draws[:, axis - 1] * (2 * most + 1)).astype(jnp.int32) - most
        images = _moved(images, axis, by, most)
    return images


def cut_out(draws: Array, images: Array, strength: float) -> Array:
    """Sets a rectangle to 0, its sides strength / 2 of the image's, from `draws` [b, 2].

    Its centre is anywhere in the image with equal probability, so that it may lie partly outside.
    """
    hole = jnp.ones((len(images), 1, 1, 1), bool)
    for axis in (1, 2):
        size = images.shape[axis]
        side = _round(strength * CUTOUT * size)
        places = size + 1 - side % 2
        first = jnp.floor(draws[:, axis - 1] * places).astype(jnp.int32) - side // 2
        along = jnp.arange(size).reshape(1, *(size if i == axis else 1 for i in (1, 2)), 1)
        first = first.reshape(-1, 1, 1, 1)
        hole = hole & (along >= first) & (along < first + side)
    return jnp.where(hole, 0, images)


def add_noise(example_keys: Array, images: Array, sigma: Array) -> Array:
    """Images with Gaussian noise of standard deviation `sigma`, a scalar (instance noise: Sonderby et al. 2017;
    Arjovsky and Bottou 2017): it makes the two distributions overlap that a discriminator tells apart. A classifier
    that sees it cannot be pleased by what no other classifier would notice."""
    noise = keys.normal(example_keys, images[0].size).reshape(images.shape)
    return images + sigma.astype(images.dtype) * noise.astype(images.dtype)


def _moved(images: Array, axis: int, by: Array, most: int) -> Array:
    """Images moved along an axis by `by` [b] pixels, in -most..most.

    Bit by bit of the distance: a gather would have a scatter for its gradient, whose sums a GPU takes in any order.
    """
    ahead = (most - by).reshape(-1, 1, 1, 1)
    moved = jnp.pad(images, [(most, most) if i == axis else (0, 0) for i in range(images.ndim)])
    for bit in range((2 * most).bit_length()):
        # What is rolled over the end comes no further than the part that is cut off.
        moved = jnp.where((ahead & 1 << bit) > 0, jnp.roll(moved, -(1 << bit), axis), moved)
    return jax.lax.slice_in_dim(moved, 0, images.shape[axis], axis=axis)


def _round(x: float) -> int:
    return int(x + 0.5)
