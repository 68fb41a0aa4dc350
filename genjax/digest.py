"""SHA-256 of a pytree: equal digests mean equal structure, shapes, types and bytes."""

import hashlib
from typing import Any

import jax
import numpy as np


def tree_digest(tree: Any) -> str:
    """Hex SHA-256 over each leaf's path, type, shape and bytes, in tree order.

    Arrays may live on any number of devices; a leaf must be whole on each process (replicated, or a NumPy array).
    """
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf)
        sha.update(f"{jax.tree_util.keystr(path)} {array.dtype.str} {array.shape};".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()
