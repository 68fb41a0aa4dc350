"""The only file that derives PRNG keys.

Nothing random is carried from step to step or saved: a key is an address, (seed, stream, step, position in the global
batch), so noise depends on no device, no process and no history.
"""

import enum

import jax
from jax import Array


class Stream(enum.IntEnum):
    """Independent uses of one seed. The numbers are part of every result: append, never renumber."""

    INIT = 0
    TRAIN = 1
    VALIDATION = 2
    TEST = 3
    SAMPLE = 4
    SHUFFLE_FIRST = 5
    SHUFFLE_SECOND = 6
    BINARIZE = 7
    PRIOR = 8
    RECONSTRUCT = 9
    RESTORE = 10
    MASK = 11


def root_key(seed: int | Array) -> Array:
    """The key that all others of a run are folded from, of a pinned implementation whatever JAX's default is."""
    return jax.random.key(seed, impl="threefry2x32")


def for_step(root: Array, stream: Stream, step: int | Array) -> Array:
    """The key of `step` in `stream`: the same on every device and in every process."""
    return jax.random.fold_in(jax.random.fold_in(root, int(stream)), step)


def per_example(key: Array, position: Array) -> Array:
    """Keys [b] of the examples at `position` [b] (int32) of the global batch, however that batch is split."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, position)


def normal(example_keys: Array, size: int) -> Array:
    """Standard normal noise [b, size], row i from `example_keys[i]`, with the same bits in a batch of any size.

    On CPU, JAX 0.12 computes arrays of up to 16 elements by other instructions than larger ones, which round the last
    bit of a logarithm otherwise. So at least 64 are computed for each row, and the barrier keeps the compiler from
    computing fewer.
    """
    noise = jax.vmap(lambda key: jax.random.normal(key, (max(size, 64),)))(example_keys)
    return jax.lax.optimization_barrier(noise)[:, :size]
