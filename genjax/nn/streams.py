"""Maps of one picture of any size: rows are computed when they are asked for, and few maps are stored.

    output = network.apply(params, streams.source(rows, shape, dtype))   # a graph of maps; computes nothing yet
    values = streams.compute(output, strip=64)

`compute` goes over the picture in passes, a strip of rows at a time. What a norm normalises has a pass of its own, in
which the moments of its strips are merged, so they are those of the whole map. Maps at a quarter of the picture's
height and width, and smaller ones, are stored. Larger ones are computed again in each pass: their time is short, and
their memory large. The last pass that reads a stored map frees each strip behind it, so that a block x + F(x) needs two
maps at a time.
"""

import dataclasses
import functools
import mmap
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from genjax.nn.canvas import Moments, merged, pooled
from genjax.nn.kernels.instance_norm import NORM_EPS

STORED_SCALE = 4  # maps that are smaller than the picture by this factor, or a larger one, are stored

Rows = Array | np.ndarray  # [1, number, width, c]


@dataclasses.dataclass(eq=False)
class Stream:
    """A map whose rows are computed from those of its sources, or read where it is stored."""

    shape: tuple[int, int, int, int]  # [1, height, width, c]
    dtype: jnp.dtype
    scale: int  # rows of the picture for one of the map
    fresh: Callable[[int, int], Rows]  # computes rows, by the first one and their number; none lies outside of the map
    sources: tuple["Stream", ...] = ()
    stored: bool = False  # in a pass of its own
    measured: bool = False  # its moments are needed
    store: "Store | None" = None
    moments: tuple[np.ndarray, np.ndarray] | None = None  # mean and variance of each channel, [1, 1, 1, c]

    def __post_init__(self) -> None:
        self.depth: int = 1 + max((source.depth for source in self.sources), default=0)

    def rows(self, start: int, number: int) -> Rows:
        """Returns `number` rows from `start` on, all within the map."""
        return self.store.rows(start, number) if self.store else self.fresh(start, number)


