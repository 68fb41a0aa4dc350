"""What a training calls, compiled: its steps, fingerprints and evaluations, and the pictures of a run."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath
from jax import Array, lax
from jax.sharding import Mesh

from genjax import digest, images, keys, layers, parallel, stopping
from genjax.config import seed_of
from genjax.data import batches
from genjax.data.splits import Splits
from genjax.keys import Stream
from genjax.task import Task


class Program(NamedTuple):
    """What the loop calls, for one run or for many at once: how they lie in `state` is the program's own matter.

    Metrics and fingerprints are a list of groups of runs, by name scalars of one run or [rows] of several; all groups
    one after another are the runs in order.
    """

    load: Callable[[int], Any]
    """step -> the batch, on the devices, of the dispatch that begins after `step` steps"""
    step: Callable[[Any, Any, int], tuple[Any, list[dict[str, Array]], int | Array]]
    """(state, batch, the signal that asks this process to stop, or 0) -> (state, metrics, the signal to any process)"""
    fingerprint: Callable[[Any, Any], list[dict[str, Array]]]
    """(state, the batch that it learned from last) -> fingerprints"""
    evaluate: Callable[[Any, Stream], list[dict[str, float]]]
    """(state, VALIDATION or TEST) -> the figures of each run"""
    of_runs: Callable[[Any], list[Any]]
    """state -> that of each run; nothing is moved"""
    draw: Callable[[int, Any], None] | None
    """(step, state): writes pictures, if there are any"""


def for_one(task: Task, config: Any, splits: Splits, workdir: epath.Path, mesh: Mesh) -> Program:
    """A run by itself, on all devices of `mesh`, in one process or several."""
    several, data, noise = config.train.steps_per_dispatch, seed_of(config, "data"), seed_of(config, "noise")
    size, order = config.data.batch_size, batches.remembered(2 * len(splits.train))
    rows, flags, seed = parallel.process_rows(size), stopping.flags(mesh), parallel.put(mesh, noise)
    steps = in_turn(bind(task.train_step, config, Stream.TRAIN), several)
    step_fn = parallel.pmap_train(stopping.stoppable(steps), mesh)
    fingerprint_fn = parallel.pmap(
        lambda state, batch: fingerprint(state, _last(batch, several)), mesh,
        (parallel.REPLICATED, parallel.SPLIT), parallel.REPLICATED,
    )  # fmt: skip
    score = evaluator(task, config, mesh)

    def load(step: int) -> Any:
        parts = [batches.load(splits.train, data, s, size, rows, order) for s in range(step, step + several)]
        return parallel.shard_batch(mesh, stacked(parts))

    def step(state: Any, batch: Any, request: int) -> tuple[Any, list[dict[str, Array]], Array]:
        state, (metrics, stop) = step_fn(state, (batch, flags[request]), seed)
        return state, [metrics], stop

    def evaluate(state: Any, stream: Stream) -> list[dict[str, float]]:
        return [score(state, _held_out(splits, stream), stream, noise)]

    return Program(
        load, step, lambda state, batch: [fingerprint_fn(state, batch)], evaluate, lambda state: [state],
        _artist(task, config, mesh, splits.validation, workdir),
    )  # fmt: skip


def for_seeds(task: Task, configs: Sequence[Any], splits: Sequence[Splits], mesh: Mesh) -> Program:
    """Runs that differ in seeds alone, on a mesh of `parallel.make_seed_mesh`, in one process; without pictures.

    The state is what `parallel.shard_seeds` makes of theirs.
    """
    config, data = configs[0], [seed_of(config, "data") for config in configs]
    noise = [np.int32(seed_of(config, "noise")) for config in configs]
    size, order = config.data.batch_size, batches.remembered(2 * len(configs) * len(splits[0].train))
    seeds = parallel.shard_seeds(mesh, noise, parallel.BY_SEED)
    step_fn = parallel.pmap_seeds(bind(task.train_step, config, Stream.TRAIN), mesh, donate=(0,))
    fingerprint_fn = parallel.pmap_seeds(lambda state, batch, seed: fingerprint(state, batch), mesh)

    def score(state: Any, batch: batches.Batch, shared: tuple[Array, Array]) -> Any:
        stream, seed = shared
        return lax.all_gather(bind(task.eval_step, config, stream)(state, batch, seed), "data", tiled=True)

    score_fn = parallel.pmap_seeds(score, mesh)  # of one group at a time: as quickly compiled as for one run

    def placed(of_runs: Iterable[batches.Batch]) -> Any:
        return parallel.shard_seeds(mesh, list(of_runs), parallel.BY_SEED_AND_DATA)

    def load(step: int) -> Any:
        own = zip(splits, data, strict=True)
        return placed(batches.load(source.train, seed, step, size, slice(None), order) for source, seed in own)

    def step(state: Any, batch: Any, request: int) -> tuple[Any, list[dict[str, Array]], int]:
        groups = step_fn(state, batch, seeds)
        return [stepped for stepped, _ in groups], [metrics for _, metrics in groups], request

    def evaluate(state: Any, stream: Stream) -> list[dict[str, float]]:
        sources = [_held_out(own, stream) for own in splits]
        shared = parallel.shard_seeds(mesh, [(np.int32(stream), seed) for seed in noise], parallel.BY_SEED)
        scored = []
        for of_runs in zip(*(batches.in_order(source, size, slice(None)) for source in sources), strict=True):
            groups = zip(state, placed(of_runs), shared, strict=True)
            scored.append(parallel.by_run([score_fn([own], [batch], [key])[0] for own, batch, key in groups]))
        return [means(task, source, parts) for source, parts in zip(sources, zip(*scored, strict=True), strict=True)]

    return Program(
        load, step, lambda state, batch: fingerprint_fn(state, batch, seeds), evaluate,
        lambda state: parallel.split_seeds(mesh, state), None,
    )  # fmt: skip


def bind(fn: Callable, config: Any, stream: Stream | Array) -> Callable:
    """`fn(config, state, batch, key)` as a function of (state, batch, seed), its key derived inside the compiled graph.

    Training has a new key at each step; other streams have one key, so that their figures differ by the state alone.
    The seed, int32 [], is an input: one program serves all seeds. In evaluations the stream may be an input too.
    """

    def bound(state: Any, batch: Any, seed: Array) -> Any:
        step = state.step if stream is Stream.TRAIN else 0
        with jax.default_matmul_precision(layers.matmul_precision(config.precision)):
            return fn(config, state, batch, keys.for_step(keys.root_key(seed), stream, step))

    return bound


def in_turn(step: Callable, num: int) -> Callable:
    """`num` steps in one program, on batches as `stacked` makes them; the metrics are those of the last one."""
    if num == 1:
        return step

    def steps(state: Any, batch: batches.Batch, seed: Array) -> Any:
        parts = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), batch)
        state, metrics = lax.scan(lambda state, part: step(state, part, seed), state, parts)
        return state, jax.tree.map(lambda leaf: leaf[-1], metrics)

    return steps


def stacked(parts: list[batches.Batch]) -> batches.Batch:
    """One batch of several, [b, num, ...]: examples first, along which devices split it; the batch itself if single."""
    return parts[0] if len(parts) == 1 else jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *parts)


def _held_out(splits: Splits, stream: Stream) -> batches.Source:
    return {Stream.VALIDATION: splits.validation, Stream.TEST: splits.test}[stream]


def _last(batch: batches.Batch, num: int) -> batches.Batch:
    return batch if num == 1 else jax.tree.map(lambda leaf: leaf[:, -1], batch)


def fingerprint(state: Any, batch: batches.Batch) -> dict[str, Array]:
    """Of each group of the state's leaves, and of the global batch that it learned from last."""
    own = digest.batch_fingerprint(batch.images, batch.position)
    return digest.fingerprint(state) | {"batch": lax.psum(own, "data")}


