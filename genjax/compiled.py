"""Compilation of a family's per-device functions for a mesh: training step, evaluation, any number of rows.

Each wrapper gives the function its precision and its key. The key is derived inside the compiled graph from the seed,
which is an input: on the host this would cost hundreds of microseconds a step, and one program serves all seeds.
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

# (state, batch, seed, signal) -> (state, metrics, signal)
TrainStep = Callable[[S, Batch, Array, Array], tuple[S, dict[str, Array], Array]]


def matmul_precision(precision: Precision) -> str:
    """Maps a precision to a value of `jax.default_matmul_precision`, the rounding of factors in products."""
    # tensorfloat32 is TF32 on an NVIDIA GPU, three passes of bfloat16 on a TPU, and float32 on a CPU.
    return {"float32": "highest", "tensorfloat32": "tensorfloat32", "bfloat16": "default"}[precision]


def with_precision(fn: Callable, precision: Precision) -> Callable:
    """Wraps `fn` so that it is traced with the matrix precision `precision`."""

    # JAX reads the setting while it traces, so it holds for the compiled program.
    @functools.wraps(fn)
    def traced(*args: Any, **kwargs: Any) -> Any:
        with jax.default_matmul_precision(matmul_precision(precision)):
            return fn(*args, **kwargs)

    return traced


def seeded_step(task: Task[C, S], config: C) -> Callable[[S, Batch, Array], tuple[S, dict[str, Array]]]:
    """Returns the training step as a per-device function (state, batch, seed) -> (state, metrics)."""
    train_step = task.train_step
    if task.load_constants is not None and (constants := task.load_constants(config)[1]):
        # They become part of the program rather than of the state, so no checkpoint holds them.
        train_step = functools.partial(train_step, constants=constants)
    train_step = with_precision(train_step, config.precision)

    def step(state: S, batch: Batch, seed: Array) -> tuple[S, dict[str, Array]]:
        # The step comes from the state, so a resumed run draws what an uninterrupted one draws.
        return train_step(config, state, batch, keys.for_step(keys.root_key(seed), Stream.TRAIN, state.step))

    return step


def compile_train_step(task: Task[C, S], config: C, mesh: Mesh) -> TrainStep[S]:
    """Compiles the training steps of one call: the batch is split over the devices, the state is donated.

    `seed` is int32 []. `signal`, int32 [1] on each device, is the number of the signal that its process received, or 0.
    Every process gets the maximum back, so all of them stop and save at the same step.
    """
    step, several = seeded_step(task, config), config.train.steps_per_dispatch

    def steps(state: S, batch: Batch, seed: Array, signal: Array) -> tuple[S, dict[str, Array], Array]:
        if several == 1:
            state, metrics = step(state, batch, seed)
        else:
            # The loader stacks the batches of one call on axis 1, because axis 0 is split over the devices.
            parts = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), batch)
            state, rows = lax.scan(lambda state, part: step(state, part, seed), state, parts)
            metrics = jax.tree.map(lambda leaf: leaf[-1], rows)  # a call has one row: that of its last step
        # JAX's own preemption sync point handles SIGTERM only, not Ctrl-C; this maximum handles both.
        return state, metrics, lax.pmax(signal[0], "data")

    # State and seed are the same everywhere; each device has its rows of the batch, and its signal.
    specs = (REPLICATED, SPLIT, REPLICATED, SPLIT)
    return parallel.pmap(steps, mesh, specs, REPLICATED, donate=(0,))


def compile_eval(fn: Callable, config: RunConfig, mesh: Mesh) -> Callable[..., PyTree]:
    """Compiles `fn(config, state, batch, key) -> pytree of [b, ...]` as a function (state, batch, stream, seed, draw).

    Unlike training, all states share one key for each draw, so that metrics differ only because states differ. Each
    process gets the rows of all devices. Stream, seed and draw are inputs of the program, so it compiles once.
    """
    fn = with_precision(fn, config.precision)

    def evaluate(state: State, batch: Batch, stream: Array, seed: Array, draw: Array) -> PyTree:
        rows = fn(config, state, batch, keys.for_step(keys.root_key(seed), stream, draw))
        return lax.all_gather(rows, "data", tiled=True)  # [b, ...], not [devices, b / devices, ...]

    compiled = parallel.pmap(evaluate, mesh, (REPLICATED, SPLIT, REPLICATED, REPLICATED, REPLICATED), REPLICATED)

    def call(state: State, batch: Batch, stream: Stream, seed: int, draw: int = 0) -> PyTree:
        placed = (parallel.replicate_scalar(mesh, value) for value in (stream, seed, draw))
        return compiled(state, parallel.shard_batch(mesh, batch), *placed)

    return call


def compile_rows(fn: Callable, config: C, mesh: Mesh, chunk: int = 64) -> Callable[[tuple, tuple], PyTree]:
    """Compiles `fn(config, *shared, *rows) -> pytree of [n, ...]` as a function (shared, rows), as `compile_chunks`."""
    return compile_chunks(with_precision(functools.partial(fn, config), config.precision), mesh, chunk)


def compile_chunks(fn: Callable, mesh: Mesh, chunk: int) -> Callable[[tuple, tuple], PyTree]:
    """Compiles `fn(*shared, *rows) -> pytree of [n, ...]` as a function (shared, rows), for any n.

    `shared` is replicated; each leaf of `rows` is a host array [n, ...]. Every device always computes `chunk` rows, so
    the result of a row has the same bits for any n, any split into calls and any number of devices. Raises ValueError
    for no rows, or for leaves of different lengths.
    """

    def gathered(shared: tuple, rows: tuple) -> PyTree:
        return lax.all_gather(fn(*shared, *rows), "data", tiled=True)

    compiled = parallel.pmap(gathered, mesh, (REPLICATED, SPLIT), REPLICATED)
    width = chunk * mesh.size  # one shape for all calls: XLA may round other shapes differently

    def call(shared: tuple, rows: tuple) -> PyTree:
        num, *others = (len(leaf) for leaf in jax.tree.leaves(rows))
        if num == 0:
            raise ValueError("there are no examples: at least one is needed")
        if any(other != num for other in others):
            raise ValueError(f"examples and their positions differ in number: {num} and {', '.join(map(str, others))}")
        parts = []
        for start in range(0, num, width):
            # Past the end, the last row is repeated; the repetitions are cut off below.
            chosen = np.minimum(np.arange(start, start + width), num - 1)[parallel.process_rows(width)]
            part = jax.tree.map(lambda leaf, chosen=chosen: leaf[chosen], rows)
            parts.append(jax.device_get(compiled(shared, parallel.shard_batch(mesh, part))))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:num], *parts)

    return call
