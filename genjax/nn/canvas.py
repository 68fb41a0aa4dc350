"""Maps on a canvas: each lies in the top left corner of a larger array.

Its true size is an input of the program, so one program serves pictures of many sizes. Each operation computes what it
would of the map alone: around it there are zeros or its reflection, and statistics are over its own pixels. Rows are
computed in strips, by a loop whose length follows from the true height: what lies below costs nothing, and on a CPU a
strip stays in the cache.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from genjax.nn.kernels.instance_norm import NORM_EPS

Moments = tuple[Any, Any, Any]  # of a set of pixels: number, mean, and sum of squared distances from the mean

MARGIN = 3  # the largest border that an operation sees around a map


@dataclasses.dataclass(frozen=True)
class Canvas:
    """A map of `height` times `width` pixels; all other values are zero."""

    values: Array  # [b, MARGIN + rows + MARGIN, MARGIN + columns + MARGIN, c]
    height: Array  # int32 [], at most rows
    width: Array  # int32 [], at most columns
    strip: int  # rows that are computed at once; they divide `rows`

    @property
    def shape(self) -> tuple[int, ...]:
        """Returns [b, rows, columns, c]."""
        b, rows, columns, channels = self.values.shape
        return b, rows - 2 * MARGIN, columns - 2 * MARGIN, channels

    @property
    def dtype(self) -> jnp.dtype:
        """Returns the type of the values."""
        return self.values.dtype


def place(images: Array, size: Array, strip: int) -> Canvas:
    """Makes a canvas of images [b, rows, columns, c], zero outside of `size`, int32 [2]: height and width."""
    below = -images.shape[1] % strip
    values = jnp.pad(images, ((0, 0), (MARGIN, below + MARGIN), (MARGIN, MARGIN), (0, 0)))
    return Canvas(values, size[0], size[1], strip)


def take(x: Canvas, rows: int) -> Array:
    """Returns the first `rows` rows, and all columns, without the margin."""
    return x.values[:, MARGIN : MARGIN + rows, MARGIN:-MARGIN]


def reflect(x: Canvas, border: int) -> Canvas:
    """Replaces the zeros around the map by its reflection, edge excluded, up to `border` pixels from it."""
    values = x.values
    # Rows first: columns are then reflected with them, and the corners are right.
    for axis, size in ((1, x.height), (2, x.width)):
        before = lax.slice_in_dim(values, MARGIN + 1, MARGIN + 1 + border, axis=axis)
        after = lax.dynamic_slice_in_dim(values, MARGIN + size - 1 - border, border, axis)
        values = lax.dynamic_update_slice_in_dim(values, jnp.flip(before, axis), MARGIN - border, axis)
        values = lax.dynamic_update_slice_in_dim(values, jnp.flip(after, axis), MARGIN + size, axis)
    return dataclasses.replace(x, values=values)


def convolve(
    conv: Callable[..., Array], parameters: tuple[Array, ...], x: Canvas, border: int,
    up: int = 1, down: int = 1, mirrored: bool = False,
) -> Canvas:  # fmt: skip
    """Applies `conv` to the map with `border` pixels around it, zeros or its reflection.

    The output is up / down times as high and wide. `conv` maps [b, border + strip + border, ...] and the parameters to
    [b, strip * up / down, ...], and columns alike.
    """
    x = reflect(x, border) if mirrored else x
    b, rows, columns, _ = x.shape
    height, width, strip = x.height * up // down, x.width * up // down, x.strip * up // down
    edges = slice(MARGIN - border, MARGIN + columns + border)

    def strip_at(i: Array) -> Array:
        part = lax.dynamic_slice_in_dim(x.values, MARGIN - border + i * x.strip, x.strip + 2 * border, axis=1)
        return conv(part[:, :, edges], *parameters)

    like = jax.eval_shape(strip_at, jax.ShapeDtypeStruct((), jnp.int32))
    canvas = (b, rows * up // down + 2 * MARGIN, columns * up // down + 2 * MARGIN, like.shape[-1])
    return _fill(Canvas(jnp.zeros(canvas, like.dtype), height, width, strip), lambda i, _: strip_at(i))


def pointwise(fn: Callable[..., Array], x: Canvas, *others: Canvas) -> Canvas:
    """Applies a function of pixels to maps of one size."""

    def strip_at(i: Array, output: Canvas) -> Array:
        return fn(_strip(output if in_place else x, i), *(_strip(other, i) for other in others))

    like = jax.eval_shape(lambda *strips: fn(*strips), *(_strip(part, 0) for part in (x, *others)))
    in_place = (like.shape[-1], like.dtype) == (x.shape[-1], x.dtype)
    if in_place:  # a second array would cost as much time as the function, for the pages of its memory
        return _fill(x, strip_at)
    values = jnp.zeros((*x.values.shape[:-1], like.shape[-1]), like.dtype)
    return _fill(dataclasses.replace(x, values=values), strip_at)


def normalized(fn: Callable[..., Array], x: Canvas, *others: Canvas, groups: int) -> Canvas:
    """Computes fn(group_norm(x), *others) for a function of pixels; as many groups as channels: instance norm."""
    mean, variance = pooled(*_statistics(x), groups)
    scale = lax.rsqrt(variance + NORM_EPS)
    return pointwise(lambda x, *others: fn(((x - mean) * scale).astype(x.dtype), *others), x, *others)


def _statistics(x: Canvas) -> tuple[Array, Array]:
    """Returns mean and variance of each channel over the map, [b, 1, 1, c] and at least float32."""
    dtype = jnp.promote_types(x.dtype, jnp.float32)

    def merge(i: Array, before: Moments) -> Moments:
        part = _strip(x, i).astype(dtype)
        number = (jnp.minimum(x.height - i * x.strip, x.strip) * x.width).astype(dtype)
        mean = jnp.sum(part, axis=(1, 2), keepdims=True) / number
        distances = jnp.where(_inside(x, i), jnp.square(part - mean), 0)
        return merged(before, (number, mean, jnp.sum(distances, axis=(1, 2), keepdims=True)))

    zero = jnp.zeros((x.shape[0], 1, 1, x.shape[-1]), dtype)
    num, mean, squares = lax.fori_loop(0, _num_strips(x), merge, (jnp.zeros((), dtype), zero, zero))
    return mean, squares / num


def merged(before: Moments, new: Moments) -> Moments:
    """Merges the moments of two sets of pixels, each about its own mean, without loss (Chan et al. 1983)."""
    (num, mean, squares), (new_num, new_mean, new_squares) = before, new
    apart, share = new_mean - mean, new_num / (num + new_num)
    return num + new_num, mean + apart * share, squares + new_squares + apart * apart * num * share


def pooled(mean: Array, variance: Array, groups: int) -> tuple[Array, Array]:
    """Returns mean and variance of each group of channels, for each of its channels."""
    grouped = mean.reshape(*mean.shape[:3], groups, -1)  # [b, 1, 1, groups, channels of a group]
    pooled = jnp.mean(grouped, axis=-1, keepdims=True)
    # The variance of a group: that within its channels, and that of their means.
    within = variance.reshape(grouped.shape) + jnp.square(grouped - pooled)
    spread = jnp.mean(within, axis=-1, keepdims=True)
    pooled, spread = (jnp.broadcast_to(part, grouped.shape).reshape(mean.shape) for part in (pooled, spread))
    return pooled, spread


def _fill(output: Canvas, strip_at: Callable[[Array, Canvas], Array]) -> Canvas:
    """Replaces each strip i of a map by `strip_at(i, output)`."""

    def write(i: Array, values: Array) -> Array:
        strip = strip_at(i, dataclasses.replace(output, values=values))
        # Zero outside of the map, as the next convolution's border has to be.
        strip = jnp.where(_inside(output, i), strip, 0)
        start = jnp.stack([0 * i, MARGIN + i * output.strip, 0 * i + MARGIN, 0 * i])  # 0 * i has the type of i
        return lax.dynamic_update_slice(values, strip, start)

    return dataclasses.replace(output, values=lax.fori_loop(0, _num_strips(output), write, output.values))


def _strip(x: Canvas, i: Array | int) -> Array:
    return lax.dynamic_slice_in_dim(x.values, MARGIN + i * x.strip, x.strip, axis=1)[:, :, MARGIN:-MARGIN]


def _num_strips(x: Canvas) -> Array:
    return (x.height + x.strip - 1) // x.strip


def _inside(x: Canvas, i: Array) -> Array:
    """Returns which pixels of strip i belong to the map: bool [1, strip, columns, 1]."""
    rows, columns = (lax.broadcasted_iota(jnp.int32, (1, x.strip, x.shape[2], 1), axis) for axis in (1, 2))
    return (i * x.strip + rows < x.height) & (columns < x.width)
