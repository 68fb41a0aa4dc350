"""Image pool (Shrivastava et al. 2017): earlier generated images that a discriminator sees again.

The rule is that of CycleGAN's implementations, applied to the images of the global batch one after another. While the
pool is not full, it stores the image and returns it. After that, with probability 1/2, it returns a random stored image
and stores the new one in its place; otherwise it returns the new one. Every device makes the same decisions about the
whole batch, so the pools stay equal.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from genjax import keys


class Pool(NamedTuple):
    """A pool of up to `size` images."""

    images: Array | None  # [size, h, w, c]; None for a size of 0
    num: Array  # int32 []: images stored so far


def empty(size: int, shape: tuple[int, ...]) -> Pool:
    """Makes an empty pool for images of `shape` (height, width, channels)."""
    images = jnp.zeros((size, *shape), jnp.float32) if size else None  # Orbax saves no array of no elements
    return Pool(images, jnp.int32(0))


def query(pool: Pool, images: Array, position: Array, key: Array) -> tuple[Pool, Array]:
    """Updates the pool with the images [b, h, w, c], at `position` [b] of the global batch, of all devices.

    Returns it and the images that this device trains on.
    """
    if pool.images is None:
        return pool, images
    size = len(pool.images)
    # One key for each position in the global batch: decisions do not depend on the number of devices.
    everywhere = lax.all_gather(images, "data", tiled=True)
    places = lax.all_gather(position, "data", tiled=True)
    uniforms = jax.vmap(lambda k: jax.random.uniform(k, (2,)))(keys.per_example(key, places))
    stored, returned = decide(pool.num, uniforms, size)
    # The pool, then the batch, as `decide` numbers them. One gather moves all images.
    known = jnp.concatenate([pool.images, everywhere])
    # This device trains on its own slice of the returned ones.
    mine = lax.axis_index("data") * len(images) + jnp.arange(len(images))
    return Pool(known[stored], jnp.minimum(pool.num + len(everywhere), size)), known[returned[mine]]


def decide(num: Array, uniforms: Array, size: int) -> tuple[Array, Array]:
    """Decides which images are stored after a batch [size] and which are returned [n].

    The pool holds `num` of at most `size` images. The result is numbers of images: stored ones count from 0, the batch
    from `size`. For each image, the first of `uniforms` [n, 2] in [0, 1) swaps if it is above 1/2, and the second
    chooses the slot.
    """

    # The rule is sequential, so it is a scan; it moves numbers instead of images, which is cheap.
    def one(carry: tuple[Array, Array], new: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
        stored, num = carry
        number, (swap, slot) = new
        full = num == size
        # A full pool offers a random slot, another one its first free slot.
        place = jnp.where(full, (slot * size).astype(jnp.int32), num)
        # Without a swap the new image is returned; it is stored if it was swapped, or if there was room.
        returned = jnp.where(full & (swap > 0.5), stored[place], number)
        keep = ~full | (swap > 0.5)
        stored = stored.at[place].set(jnp.where(keep, number, stored[place]))
        return (stored, jnp.minimum(num + 1, size)), returned

    numbers = size + jnp.arange(len(uniforms), dtype=jnp.int32)
    (stored, _), returned = lax.scan(one, (jnp.arange(size, dtype=jnp.int32), num), (numbers, uniforms))
    return stored, returned
