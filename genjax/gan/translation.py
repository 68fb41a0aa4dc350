"""Translation of images between the domains: [n, h, w, c] in [0, 1]."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from genjax.data import image_arrays
from genjax.gan.config import GanRun, NetworkConfig
from genjax.gan.generators import Generator
from genjax.gan.networks import Direction, MakeNetworks
from genjax.gan.params import apply
from genjax.nn import canvas, streams
from genjax.nn.layers import Map
from genjax.optim import Params

BORDER: Literal["symmetric"] = "symmetric"  # fills images up to a size that the generator accepts; cut off again


def translate(
    config: GanRun, params: Params, direction: Direction, images: Array, make_networks: MakeNetworks
) -> Array:
    """Translates images of any height and width: [n, h, w, c] to [n, h, w, c'], in [0, 1].

    `params` are those of the generators by direction.
    """
    # Pad only bottom and right, so that each pixel keeps its place modulo the network's stride.
    height, width = images.shape[1:3]
    bottom, right = (int(accepted_sizes(config.net, np.array(size))) - size for size in (height, width))
    padded = jnp.pad(images, ((0, 0), (0, bottom), (0, right), (0, 0)), mode=BORDER)
    return translate_accepted(config, params, direction, padded, make_networks)[:, :height, :width]


def translate_accepted(
    config: GanRun,
    params: Params,
    direction: Direction,
    images: Array,
    make_networks: MakeNetworks,
) -> Array:
    """Translates images as `translate` does, of a height and width that the generator accepts; they may be symbolic."""
    # Networks take and give [-1, 1]. A residual generator may leave that range.
    translated = apply(make_networks(config).generators[direction], params[direction], 2 * images - 1)
    return jnp.clip((translated + 1) / 2, 0, 1)


def translate_on_canvas(generator: Generator, params: Params, images: Array, sizes: Array, strip: int) -> Array:
    """Translates images as `put_on_canvas` makes them, all of one size, `strip` rows at once (nn/canvas.py).

    `sizes` int32 [n, 2] are equal heights and widths that the generator accepts; `strip` is a multiple of its unit.
    """
    rows = images.shape[1]  # without those that fill up the last strip
    inputs = canvas.pointwise(lambda x: 2 * x - 1, canvas.place(images, sizes[0], strip))
    translated: Map = generator.apply({"params": params}, inputs)
    return canvas.take(canvas.pointwise(lambda y: jnp.clip((y + 1) / 2, 0, 1), translated), rows)


def put_on_canvas(
    net: NetworkConfig, images: list[np.ndarray], rows: int, columns: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pads images [h, w, c] as `translate` does, to [n, rows, columns, c]; returns them with sizes int32 [n, 2]."""
    sizes = accepted_sizes(net, np.array([image.shape[:2] for image in images]))
    on_canvas = np.zeros((len(images), rows, columns, images[0].shape[-1]), np.float32)
    for place, image, (height, width) in zip(on_canvas, images, sizes, strict=True):
        border = ((0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0))
        place[:height, :width] = np.pad(image, border, mode=BORDER)
    return on_canvas, sizes.astype(np.int32)


def translate_in_strips(
    generator: Generator, params: Params, net: NetworkConfig, image: np.ndarray, strip: int,
    after_strip: Callable[[int, int], None],
) -> np.ndarray:  # fmt: skip
    """Translates one image [h, w, c] as `Translator` takes it, `strip` rows at once (nn/streams.py).

    `after_strip` gets the number of strips that are done, and of all.
    """
    sizes = accepted_sizes(net, np.array(image.shape[:2]))
    # Which row or column of the image each one of the padded image shows.
    rows, columns = (
        np.pad(np.arange(size), (0, int(accepted) - size), mode=BORDER)
        for size, accepted in zip(image.shape[:2], sizes, strict=True)
    )

    def padded(start: int, number: int) -> np.ndarray:
        return image_arrays.unit_floats(image[rows[start : start + number]][None, :, columns])

    stream = streams.source(padded, (len(rows), len(columns), image.shape[-1]), np.dtype(np.float32))
    translated: Map = generator.apply({"params": params}, streams.pointwise(lambda x: 2 * x - 1, stream))
    output = streams.pointwise(lambda y: jnp.clip((y + 1) / 2, 0, 1), translated)
    return streams.compute(output, strip, after_strip)[0, : image.shape[0], : image.shape[1]]


def accepted_sizes(net: NetworkConfig, sizes: np.ndarray) -> np.ndarray:
    """Rounds heights and widths up to those that the generator accepts."""
    unit, smallest = net.generator_sizes
    return np.maximum(smallest, -(-sizes // unit) * unit)


def one_level_off(example_keys: Array, images: Array) -> Array:
    """Moves each pixel one grey level up or down with equal probability, with keys `example_keys` [n]."""
    up = jax.vmap(lambda key: jax.random.bernoulli(key, shape=images.shape[1:]))(example_keys)
    return jnp.clip(images + jnp.where(up, 1 / 255, -1 / 255), 0, 1)
