"""Parameters and images drawn at random, so that every layer of a network matters."""

import jax
import jax.numpy as jnp
import numpy as np


def random_params(shapes, scale=0.5, dtype=float):
    """Parameters with which every layer matters; much faster than initialising."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, scale, leaf.shape), dtype), shapes)


def random_images(shape, num=2, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (num, *shape))


def kernels(tree):
    return {
        jax.tree_util.keystr(path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if path[-1].key == "kernel"
    }
