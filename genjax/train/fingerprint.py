"""Digests of pytrees: SHA-256 on the host, and a cheap fingerprint computed on the devices."""

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
"""(state, batch of its last step) -> fingerprints of each group of the state's leaves, and of the batch."""

CheckReplicas = Callable[[int, PyTree], None]
"""(step, state) -> None; FloatingPointError if two devices hold different states."""


def compile_fingerprint(mesh: Mesh, steps_per_dispatch: int) -> Fingerprint[S]:
    """Compiles the fingerprints of a replicated state and of the global batch (of several batches, the last)."""

    def fingerprints(state: S, batch: Batch) -> dict[str, Array]:
        if steps_per_dispatch > 1:
            batch = jax.tree.map(lambda leaf: leaf[:, -1], batch)  # of [b, steps, ...]
        sets = {"batch": batch.images} | ({"batch.pairs": batch.pairs} if batch.pairs else {})
        found = {name: lax.psum(batch_fingerprint(images, batch.position), "data") for name, images in sets.items()}
        return tree_fingerprint(state) | found

    return parallel.pmap(fingerprints, mesh, (parallel.REPLICATED, parallel.SPLIT), parallel.REPLICATED)


def compile_check_replicas(mesh: Mesh) -> CheckReplicas:
    """Compiles a check that all devices of all processes hold the same state, by a fingerprint of each leaf.

    Each process sees the fingerprints of all devices, so all of them raise the same FloatingPointError. It names the
    first differing leaf and a device that has it.
    """

    def gather(state: PyTree) -> Array:
        return lax.all_gather(jnp.stack([_leaf_fingerprint(leaf) for leaf in jax.tree.leaves(state)]), "data")

    gathered = parallel.pmap(gather, mesh, (parallel.REPLICATED,), parallel.REPLICATED)

    def check(step: int, state: PyTree) -> None:
        if mesh.size == 1:
            return
        found = jax.device_get(gathered(state))  # [devices, leaves]
        differing = np.argwhere((found != found[0]).T)  # rows (leaf, device), in the order of leaves
        if len(differing):
            leaf, device = differing[0]
            path, _ = jax.tree_util.tree_leaves_with_path(state)[leaf]
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            process = mesh.devices.flat[device].process_index
            raise FloatingPointError(
                f"devices hold different states at step {step}, which was not saved: {name} on device {device} "
                f"(process {process}) is not that on device 0 (process 0). Machines have to be alike, and steps have "
                "to average gradients over devices. The same command goes on from the last checkpoint"
            )

    return check


def tree_digest(tree: PyTree) -> str:
    """Computes the SHA-256, in hex, of each leaf's path, type, shape and bytes, in tree order.

    Equal digests mean equal structure, shapes, types and bytes. Arrays may be on any number of devices, but each
    process must hold whole leaves (replicated, or NumPy arrays).
    """
    sha = hashlib.sha256()
    # ORDER MATTERS: every published digest is of this text and these bytes.
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf)
        sha.update(f"{jax.tree_util.keystr(path)} {array.dtype.str} {array.shape};".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


def tree_fingerprint(tree: PyTree) -> dict[str, Array]:
    """Computes a fingerprint, uint32 [], for each group of leaves.

    Leaves belong to one group if their paths share the first two names, such as `g_a2b.params`. A fingerprint is the
    sum, modulo 2^32, of the bits of all elements, each mixed with its index. A difference in one element always changes
    it; differences in several cancel with a probability of about 2^-32. Unlike a SHA-256 it runs inside a compiled
    function, without a copy to the host.
    """
    groups: dict[str, list[Array]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        names = jax.tree_util.keystr(path, simple=True, separator=".").split(".")
        groups.setdefault(".".join(names[:2]), []).append(_words(leaf).ravel())
    # One long vector for each group: hundreds of short ones would take many times as long to compile.
    return {group: jnp.sum(_placed(jnp.concatenate(words)), dtype=jnp.uint32) for group, words in groups.items()}


def batch_fingerprint(images: tuple[Array, ...], position: Array) -> Array:
    """Computes the fingerprint, uint32 [], of this device's images [b, h, w, c] and their `position` [b].

    The sum over devices, modulo 2^32, is the fingerprint of the whole batch, however it was split.
    """

    def of_domain(array: Array, domain: int) -> Array:
        # Each image by itself, and then its place: the sum does not depend on the order of images.
        rows = jnp.sum(jax.vmap(_placed)(_words(array).reshape(len(position), -1)), axis=1, dtype=jnp.uint32)
        # The highest bit tells the domains apart: images that changed places count as different.
        place = position.astype(jnp.uint32) + jnp.uint32(domain << 31)
        return jnp.sum(_mix(rows ^ _mix(place)), dtype=jnp.uint32)

    return functools.reduce(operator.add, (of_domain(array, domain) for domain, array in enumerate(images)))


@jax.jit  # traced once for each shape: a state has hundreds of leaves of few shapes
def _leaf_fingerprint(leaf: Array) -> Array:
    return jnp.sum(_placed(_words(leaf).ravel()), dtype=jnp.uint32)


def _words(leaf: Array) -> Array:
    """Returns the bits of a leaf as uint32: one word for each element, two for types of 8 bytes."""
    leaf = leaf.astype(jnp.uint8) if leaf.dtype == jnp.bool_ else leaf
    width = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint32}[leaf.dtype.itemsize]
    return lax.bitcast_convert_type(leaf, width).astype(jnp.uint32)


def _placed(words: Array) -> Array:
    """Mixes each of `words` [n] with its index."""
    return _mix(words ^ _mix(lax.iota(jnp.uint32, len(words))))


def _mix(x: Array) -> Array:
    """Applies MurmurHash3's finaliser, a bijection of uint32 that spreads each input bit over all output bits."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
