"""Training steps one by one, to inspect the state after each."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh
from jax.typing import DTypeLike

from genjax import keys, parallel
from genjax.compiled import compile_train_step
from genjax.data import batches
from genjax.data.splits import Domains
from genjax.parallel import PyTree
from genjax.task import C, S, Task
from genjax.train import preemption


def mesh_of(num: int) -> Mesh:
    """Makes a mesh of the first `num` devices."""
    return parallel.make_mesh(jax.devices()[:num])


def in_dtype(tree: PyTree, dtype: DTypeLike | None) -> PyTree:
    """Converts float32 leaves to `dtype`, if one is given."""
    return jax.tree.map(lambda x: x.astype(dtype) if dtype and x.dtype == jnp.float32 else x, tree)


def walk(
    task: Task[C, S], config: C, domains: Domains, mesh: Mesh, num_steps: int, dtype: DTypeLike | None = None,
    known: Domains = (),
) -> Iterator[tuple[S, dict[str, Array]]]:  # fmt: skip
    """Yields state and metrics after each of `num_steps` steps from a state of `dtype` (default: float32).

    `known` are known pairs, if there are any.
    """

    def init() -> S:
        # Compiled separately: together with the conversion, XLA would compute the initial values in `dtype`.
        state: S = in_dtype(jax.jit(lambda: task.init(config, keys.root_key(0)))(), dtype)
        return state

    state, seed = parallel.replicate(mesh, init), parallel.replicate_scalar(mesh, config.seed)
    step_fn, no_signal = compile_train_step(task, config, mesh), preemption.per_device(mesh)[0]
    size = config.data.batch_size
    for step in range(num_steps):
        batch = batches.load(
            domains, config.seed, step, size, parallel.process_rows(size), config.data.train_pairs, known
        )
        # Emulated devices deadlock on a long queue of steps, so each is waited for.
        state, metrics, _ = jax.block_until_ready(step_fn(state, parallel.shard_batch(mesh, batch), seed, no_signal))
        yield state, metrics


def replicas_agree(tree: PyTree) -> bool:
    """Returns True if every device holds the same bytes."""
    for leaf in jax.tree.leaves(tree):
        first, *others = (np.asarray(shard.data).tobytes() for shard in leaf.addressable_shards)
        if any(other != first for other in others):
            return False
    return True
