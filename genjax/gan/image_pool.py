"""Earlier translations that a discriminator sees again (Shrivastava et al. 2017), as arrays in the state.

The rule is that of CycleGAN's implementations, one image of the global batch after another: while the pool is not full
it stores the image and returns it; then, with probability 1/2, it returns a stored image, chosen evenly, and stores the
new one in its place; else it returns the new one. Every device makes the same decisions about the whole batch.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from genjax import keys


class Pool(NamedTuple):
    """Up to `size` images."""

    images: Array | None
    """[size, h, w, c]; None for a size of 0."""
    num: Array
    """int32 []: how many there are."""


def empty(size: int, shape: tuple[int, ...]) -> Pool:
    """A pool of no images yet, for images of `shape`."""
    images = jnp.zeros((size, *shape), jnp.float32) if size else None  # Orbax saves no array of no elements
    return Pool(images, jnp.int32(0))


def query(pool: Pool, images: Array, position: Array, key: Array) -> tuple[Pool, Array]:
    """The pool after this device's translations [b, h, w, c] and those of all others, and the images to judge instead.

    `position` [b] is their place in the global batch, on which alone the decisions depend.
    """
    if pool.images is None:
        return pool, images
    size = len(pool.images)
    everywhere = lax.all_gather(images, "data", tiled=True)
    places = lax.all_gather(position, "data", tiled=True)
    uniforms = jax.vmap(lambda k: jax.random.uniform(k, (2,)))(keys.per_example(key, places))
    stored, returned = decide(pool.num, uniforms, size)
    known = jnp.concatenate([pool.images, everywhere])
    mine = lax.axis_index("data") * len(images) + jnp.arange(len(images))
    return Pool(known[stored], jnp.minimum(pool.num + len(everywhere), size)), known[returned[mine]]


def decide(num: Array, uniforms: Array, size: int) -> tuple[Array, Array]:
    """Which images a pool of `size` with `num` images stores after a batch [size], and which it returns [n].

    Stored images are numbered from 0, the batch from `size`. `uniforms` [n, 2] in [0, 1) swap where the first is above
    1/2, at the slot that the second falls into.
    """

    def one(carry: tuple[Array, Array], new: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
        stored, num = carry
        number, (swap, slot) = new
        full = num == size
        place = jnp.where(full, (slot * size).astype(jnp.int32), num)
        returned = jnp.where(full & (swap > 0.5), stored[place], number)
        keep = ~full | (swap > 0.5)
        stored = stored.at[place].set(jnp.where(keep, number, stored[place]))
        return (stored, jnp.minimum(num + 1, size)), returned

    numbers = size + jnp.arange(len(uniforms), dtype=jnp.int32)
    (stored, _), returned = lax.scan(one, (jnp.arange(size, dtype=jnp.int32), num), (numbers, uniforms))
    return stored, returned