def evaluator(task: Task, config: Any, mesh: Mesh) -> Callable[[Any, batches.Source, Stream, int], dict[str, float]]:
    """A function from a state, images, stream and seed to the task's figures over all the images, each counted once.

    One program serves all streams and seeds.
    """
    size = config.data.batch_size

    def score(shared: tuple[Any, Array, Array], batch: batches.Batch) -> Any:
        state, stream, seed = shared
        return bind(task.eval_step, config, stream)(state, batch, seed)

    score_fn = parallel.pmap_eval(score, mesh)

    def evaluate(state: Any, source: batches.Source, stream: Stream, seed: int) -> dict[str, float]:
        shared = (state, parallel.put(mesh, stream), parallel.put(mesh, seed))
        scored = []
        for batch in batches.in_order(source, size, parallel.process_rows(size)):
            scored.append(jax.device_get(score_fn(shared, parallel.shard_batch(mesh, batch))))
        return means(task, source, scored)

    return evaluate


def means(task: Task, source: batches.Source, scored: Sequence[tuple[dict[str, np.ndarray], ...]]) -> dict[str, float]:
    """The task's figures of what it scored, batch by batch in order: for each domain metrics [b].

    Means are taken in float64 on the host, so they differ with the batch size or the devices by no more than one
    image's float32 rounding; what lies beyond the end of a domain is not counted.
    """
    return task.figures({
        name: float(np.mean(np.concatenate([metrics[name] for metrics in parts])[: len(images)], dtype=np.float64))
        for images, parts in zip(source, zip(*scored, strict=True), strict=True)
        for name in parts[0]
    })  # fmt: skip


def _artist(
    task: Task, config: Any, mesh: Mesh, source: batches.Source, workdir: epath.Path
) -> Callable[[int, Any], None]:
    """A function that writes grids of pictures, always from the same keys and the same images, spread over `source`."""
    bound = bind(task.visualize, config, Stream.SAMPLE)
    paint = parallel.pmap_eval(lambda shared, batch: bound(shared[0], batch, shared[1]), mesh)
    seed = parallel.put(mesh, seed_of(config, "noise"))
    num, size = config.train.num_pictures, config.data.batch_size
    spread = tuple(array[np.linspace(0, len(array) - 1, num).astype(int)] for array in source)

    def draw(step: int, state: Any) -> None:
        painted = []
        for batch in batches.in_order(spread, size, parallel.process_rows(size)):
            painted.append(jax.device_get(paint((state, seed), parallel.shard_batch(mesh, batch))))
        if parallel.is_main_process():
            for name in painted[0]:
                pictures = np.concatenate([part[name] for part in painted])[:num]
                _, height, width, _ = pictures.shape
                columns = max(1, round(math.sqrt(num * height / width)))  # a grid that is about square
                grid = images.grid(images.to_uint8(pictures), columns)
                images.write_png(workdir / "samples" / f"{name}-{step:08d}.png", grid)

    return draw
