"""The one training loop, for every family: batches in, metrics and checkpoints out, resumed by the same call."""

import contextlib
import logging
import math
import signal
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import jax
import numpy as np
from clu import parameter_overview
from etils import epath
from jax import Array, lax
from jax.sharding import Mesh

from genjax import checkpoint, digest, files, images, keys, layers, parallel, records, stopping
from genjax.config import seed_of
from genjax.data import batches, sources
from genjax.data.splits import Splits
from genjax.keys import Stream
from genjax.metrics import Log, Progress, Writer, finite, import_tensorboard
from genjax.optim import Net
from genjax.task import Task

logger = logging.getLogger(__name__)


class Result(NamedTuple):
    """How a call of `fit` ended."""

    step: int
    state: Any
    digest: str
    """SHA-256 of the state."""
    resumed_from: int
    """The step of the checkpoint it went on from; 0 for a fresh start."""
    stopped_by: signal.Signals | None
    """The signal that ended it early, if one did."""
    test: dict[str, float]
    """Metrics on the test images; empty if it ended early."""


def bind(fn: Callable, config: Any, stream: Stream | Array) -> Callable:
    """`fn(config, state, batch, key)` as a function of (state, batch, seed), its key derived inside the compiled graph.

    Training has a new key at each step; other streams have one key, so that their figures differ by the state alone.
    The seed, int32 [], is an input: one program serves all seeds. So may the stream be, of evaluations.
    """

    def bound(state: Any, batch: Any, seed: Array) -> Any:
        step = state.step if stream is Stream.TRAIN else 0
        with jax.default_matmul_precision(layers.matmul_precision(config.precision)):
            return fn(config, state, batch, keys.for_step(keys.root_key(seed), stream, step))

    return bound


def fit(task: Task, config: Any) -> Result:
    """Trains up to `config.train.num_steps`, from the latest checkpoint in `config.workdir` where there is one.

    SIGINT and SIGTERM, to any one process, make all of them save at the same step and return. Raises ValueError for a
    configuration, data or directory that will not do, before anything is overwritten, and FloatingPointError after
    `max_skips` steps in a row that were not finite.
    """
    mesh = parallel.make_mesh()
    workdir, splits, description = _check(config, mesh)
    with records.alone(workdir):
        begun = _begin(task, config, mesh, workdir, description)
        evaluate = evaluator(task, config, mesh)
        state, step, stopped_by = _train(task, config, mesh, splits, begun, evaluate)
        sha = digest.tree_digest(state)
        if step < config.train.num_steps:
            return Result(step, state, sha, begun.step, signal.Signals(stopped_by), {})
        test = evaluate(state, splits.test, Stream.TEST, seed_of(config, "noise"))
        if parallel.is_main_process():
            files.write_json(workdir / "result.json", {"step": step, "digest": sha, "test": finite(test)})
        return Result(step, state, sha, begun.step, None, test)


def _check(config: Any, mesh: Mesh) -> tuple[epath.Path, Splits, dict[str, Any]]:
    """The run's directory, its images, and what is recorded of them; nothing is written."""
    records.check_float32()
    parallel.check_batch_size(mesh, config.data.batch_size)
    if config.train.tensorboard:
        import_tensorboard()  # to say now, and not after the images are loaded, that it is not installed
    workdir = records.check_workdir(config)
    splits = sources.load(config.data, seed_of(config, "data"))
    description = sources.describe(splits)
    records.check_data(workdir, description)
    records.check_processes(config, description)
    return workdir, splits, description


class _Begun(NamedTuple):
    """Where a run stands before this call's first step."""

    workdir: epath.Path
    environment: dict[str, Any]
    state: Any
    step: int


def _begin(task: Task, config: Any, mesh: Mesh, workdir: epath.Path, description: dict[str, Any]) -> _Begun:
    """Restores or makes the state; then, as nothing can be wrong any more, writes the run's records."""
    records.check_workdir(config)  # again: another training may have come and gone while the images were loaded
    environment = records.environment(config)
    state, step = _restore_or_init(task, config, mesh, workdir, environment)
    finished = step == config.train.num_steps
    records.write(workdir, config, description, None if finished else environment)  # where nothing is trained any more
    return _Begun(workdir, environment, state, step)


def _train(
    task: Task, config: Any, mesh: Mesh, splits: Splits, begun: _Begun, evaluate: Callable[..., dict[str, float]]
) -> tuple[Any, int, int]:
    """The state after the last step, that step, and the number of the signal that ended training early, or 0."""
    workdir, environment, state, start = begun
    train, size, main = config.train, config.data.batch_size, parallel.is_main_process()
    several = train.steps_per_dispatch
    step_fn, fingerprint_fn = _step_functions(task, config, mesh)
    draw = _artist(task, config, mesh, splits.validation, workdir)
    loaded = _prefetched(config, mesh, splits.train, range(start, train.num_steps, several))
    flags, seed = stopping.flags(mesh), parallel.put(mesh, seed_of(config, "noise"))
    health = task.health and task.health(config, splits)
    step, stopped_by = start, 0
    if start < train.num_steps and main:
        (workdir / "result.json").unlink(missing_ok=True)  # of a shorter run
    with (
        stopping.requests() as requested,  # the first, so that a signal does not end the last save
        checkpoint.Saver(workdir / "checkpoints", train) as checkpoints,
        Writer(workdir, start, train.tensorboard, main, health) as writer,
        Progress(start, train.num_steps, size, main) as progress,
        contextlib.closing(loaded),
        jax.transfer_guard_host_to_device("disallow"),  # only what is explicit: batches, streams, seeds
    ):
        log = Log(writer, progress, train, skipped=int(state.skipped))
        for step, batch in zip(range(start + several, train.num_steps + 1, several), loaded, strict=True):
            state, (metrics, stop) = step_fn(state, (batch, flags[requested()]), seed)
            log.after_step(step, metrics, fingerprint_fn(state, batch) if step % train.log_every == 0 else {}, stop)
            last, score = step == train.num_steps, None
            if step % train.eval_every == 0 or last:
                log.catch_up()
                figures = evaluate(state, splits.validation, Stream.VALIDATION, seed_of(config, "noise"))
                score = task.score(figures)
                figures = {f"validation/{name}": value for name, value in figures.items()}
                writer.write(step, figures)
                progress.report(step, figures)
                draw(step, state)
                writer.flush()
            stopped_by = log.stopped_by
            if step % train.checkpoint_every == 0 or last or stopped_by:
                log.catch_up()
                writer.flush()
                checkpoints.save(step, state, environment, score)
            if stopped_by:
                break
    return state, step, stopped_by


