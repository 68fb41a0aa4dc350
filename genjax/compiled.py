"""Per-device functions of a family, compiled for a mesh: one training step, an evaluation, any number of rows.

Each wrapper gives the function its precision and its key. A key is derived inside the compiled graph, from a seed that
is an input: on the host it would cost hundreds of microseconds a step, and one program serves all seeds.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh

from genjax import keys, parallel
from genjax.config import Precision, RunConfig
from genjax.data.batches import Batch
from genjax.keys import Stream
from genjax.parallel import REPLICATED, SPLIT, PyTree
from genjax.task import C, S, State, Task

TrainStep = Callable[[S, Batch, Array, Array], tuple[S, dict[str, Array], Array]]
"""(state, batch, seed, signal) -> (state, metrics, signal)."""


def matmul_precision(precision: Precision) -> str:
    """Maps a precision to a value of `jax.default_matmul_precision`, the rounding of factors in products.

    tensorfloat32 is TF32 on an NVIDIA GPU, three passes of bfloat16 on a TPU, and float32 on a CPU.
    """
    return {"float32": "highest", "tensorfloat32": "tensorfloat32", "bfloat16": "default"}[precision]


def with_precision(fn: Callable, config: RunConfig) -> Callable:
    """Wraps `fn` so that it is traced at the precision of matrix products that `config` names."""

    @functools.wraps(fn)
    def traced(*args: Any, **kwargs: Any) -> Any:
        with jax.default_matmul_precision(matmul_precision(config.precision)):
            return fn(*args, **kwargs)

    return traced


def seeded_step(task: Task[C, S], config: C) -> Callable[[S, Batch, Array], tuple[S, dict[str, Array]]]:
    """The training step of `config` as a per-device function (state, batch, seed) -> (state, metrics)."""
    train_step = task.train_step
    if task.load_constants is not None:
        train_step = functools.partial(train_step, constants=task.load_constants(config)[1])
    train_step = with_precision(train_step, config)

    def step(state: S, batch: Batch, seed: Array) -> tuple[S, dict[str, Array]]:
        return train_step(config, state, batch, keys.for_step(keys.root_key(seed), Stream.TRAIN, state.step))

    return step


def compile_train_step(task: Task[C, S], config: C, mesh: Mesh) -> TrainStep[S]:
    """Compiles the training steps of one call: the batch is split over the devices, the state is donated.

    `seed` is int32 []. `signal`, int32 [1] on each device, is the signal that a process got, or 0; all processes get
    the greatest of them back. So every process learns of it at the same step, and none waits alone for the others to
    save. (JAX's own sync point for preemption knows SIGTERM alone, not Ctrl-C.)
    """
    step, several = seeded_step(task, config), config.train.steps_per_dispatch

    def steps(state: S, batch: Batch, seed: Array, signal: Array) -> tuple[S, dict[str, Array], Array]:
        if several == 1:
            state, metrics = step(state, batch, seed)
        else:
            parts = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), batch)
            state, rows = lax.scan(lambda state, part: step(state, part, seed), state, parts)
            metrics = jax.tree.map(lambda leaf: leaf[-1], rows)
        return state, metrics, lax.pmax(signal[0], "data")

    specs = (REPLICATED, SPLIT, REPLICATED, SPLIT)
    return parallel.pmap(steps, mesh, specs, REPLICATED, donate=(0,))


def compile_eval(fn: Callable, config: RunConfig, mesh: Mesh) -> Callable[..., PyTree]:
    """Compiles `fn(config, state, batch, key) -> pytree of [b, ...]` as a function (state, batch, stream, seed).

    Unlike training it has one key for all states, so that metrics differ by the state alone. Each process gets the rows
    of all devices. Stream and seed are integers, and inputs: one program serves all.
    """
    fn = with_precision(fn, config)

    def evaluate(state: State, batch: Batch, stream: Array, seed: Array) -> PyTree:
        rows = fn(config, state, batch, keys.for_step(keys.root_key(seed), stream, 0))
        return lax.all_gather(rows, "data", tiled=True)

    compiled = parallel.pmap(evaluate, mesh, (REPLICATED, SPLIT, REPLICATED, REPLICATED), REPLICATED)

    def run(state: State, batch: Batch, stream: Stream, seed: int) -> PyTree:
        placed = (parallel.replicate_scalar(mesh, value) for value in (stream, seed))
        return compiled(state, parallel.shard_batch(mesh, batch), *placed)

    return run


def compile_rows(fn: Callable, config: C, mesh: Mesh, chunk: int = 64) -> Callable[[tuple, tuple], PyTree]:
    """Compiles `fn(config, *shared, *rows) -> pytree of [n, ...]` as a function (shared, rows), for any n.

    `shared` is replicated; each leaf of `rows` is a host array [n, ...]. Every device always works on `chunk` rows (the
    last ones are padded), so a row's result has the same bits whatever n, the calls it is spread over, or the number
    of devices. ValueError for no rows, or for leaves of different lengths.
    """
    fn = with_precision(fn, config)

    def gathered(shared: tuple, rows: tuple) -> PyTree:
        return lax.all_gather(fn(config, *shared, *rows), "data", tiled=True)

    compiled = parallel.pmap(gathered, mesh, (REPLICATED, SPLIT), REPLICATED)
    width = chunk * mesh.size

    def run(shared: tuple, rows: tuple) -> PyTree:
        num, *others = (len(leaf) for leaf in jax.tree.leaves(rows))
        if num == 0:
            raise ValueError("there are no examples: at least one is needed")
        if any(other != num for other in others):
            raise ValueError(f"examples and their positions differ in number: {num} and {', '.join(map(str, others))}")
        parts = []
        for start in range(0, num, width):
            chosen = np.minimum(np.arange(start, start + width), num - 1)[parallel.process_rows(width)]
            part = jax.tree.map(lambda leaf, chosen=chosen: leaf[chosen], rows)
            parts.append(jax.device_get(compiled(shared, parallel.shard_batch(mesh, part))))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:num], *parts)

    return run
