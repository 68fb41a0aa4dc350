"""Training steps one by one, for tests that look at the state in between."""

import jax
import jax.numpy as jnp
import numpy as np

from genjax import keys, parallel
from genjax.data import batches
from genjax.keys import Stream
from genjax.train import bind


def mesh_of(num):
    return parallel.make_mesh(jax.devices()[:num])


def in_dtype(tree, dtype):
    """Its float32 leaves as `dtype`, if one is given."""
    return jax.tree.map(lambda x: x.astype(dtype) if dtype and x.dtype == jnp.float32 else x, tree)


def walk(steps, config, source, mesh, num_steps, dtype=None):
    """The state and the metrics after each step, waiting for it: emulated devices deadlock on a long queue."""

    def init():
        return in_dtype(jax.jit(lambda: steps.init(config, keys.root_key(0)))(), dtype)

    state = parallel.replicate(mesh, init)
    step_fn = parallel.pmap_train(bind(steps.train_step, config, Stream.TRAIN), mesh)
    for step in range(num_steps):
        batch = batches.load(source, config.seed, step, config.data.batch_size, slice(None))
        state, metrics = jax.block_until_ready(step_fn(state, parallel.shard_batch(mesh, batch)))
        yield state, metrics


def replicas_agree(tree):
    """Whether every device holds the same bytes."""
    for leaf in jax.tree.leaves(tree):
        first, *others = (np.asarray(shard.data).tobytes() for shard in leaf.addressable_shards)
        if any(other != first for other in others):
            return False
    return True
