"""Images of one domain into the other, and how good that is: pure functions, images [n, h, w, c] in [0, 1]."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from genjax.cyclegan import nets
from genjax.cyclegan.config import CycleGanConfig, CycleGanRun
from genjax.cyclegan.nets import Direction
from genjax.data.image_arrays import LUMA


def translate(config: CycleGanRun, params: Any, direction: Direction, images: Array) -> Array:
    """Images of any size in the other domain: [n, h, w, c] to [n, h, w, c'], in [0, 1].

    Borders that the network needs to halve the size evenly are mirrored, and cut off again.
    """
    height, width = images.shape[1:3]
    bottom, right = (_border(config.cyclegan, size) for size in (height, width))
    padded = jnp.pad(images, ((0, 0), (0, bottom), (0, right), (0, 0)), mode="symmetric")
    translated = nets.generate(config, direction, params[direction], 2 * padded - 1)[:, :height, :width]
    return jnp.clip((translated + 1) / 2, 0, 1)


def _border(net: CycleGanConfig, size: int) -> int:
    """How many pixels `size` lacks of what the generator takes."""
    unit, smallest = net.generator_sizes
    return max(smallest, -(-size // unit) * unit) - size


def one_level_off(example_keys: Array, images: Array) -> Array:
    """Images with each pixel's value 1/255 higher or lower, as probable, by the image's own of `example_keys` [n]."""
    up = jax.vmap(lambda key: jax.random.bernoulli(key, shape=images.shape[1:]))(example_keys)
    return jnp.clip(images + jnp.where(up, 1 / 255, -1 / 255), 0, 1)


def luminance(images: Array) -> Array:
    """[n, h, w, 1 or 3] to [n, h, w]."""
    if images.shape[-1] == 1:
        return images[..., 0]
    weights = jnp.array(LUMA, images.dtype).reshape(1, 1, 1, 3)
    return jnp.sum(images * weights, axis=-1)  # no matrix product, which bfloat16 runs compute coarsely


def correlation(x: Array, y: Array) -> Array:
    """Pearson's correlation of the luminances of two batches over the pixels of an image: [n]; 0 where one is flat."""
    # Relative to the first pixel, a flat image is 0 exactly, which its level less its rounded mean is not.
    x, y = (luminance(images - images[:, :1, :1]).reshape(len(images), -1) for images in (x, y))
    x, y = (values - jnp.mean(values, axis=1, keepdims=True) for values in (x, y))
    scale = jnp.sqrt(jnp.sum(x**2, axis=1) * jnp.sum(y**2, axis=1))
    return jnp.sum(x * y, axis=1) / jnp.maximum(scale, 1e-12)


def ink_overlap(x: Array, y: Array) -> tuple[Array, Array]:
    """Shares [n] of pixels that are darker than mid-grey in both of two batches of images, and in either."""
    ink_x, ink_y = (luminance(images) < 0.5 for images in (x, y))
    return jnp.mean(ink_x & ink_y, axis=(1, 2)), jnp.mean(ink_x | ink_y, axis=(1, 2))
