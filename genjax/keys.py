"""The only file that derives PRNG keys.

Nothing random is carried from step to step or saved: a key is an address, (seed, stream, step, position in the global
batch), so noise depends on no device, no process and no history.
"""

import enum
import math

import jax
import jax.numpy as jnp
from jax import Array, lax

from genjax.config import check_seed

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA
"""Threefry-2x32's constants (Salmon et al. 2011, table 2 and section 3.3)."""


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


class Draw(enum.IntEnum):
    """Draws of one CycleGAN training step. The numbers are part of every result: append, never renumber."""

    IMAGES_A = 0  # augmentation of training images
    IMAGES_B = 1
    ELEMENT = 2  # dihedral transform of the affine consistency loss
    POOL_A = 3
    POOL_B = 4
    FRACTION_A = 5  # place of the gradient penalty between a real and a translated image
    FRACTION_B = 6
    FOOLED_A = 7  # augmentation of translations, as the generators' step shows them to a discriminator
    FOOLED_B = 8
    REAL_A = 9  # augmentation of the images that a discriminator learns from
    REAL_B = 10
    FAKE_A = 11
    FAKE_B = 12
    CLASSIFIED_A = 13  # noise on translations, as classifiers see them
    CLASSIFIED_B = 14


def root_key(seed: int | Array) -> Array:
    """The key that all others of a run are folded from, of a pinned implementation whatever JAX's default is.

    Raises ValueError for a number outside [0, 2^31), which JAX would not take, or not tell from another.
    """
    if isinstance(seed, int):
        check_seed("a seed", seed)
    return jax.random.key(seed, impl="threefry2x32")


def for_step(root: Array, stream: Stream | Array, step: int | Array) -> Array:
    """The key of `step` in `stream`: the same on every device and in every process."""
    return jax.random.fold_in(jax.random.fold_in(root, stream), step)


def for_draw(step_key: Array, draw: Draw) -> Array:
    """The key of one draw of a step, given that step's key."""
    return jax.random.fold_in(step_key, draw)


def per_example(key: Array, position: Array) -> Array:
    """Keys [b] of the examples at `position` [b] (int32) of the global batch, however that batch is split."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, position)


def normal(example_keys: Array, size: int) -> Array:
    """Standard normal noise [b, size], row i from `example_keys[i]`, with the same bits in a batch of any size.

    A program that computes in float64 has the numbers that float32 has; so with `uniform`.

    On CPU, JAX 0.12 computes arrays of up to 16 elements by other instructions than larger ones, which round the last
    bit of a logarithm otherwise. So at least 64 are computed for each row, and the barrier keeps the compiler from
    computing fewer.
    """
    noise = jax.vmap(lambda key: jax.random.normal(key, (max(size, 64),), jnp.float32))(example_keys)
    return lax.optimization_barrier(noise)[:, :size].astype(float)


def uniform(example_keys: Array, shape: tuple[int, ...]) -> Array:
    """Uniform draws in [0, 1), [b, *shape], row i from `example_keys[i]`: in float32 the bits of `jax.random.uniform`.

    For whole images: on a CPU, JAX draws by a loop that goes through memory five times; here it is one expression,
    which XLA fuses with what uses the draws. JAX's check for keys that are used twice does not see this use.
    """
    data = jax.random.key_data(example_keys)
    place = lax.iota(jnp.uint32, math.prod(shape))
    bits = threefry(data[:, :1], data[:, 1:], jnp.uint32(0), place[None])
    in_1_2 = lax.bitcast_convert_type((bits >> 9) | jnp.uint32(0x3F800000), jnp.float32)
    return (in_1_2 - 1).astype(float).reshape(len(example_keys), *shape)


def threefry(first: Array, second: Array, high: Array, low: Array) -> Array:
    """32 random bits of the key (first, second) at the place (high, low), all uint32 of shapes that broadcast.

    Both words of Threefry-2x32 with 20 rounds (Salmon et al. 2011), exclusive or, as JAX has them.
    """
    schedule = (first, second, first ^ second ^ jnp.uint32(PARITY))
    left, right = high + schedule[0], low + schedule[1]
    for turn in range(5):
        for by in ROTATIONS[turn % 2]:
            left = left + right
            right = left ^ (right << by | right >> (32 - by))
        left, right = left + schedule[(turn + 1) % 3], right + schedule[(turn + 2) % 3] + jnp.uint32(turn + 1)
    return left ^ right
