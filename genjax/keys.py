"""Addresses of PRNG keys: seed, stream, step, draw and position in the global batch.

No key is carried from step to step or saved, so noise does not depend on devices, processes or earlier steps. A step
may split the key that it gets; addresses are known here alone.
"""

import enum
import math
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from genjax.checks import check_seed

# Constants of Threefry-2x32 (Salmon et al. 2011): rotations (table 2) and the parity of the key words (section 3.3).
ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA

SCORING_SEED = 0
"""Seed of all that is drawn to evaluate a model; all runs, whatever their seed, meet the same draws."""


Key = int | Array
"""A seed, or its root key."""

Position = int | Sequence[int] | np.ndarray
"""Positions of images, which their noise depends on; a number stands for the first so many."""


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
    CROP_FIRST = 12
    CROP_SECOND = 13
    LIKELIHOOD = 14
    OBSERVE = 15  # simulated truths, noise of observations, random measurements
    ENCODE = 16  # draws of e that a prior is fitted to
    FIT = 17
    SHUFFLE_PAIRS = 18
    CROP_PAIRS = 19


class Draw(enum.IntEnum):
    """Draws of one training step of a GAN. The numbers are part of every result: append, never renumber."""

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
    PATCHES = 15  # places of the patches that PatchNCE compares
    MIRRORED = 16  # which images FastCUT translates as their mirror image
    PAIRS = 17  # augmentation of known pairs, alike for both images of a pair
    LATENTS = 18  # noise of UNIT's encodings


def root_key(seed: int | Array) -> Array:
    """Returns the root key of a run; all other keys are folded from it.

    The implementation is fixed to threefry2x32, whatever JAX's default is. Raises ValueError unless 0 <= seed < 2**31.
    """
    if not isinstance(seed, Array):
        seed = operator.index(seed)  # integers of NumPy too
        check_seed("a seed", seed)
    return jax.random.key(seed, impl="threefry2x32")


def as_root(key: Key) -> Array:
    """Returns the root key of a seed, or `key` itself if it is a key; ValueError for anything else."""
    if isinstance(key, Array):
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0:
            return key
        raise ValueError(f"expected a seed, such as 0, or keys.root_key(seed), got {key.dtype} {list(key.shape)}")
    try:
        return root_key(key)
    except TypeError as error:
        raise ValueError(f"expected a seed, such as 0, or keys.root_key(seed), got {type(key).__name__}") from error


def positions(position: Position) -> np.ndarray:
    """Returns positions [n] as int32: those given, or the first n if `position` is a number.

    Raises ValueError unless they are integers from 0.
    """
    found = np.asarray(position)
    if not np.issubdtype(found.dtype, np.integer) or found.ndim > 1 or found.min(initial=0) < 0:
        raise ValueError(f"expected a number of images, or their positions [n], integers from 0, got {position!r:.60}")
    return np.arange(int(found), dtype=np.int32) if found.ndim == 0 else found.astype(np.int32)


def for_step(root: Array, stream: Stream | Array, step: int | Array) -> Array:
    """Returns the key of `step` in `stream`, the same on every device and in every process."""
    return jax.random.fold_in(jax.random.fold_in(root, stream), step)


def for_draw(step_key: Array, draw: Draw) -> Array:
    """Returns the key of one draw of a step, given that step's key."""
    return jax.random.fold_in(step_key, draw)


def per_example(key: Array, position: Array) -> Array:
    """Returns keys [b] for the examples at `position` [b] (int32) in the global batch."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, position)


def normal(example_keys: Array, size: int) -> Array:
    """Draws standard normal noise [b, size], row i from `example_keys[i]`.

    Row i has the same bits in a batch of any size. With float64 enabled, the values are still those of float32; the
    same holds for `uniform`.
    """
    # On a CPU, JAX 0.12 uses other instructions for arrays of up to 16 elements, which round the last bit differently.
    # So each row computes at least 64 numbers, and the barrier keeps the compiler from computing fewer.
    noise = jax.vmap(lambda key: jax.random.normal(key, (max(size, 64),), jnp.float32))(example_keys)
    return lax.optimization_barrier(noise)[:, :size].astype(float)


def uniform(example_keys: Array, shape: tuple[int, ...]) -> Array:
    """Draws uniform numbers in [0, 1), [b, *shape], row i from `example_keys[i]`.

    In float32 they have the bits of `jax.random.uniform`. JAX's check for reused keys does not see this use.
    """
    # Made for whole images: on a CPU, JAX's own loop passes over memory five times, and this single expression is fused
    # with the code that uses it.
    data = jax.random.key_data(example_keys)  # [b, 2]
    # Random access: pixel i is the hash of the counter i under the key, so nothing is carried from pixel to pixel.
    place = lax.iota(jnp.uint32, math.prod(shape))
    bits = threefry(data[:, :1], data[:, 1:], jnp.uint32(0), place[None])
    # 23 random bits become the mantissa of a float in [1, 2), whose sign and exponent are the constant.
    in_1_2 = lax.bitcast_convert_type((bits >> 9) | jnp.uint32(0x3F800000), jnp.float32)
    return (in_1_2 - 1).astype(float).reshape(example_keys.shape[0], *shape)


def threefry(first: Array, second: Array, high: Array, low: Array) -> Array:
    """Returns 32 random bits for the key (first, second) at the counter (high, low).

    All arguments are uint32 and broadcast. The result is the exclusive or of both words of Threefry-2x32 with 20 rounds
    (Salmon et al. 2011), as in JAX.
    """
    schedule = (first, second, first ^ second ^ jnp.uint32(PARITY))
    left, right = high + schedule[0], low + schedule[1]
    for turn in range(5):  # four rounds, then a key word is added: 20 rounds in all
        for by in ROTATIONS[turn % 2]:
            left = left + right
            right = left ^ (right << by | right >> (32 - by))
        left, right = left + schedule[(turn + 1) % 3], right + schedule[(turn + 2) % 3] + jnp.uint32(turn + 1)
    return left ^ right
