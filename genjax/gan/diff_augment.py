"""DiffAugment (Zhao et al. 2020): augmentation of all images that a discriminator sees.

It keeps a discriminator from memorising a small set. Real and generated images are changed in the same way, also in the
generator's step, so the generator does not learn to make augmented images. All changes are differentiable. Images are
[b, h, w, c] in [-1, 1], and may leave that range here; pixels cut out or moved in are 0, mid-grey.
"""

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys

# Largest shift and side of the hole at strength 1, as shares of height and width (the paper's values).
TRANSLATION, CUTOUT = 1 / 8, 1 / 2


def augment(example_keys: Array, images: Array, strength: float) -> Array:
    """Changes the colour of each image, shifts it and cuts out a hole, by draws from `example_keys` [b].

    `strength` 1 is the paper's; 0 returns the images unchanged; between them all changes are smaller. The draws of an
    image depend only on its key; its pixels may differ by the rounding of its mean level.
    """
    if strength == 0:
        return images
    # ORDER MATTERS: results depend on which of the seven numbers does what.
    draws = jax.vmap(lambda key: jax.random.uniform(key, (7,), images.dtype))(example_keys)
    images = colour(draws[:, :3], images, strength)
    images = translate(draws[:, 3:5], images, strength)
    return cut_out(draws[:, 5:], images, strength)


def colour(draws: Array, images: Array, strength: float) -> Array:
    """Changes brightness, saturation and contrast by `draws` [b, 3] in [0, 1).

    Brightness adds up to +- strength / 2. Saturation scales the distance of a pixel from its mean over channels by
    1 +- strength, contrast the distance from the image's mean level by 1 +- strength / 2.
    """
    brightness, saturation, contrast = ((2 * draws[:, i] - 1).reshape(-1, 1, 1, 1) for i in range(3))
    images = images + strength / 2 * brightness
    if images.shape[-1] > 1:  # grey images have no saturation
        grey = jnp.mean(images, axis=3, keepdims=True)
        images = grey + (1 + strength * saturation) * (images - grey)
    level = jnp.mean(images, axis=(1, 2, 3), keepdims=True)
    return level + (1 + strength / 2 * contrast) * (images - level)


def translate(draws: Array, images: Array, strength: float) -> Array:
    """Shifts images by up to strength / 8 of height and width, by `draws` [b, 2] in [0, 1)."""
    for axis in (1, 2):  # one axis after the other, by a distance drawn for each image
        most = _round(strength * TRANSLATION * images.shape[axis])
        # Whole pixels from -most to most, all equally likely.
        by = jnp.floor(draws[:, axis - 1] * (2 * most + 1)).astype(jnp.int32) - most
        images = _moved(images, axis, by, most)
    return images


def cut_out(draws: Array, images: Array, strength: float) -> Array:
    """Sets a rectangle of strength / 2 of height and width to 0. `draws` [b, 2] in [0, 1) place it."""
    # Its centre is uniform over the image, so it may lie partly outside.
    hole = jnp.ones((len(images), 1, 1, 1), bool)
    for axis in (1, 2):
        size = images.shape[axis]
        side = _round(strength * CUTOUT * size)
        # The centre of an odd side is a pixel of the image, that of an even side lies between two or at the border.
        places = size + 1 - side % 2
        first = jnp.floor(draws[:, axis - 1] * places).astype(jnp.int32) - side // 2
        # Pixel numbers along the axis, and the first one of each image's hole.
        along = jnp.arange(size).reshape(1, *(size if i == axis else 1 for i in (1, 2)), 1)
        first = first.reshape(-1, 1, 1, 1)
        hole = hole & (along >= first) & (along < first + side)
    return jnp.where(hole, 0, images)


def add_noise(example_keys: Array, images: Array, sigma: Array) -> Array:
    """Adds Gaussian noise of standard deviation `sigma`, a scalar, to each image, with keys `example_keys` [b]."""
    # As instance noise it makes the distributions of real and generated images overlap (Sonderby et al. 2017; Arjovsky
    # and Bottou 2017).
    noise = keys.normal(example_keys, images[0].size).reshape(images.shape)
    return images + sigma.astype(images.dtype) * noise.astype(images.dtype)


def _moved(images: Array, axis: int, by: Array, most: int) -> Array:
    """Shifts images along an axis by `by` [b] pixels, in -most..most."""
    ahead = (most - by).reshape(-1, 1, 1, 1)
    moved = jnp.pad(images, [(most, most) if i == axis else (0, 0) for i in range(images.ndim)])
    # Roll by one bit of the distance at a time. A gather would be simpler, but its gradient is a scatter, which a GPU
    # adds up in any order.
    for bit in range((2 * most).bit_length()):
        # Pixels that wrap around stay within the padding, which is cut off.
        moved = jnp.where((ahead & 1 << bit) > 0, jnp.roll(moved, -(1 << bit), axis), moved)
    return jax.lax.slice_in_dim(moved, 0, images.shape[axis], axis=axis)


def _round(x: float) -> int:
    return int(x + 0.5)
