"""Digests of pytrees: SHA-256 of the bytes on the host, and a cheap fingerprint that the devices compute themselves."""

import functools
import hashlib
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh

from genjax import parallel
from genjax.data.batches import Batch
from genjax.parallel import PyTree
from genjax.task import S

Fingerprint = Callable[[S, Batch], dict[str, Array]]
"""(state, the batch of its last step) -> fingerprints of each group of the state's leaves, and of the batch."""


def compile_fingerprint(mesh: Mesh, steps_per_dispatch: int) -> Fingerprint[S]:
    """Compiles the fingerprints of a replicated state and of the global batch; of several batches, the last one."""

    def fingerprints(state: S, batch: Batch) -> dict[str, Array]:
        if steps_per_dispatch > 1:
            batch = jax.tree.map(lambda leaf: leaf[:, -1], batch)
        of_batch = lax.psum(batch_fingerprint(batch.images, batch.position), "data")
        return tree_fingerprint(state) | {"batch": of_batch}

    return parallel.pmap(fingerprints, mesh, (parallel.REPLICATED, parallel.SPLIT), parallel.REPLICATED)


def tree_digest(tree: PyTree) -> str:
    """SHA-256, in hex, over each leaf's path, type, shape and bytes, in tree order.

    Equal digests mean equal structure, shapes, types and bytes. Arrays may live on any number of devices; a leaf must
    be whole on each process (replicated, or a NumPy array).
    """
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf)
        sha.update(f"{jax.tree_util.keystr(path)} {array.dtype.str} {array.shape};".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


def tree_fingerprint(tree: PyTree) -> dict[str, Array]:
    """Fingerprints, uint32 [], of each group of leaves whose paths begin with the same two names, as `g_a2b.params`.

    The sum, modulo 2^32, of the bits of all elements of the group, each mixed with its place. It finds any one
    difference and misses one of many once in 2^32; unlike a SHA-256 it runs in a compiled function, and nothing of the
    tree is moved to the host.
    """
    groups: dict[str, list[Array]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        names = jax.tree_util.keystr(path, simple=True, separator=".").split(".")
        groups.setdefault(".".join(names[:2]), []).append(_words(leaf).ravel())
    # One long vector for each group: hundreds of small ones would compile for many times as long.
    return {group: jnp.sum(_placed(jnp.concatenate(words)), dtype=jnp.uint32) for group, words in groups.items()}


def batch_fingerprint(images: tuple[Array, ...], position: Array) -> Array:
    """Fingerprint, uint32 [], of this device's images [b, h, w, c] and their `position` [b] in the global batch.

    The sum over devices, modulo 2^32, is that of the whole batch, however it was split.
    """

    def of_domain(array: Array, domain: int) -> Array:
        rows = jnp.sum(jax.vmap(_placed)(_words(array).reshape(len(position), -1)), axis=1, dtype=jnp.uint32)
        place = position.astype(jnp.uint32) + jnp.uint32(domain << 31)
        return jnp.sum(_mix(rows ^ _mix(place)), dtype=jnp.uint32)

    return functools.reduce(operator.add, (of_domain(array, domain) for domain, array in enumerate(images)))


def _words(leaf: Array) -> Array:
    """Bits of a leaf as uint32: one word for each element, two for types of 8 bytes."""
    leaf = leaf.astype(jnp.uint8) if leaf.dtype == jnp.bool_ else leaf
    width = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint32}[leaf.dtype.itemsize]
    return lax.bitcast_convert_type(leaf, width).astype(jnp.uint32)


def _placed(words: Array) -> Array:
    """Each of `words` [n] mixed with its place."""
    return _mix(words ^ _mix(lax.iota(jnp.uint32, len(words))))


def _mix(x: Array) -> Array:
    """MurmurHash3's finaliser: a bijection of uint32 in which each input bit flips each output bit half the time."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