class Store:
    """Strips of a map, each of `height` rows but for the last one."""

    def __init__(self, height: int) -> None:
        self.height = height
        self.strips: list[np.ndarray | None] = []
        self.first_read: int | None = None

    def append(self, rows: np.ndarray) -> None:
        """Copies the next strip."""
        # A mapping goes back to the system when it is freed. Memory of malloc may not: each thread of XLA has a heap.
        copy = np.frombuffer(mmap.mmap(-1, rows.nbytes), rows.dtype).reshape(rows.shape)
        copy[:] = rows
        self.strips.append(copy)

    def rows(self, start: int, number: int) -> np.ndarray:
        """Copies rows out of the strips that hold them."""
        self.first_read = start if self.first_read is None else min(start, self.first_read)
        parts = []
        for i in range(start // self.height, (start + number - 1) // self.height + 1):
            strip, above = self.strips[i], i * self.height
            assert strip is not None, "a strip was freed before its last reader"
            parts.append(strip[:, max(start - above, 0) : start + number - above])
        return np.concatenate(parts, axis=1)

    def free(self) -> None:
        """Frees the strips above all rows that were read since the last call."""
        for i in range((self.first_read or 0) // self.height):
            self.strips[i] = None
        self.first_read = None


def source(rows: Callable[[int, int], Rows], shape: tuple[int, int, int], dtype: jnp.dtype) -> Stream:
    """Makes a stream of a picture, `shape` [height, width, c], from the function that `Stream.fresh` is."""
    return Stream((1, *shape), dtype, 1, rows)


def convolve(
    conv: Callable[..., Array], parameters: tuple[Array, ...], x: Stream, border: int,
    up: int = 1, down: int = 1, mirrored: bool = False,
) -> Stream:  # fmt: skip
    """Applies `conv` to strips as `canvas.convolve` does; equal ones share their programs, so `conv` is hashable."""
    _, height, width, channels = x.shape
    window = jax.ShapeDtypeStruct((1, down + 2 * border, width + 2 * border, channels), x.dtype)
    like = jax.eval_shape(conv, window, *parameters)

    def fresh(start: int, number: int) -> Array:
        first, needed = start * down // up, number * down // up + (up - 1)  # with up 2 a row more, if `start` is odd
        around = np.arange(first - border, first + needed + border)
        # Windows that leave the map read as many rows of it as all others, so that few programs are compiled.
        present = min(len(around), height)
        lowest = int(np.clip(around[0], 0, height - present))
        edge: tuple[np.ndarray, np.ndarray] | None = None
        if around[0] < 0 or around[-1] >= height:
            inside = (around >= 0) & (around < height)
            nearest = _mirrored(around, height) if mirrored else np.clip(around, 0, height - 1)
            edge = nearest - lowest, (inside | mirrored)[:, None, None]
        rows, cut = x.rows(lowest, present), start - first * up // down
        return _convolved(conv, border, mirrored, number, rows, edge, cut, *parameters)

    shape = (1, height * up // down, *like.shape[2:])
    return Stream(shape, like.dtype, x.scale * down // up, fresh, (x,))


def pointwise(fn: Callable[..., Array], x: Stream, *others: Stream) -> Stream:
    """Applies a function of pixels to maps of one size."""
    maps = (x, *others)
    like = jax.eval_shape(fn, *(_one_row(each) for each in maps))

    def fresh(start: int, number: int) -> Array:
        # Not compiled as a whole: JAX keeps a program for each operation, which all layers and pictures share.
        return fn(*(jnp.asarray(each.rows(start, number)) for each in maps))

    return Stream((*x.shape[:3], like.shape[-1]), like.dtype, x.scale, fresh, maps, _is_small(x))


def normalized(fn: Callable[..., Array], x: Stream, *others: Stream, groups: int) -> Stream:
    """Computes fn(group_norm(x), *others) for a function of pixels; as many groups as channels: instance norm."""
    measured = Stream(x.shape, x.dtype, x.scale, x.rows, (x,), _is_small(x), measured=True)

    def fresh(start: int, number: int) -> Array:
        assert measured.moments is not None, "no pass has measured this map"
        normed = _normed(groups, measured.rows(start, number), *measured.moments)
        return fn(normed, *(jnp.asarray(each.rows(start, number)) for each in others))

    like = jax.eval_shape(fn, *(_one_row(each) for each in (x, *others)))
    return Stream((*x.shape[:3], like.shape[-1]), like.dtype, x.scale, fresh, (measured, *others), _is_small(x))


def compute(
    output: Stream, strip: int, after_strip: Callable[[int, int], None] = lambda done, total: None
) -> np.ndarray:
    """Computes a whole map [1, height, width, c]; each pass takes `strip` rows of its finest map at once.

    `after_strip` gets the number of strips that are done, and that of all passes.
    """
    passes = [each for each in _by_depth(output) if each.stored or each.measured or each is output]
    last_reader = {  # passes are in order: of those that read a map, the last stays
        read: target for target in passes for each in _computed(target) for read in each.sources if read.stored
    }
    heights = [_strip_height(target, strip) for target in passes]
    total, done = sum(-(-target.shape[1] // height) for target, height in zip(passes, heights, strict=True)), 0
    for target, height in zip(passes, heights, strict=True):
        read_last = [read for read, reader in last_reader.items() if reader is target]
        store, moments = Store(height), (0, np.zeros(()), np.zeros(()))
        for start in range(0, target.shape[1], height):
            # The last strip begins earlier, so that all have one shape; what it repeats is left out.
            first = min(start, target.shape[1] - height)
            rows = target.fresh(first, height)
            if target.measured:
                moments = merged(moments, _strip_moments(rows, start - first))
            if target.stored or target is output:
                store.append(np.asarray(rows)[:, start - first :])
            del rows  # before the next ones are computed
            for read in read_last:
                if read.store:
                    read.store.free()
            done += 1
            after_strip(done, total)
        for read in read_last:
            read.store = None
        if target.measured:
            number, mean, squares = moments
            wide = jnp.promote_types(target.dtype, jnp.float32)
            target.moments = mean.astype(wide), (squares / number).astype(wide)
        if target.stored:
            target.store = store
    return store.rows(0, output.shape[1])


def _strip_moments(rows: Rows, skipped: int) -> Moments:
    """Returns the moments of a strip without its first rows, to be merged in float64."""
    number = (rows.shape[1] - skipped) * rows.shape[2]
    mean, squares = (np.asarray(each, np.float64) for each in _mean_and_squares(rows, skipped))
    return number, mean, squares


@jax.jit
def _mean_and_squares(rows: Array, skipped: Array) -> tuple[Array, Array]:
    wide = rows.astype(jnp.promote_types(rows.dtype, jnp.float32))
    counted = lax.broadcasted_iota(jnp.int32, (1, rows.shape[1], 1, 1), 1) >= skipped

    def total(values: Array) -> Array:
        # Each row alone first: one long sum of float32 would lose digits.
        by_row = lax.optimization_barrier(jnp.sum(values, axis=2, keepdims=True))
        return jnp.sum(jnp.where(counted, by_row, 0), axis=1, keepdims=True)

    mean = total(wide) / ((rows.shape[1] - skipped) * rows.shape[2])
    return mean, total(jnp.square(wide - mean))


@functools.partial(jax.jit, static_argnums=0)
def _normed(groups: int, rows: Array, mean: Array, variance: Array) -> Array:
    mean, variance = pooled(mean, variance, groups)
    return ((rows - mean) * lax.rsqrt(variance + NORM_EPS)).astype(rows.dtype)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _convolved(
    conv: Callable[..., Array], border: int, mirrored: bool, number: int,
    rows: Array, edge: tuple[Array, Array] | None, cut: Array, *parameters: Array,
) -> Array:  # fmt: skip
    """Convolves a window; `edge` has the place of each row, and False for zeros, where a window leaves the map."""
    if edge is not None:
        rows = jnp.where(edge[1], rows[:, edge[0]], 0)
    columns = ((0, 0), (0, 0), (border, border), (0, 0))
    rows = jnp.pad(rows, columns, mode="reflect" if mirrored else "constant")
    return lax.dynamic_slice_in_dim(conv(rows, *parameters), cut, number, axis=1)


def _mirrored(rows: np.ndarray, height: int) -> np.ndarray:
    """Reflects row numbers at the first and at the last row."""
    return height - 1 - np.abs(height - 1 - np.abs(rows))


def _is_small(x: Stream) -> bool:
    return x.scale >= STORED_SCALE


def _one_row(x: Stream) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, 1, *x.shape[2:]), x.dtype)


def _by_depth(output: Stream) -> list[Stream]:
    """Returns all maps that `output` depends on, and itself, sources first."""
    found = {output: None}
    waiting = [output]
    while waiting:
        new = [each for each in waiting.pop().sources if each not in found]
        found |= dict.fromkeys(new)
        waiting += new
    return sorted(found, key=lambda each: each.depth)


def _computed(target: Stream) -> set[Stream]:
    """Returns the maps that a pass computes: the target, and maps that are not stored."""
    return {target}.union(*(_computed(each) for each in target.sources if not each.stored))


def _strip_height(target: Stream, strip: int) -> int:
    """Returns how many rows of the target need about `strip` rows of the finest map that its pass computes."""
    finest = min(each.scale for each in _computed(target))
    return min(max(1, strip * finest // target.scale), target.shape[1])