def _step_functions(task: Task, config: Any, mesh: Mesh) -> tuple[Callable, Callable]:
    """One dispatch of training, and the fingerprints of what it left and of what it learned from last."""
    several = config.train.steps_per_dispatch
    step = bind(task.train_step, config, Stream.TRAIN)
    step_fn = parallel.pmap_train(stopping.stoppable(in_turn(step, several)), mesh)
    fingerprint_fn = parallel.pmap(
        lambda state, batch: fingerprint(state, _last(batch, several)), mesh,
        (parallel.REPLICATED, parallel.SPLIT), parallel.REPLICATED,
    )  # fmt: skip
    return step_fn, fingerprint_fn


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


def _last(batch: batches.Batch, num: int) -> batches.Batch:
    return batch if num == 1 else jax.tree.map(lambda leaf: leaf[:, -1], batch)


def fingerprint(state: Any, batch: batches.Batch) -> dict[str, Array]:
    """Of each group of the state's leaves, and of the global batch that it learned from last."""
    own = digest.batch_fingerprint(batch.images, batch.position)
    return digest.fingerprint(state) | {"batch": lax.psum(own, "data")}


def evaluator(task: Task, config: Any, mesh: Mesh) -> Callable[[Any, batches.Source, Stream, int], dict[str, float]]:
    """A function from a state, images, stream and seed to the task's figures over all the images, each counted once.

    Means are taken in float64 on the host, so they differ with the batch size or the devices by no more than one
    image's float32 rounding. One program serves all streams and seeds.
    """
    size = config.data.batch_size

    def score(shared: tuple[Any, Array, Array], batch: batches.Batch) -> Any:
        state, stream, seed = shared
        return bind(task.eval_step, config, stream)(state, batch, seed)

    score_batch = parallel.pmap_eval(score, mesh)

    def evaluate(state: Any, source: batches.Source, stream: Stream, seed: int) -> dict[str, float]:
        shared = (state, parallel.put(mesh, stream), parallel.put(mesh, seed))
        scored = []
        for batch in batches.in_order(source, size, parallel.process_rows(size)):
            scored.append(jax.device_get(score_batch(shared, parallel.shard_batch(mesh, batch))))
        return task.figures({
            name: float(np.mean(np.concatenate([metrics[name] for metrics in parts])[: len(images)], dtype=np.float64))
            for images, parts in zip(source, zip(*scored, strict=True), strict=True)
            for name in parts[0]
        })  # fmt: skip

    return evaluate


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


def _prefetched(config: Any, mesh: Mesh, source: batches.Source, steps: range) -> Generator[batches.Batch, None, None]:
    """The training batches from each of `steps` to the next, on the devices."""
    size, seed = config.data.batch_size, seed_of(config, "data")
    rows = parallel.process_rows(size)

    def load(step: int) -> batches.Batch:
        parts = [batches.load(source, seed, s, size, rows) for s in range(step, step + steps.step)]
        return parallel.shard_batch(mesh, stacked(parts))

    return batches.prefetch(load, steps, config.data.prefetch)


def _restore_or_init(
    task: Task, config: Any, mesh: Mesh, workdir: epath.Path, environment: dict[str, Any]
) -> tuple[Any, int]:
    """The state to begin with and the step it stands at."""

    def init(seed: int | Array) -> Any:
        return task.init(config, keys.for_step(keys.root_key(seed), Stream.INIT, 0))

    directory = workdir / "checkpoints"
    restored = checkpoint.restore_latest(directory, parallel.abstract(mesh, lambda: init(0)))
    if restored is None:
        state = parallel.replicate(mesh, init, parallel.put(mesh, seed_of(config, "init")))
        params = {name: value.params for name, value in state._asdict().items() if isinstance(value, Net)}
        logger.info("\n%s", parameter_overview.get_parameter_overview(params, include_stats=False))
        return state, 0
    several = config.train.steps_per_dispatch
    if restored.step % several:
        raise ValueError(
            f"the run in {workdir} stands at step {restored.step}, which is no multiple of --train.steps-per-dispatch "
            f"{several}: go on with a number that divides it"
        )
    logger.info("resumed %s from step %d", workdir, restored.step)
    checkpoint.set_aside(directory, restored.step)
    for line in records.differences(restored.environment, environment):
        logger.warning("the environment has changed, and the numbers may with it: %s", line)
    return restored.state, restored.step
