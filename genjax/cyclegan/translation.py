"""Translation of images between the domains: [n, h, w, c] in [0, 1]."""

import jax
import jax.numpy as jnp
from jax import Array

from genjax.cyclegan.config import CycleGanConfig, CycleGanRun
from genjax.cyclegan.nets import Direction, MakeNetworks, make_networks
from genjax.gan.params import apply
from genjax.optim import Params


def translate(
    config: CycleGanRun,
    params: Params,
    direction: Direction,
    images: Array,
    make_networks: MakeNetworks = make_networks,
) -> Array:
    """Translates images of any height and width: [n, h, w, c] to [n, h, w, c'], in [0, 1].

    `params` are those of the generators "a2b" and "b2a".
    """
    # Reach a size that the generator accepts by reflection, and cut the border off again. Pad only bottom and right, so
    # that each pixel keeps its place modulo the network's stride.
    height, width = images.shape[1:3]
    bottom, right = (_border(config.cyclegan, size) for size in (height, width))
    padded = jnp.pad(images, ((0, 0), (0, bottom), (0, right), (0, 0)), mode="symmetric")
    # Networks take and give [-1, 1]. A residual generator may leave that range.
    translated = apply(make_networks(config).generator(direction), params[direction], 2 * padded - 1)
    return jnp.clip((translated[:, :height, :width] + 1) / 2, 0, 1)


def _border(net: CycleGanConfig, size: int) -> int:
    """Returns the number of pixels to add to `size` to reach the next size that the generator accepts."""
    unit, smallest = net.generator_sizes
    return max(smallest, -(-size // unit) * unit) - size


def one_level_off(example_keys: Array, images: Array) -> Array:
    """Moves each pixel one grey level up or down with equal probability, with keys `example_keys` [n]."""
    up = jax.vmap(lambda key: jax.random.bernoulli(key, shape=images.shape[1:]))(example_keys)
    return jnp.clip(images + jnp.where(up, 1 / 255, -1 / 255), 0, 1)
