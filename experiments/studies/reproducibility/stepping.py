"""Training steps one by one, for a look at the state in between."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from genjax import keys, parallel
from genjax.compiled import compile_train_step
from genjax.data import batches
from genjax.task import C, S, Task
from genjax.train import preemption


def mesh_of(num: int) -> Mesh:
    """A mesh of the first `num` devices."""
    return parallel.make_mesh(jax.devices()[:num])


def in_dtype(tree: Any, dtype: Any) -> Any:
    """Its float32 leaves as `dtype`, if one is given."""
    return jax.tree.map(lambda x: x.astype(dtype) if dtype and x.dtype == jnp.float32 else x, tree)


def walk(
    task: Task[C, S], config: Any, source: batches.Source, mesh: Mesh, num_steps: int, dtype: Any = None
) -> Iterator[tuple[Any, dict[str, jax.Array]]]:
    """The state and the metrics after each step of a task.

    Waits for each: emulated devices deadlock on a long queue.
    """

    def init() -> Any:
        return in_dtype(jax.jit(lambda: task.init(config, keys.root_key(0)))(), dtype)

    state, seed = parallel.replicate(mesh, init), parallel.replicate_scalar(mesh, config.seed)
    step_fn, no_signal = compile_train_step(task, config, mesh), preemption.per_device(mesh)[0]
    for step in range(num_steps):
        size = config.data.batch_size
        batch = batches.load(source, config.seed, step, size, parallel.process_rows(size))
        state, metrics, _ = jax.block_until_ready(step_fn(state, parallel.shard_batch(mesh, batch), seed, no_signal))
        yield state, metrics


def replicas_agree(tree: Any) -> bool:
    """Whether every device holds the same bytes."""
    for leaf in jax.tree.leaves(tree):
        first, *others = (np.asarray(shard.data).tobytes() for shard in leaf.addressable_shards)
        if any(other != first for other in others):
            return False
    return True
