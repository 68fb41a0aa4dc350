"""Many runs at once that differ in their seeds alone: one program for all, an ordinary run directory for each."""

import contextlib
import dataclasses
import itertools
import logging
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh

from genjax import checkpoint, digest, files, keys, parallel, records, stopping
from genjax.config import SeedConfig, seed_of
from genjax.data import batches, sources
from genjax.data.splits import Splits
from genjax.keys import Stream
from genjax.metrics import Log, Progress, Writer, finite
from genjax.task import Task
from genjax.train import Result, bind, evaluator, fingerprint

logger = logging.getLogger(__name__)


class _Runs(NamedTuple):
    """The runs of a study, side by side."""

    task: Task
    configs: Sequence[Any]
    mesh: Mesh
    workdirs: Sequence[epath.Path]
    splits: Sequence[Splits]
    environment: dict[str, Any]


def fit_together(task: Task, configs: Sequence[Any]) -> list[Result]:
    """Trains all of `configs`, which differ in workdir and seeds alone, from the latest step that all of them saved.

    Each comes to the digest of `train.fit(task, config)` on as many devices as it has here (those of a row of
    `parallel.make_seed_mesh`), and either may resume what the other began. Pictures and TensorBoard are left out.
    Errors and signals are as for `fit`; ValueError also for configurations that differ otherwise, and in one of several
    processes.
    """
    runs, descriptions = _check(task, configs)
    with contextlib.ExitStack() as held:
        for workdir in runs.workdirs:
            held.enter_context(records.alone(workdir))
        initial, start = _begin(runs, descriptions)
        evaluate = _evaluator(runs)
        states, step, stopped_by = _train(runs, initial, start, evaluate)
        finished = step == configs[0].train.num_steps
        stopped = None if finished else signal.Signals(stopped_by)
        figures = evaluate(states, Stream.TEST) if finished else [{}] * len(configs)
        results = []
        for workdir, state, of_run in zip(runs.workdirs, states, figures, strict=True):
            results.append(Result(step, state, digest.tree_digest(state), start, stopped, of_run))
            if finished:
                record = {"step": step, "digest": results[-1].digest, "test": finite(of_run)}
                files.write_json(workdir / "result.json", record)
        return results


def _check(task: Task, configs: Sequence[Any]) -> tuple[_Runs, list[dict[str, Any]]]:
    """The runs, and what is recorded of the images of each; nothing is written."""
    records.check_float32()
    _check_alike(configs)
    mesh = parallel.make_seed_mesh(len(configs))
    row = parallel.make_mesh(list(mesh.devices[0]))
    parallel.check_batch_size(row, configs[0].data.batch_size)
    workdirs = [records.check_workdir(config) for config in configs]
    splits = load(configs)
    descriptions = [sources.describe(images) for images in splits]
    for workdir, description in zip(workdirs, descriptions, strict=True):
        records.check_data(workdir, description)
    environment = records.environment(configs[0]) | {"devices": row.size}
    return _Runs(task, configs, mesh, workdirs, splits, environment), descriptions


def _begin(runs: _Runs, descriptions: Sequence[dict[str, Any]]) -> tuple[list[Any], int]:
    """The states to begin with, on the host, and the step that all stand at; writes the runs' records."""
    states, start = _restore_or_init(runs)
    unfinished = start < runs.configs[0].train.num_steps
    for config, workdir, description in zip(runs.configs, runs.workdirs, descriptions, strict=True):
        records.write(workdir, config, description, runs.environment if unfinished else None)
        if unfinished:
            (workdir / "result.json").unlink(missing_ok=True)  # of a shorter run
    return states, start


def _train(
    runs: _Runs, initial: Sequence[Any], start: int, evaluate: Callable[..., list[dict[str, float]]]
) -> tuple[list[Any], int, int]:
    """The states after the last step, that step, and the number of the signal that ended training early, or 0."""
    task, configs, mesh = runs.task, runs.configs, runs.mesh
    train = configs[0].train
    step_fn = parallel.pmap_seeds(bind(task.train_step, configs[0], Stream.TRAIN), mesh, donate=(0,))
    fingerprint_fn = parallel.pmap_seeds(lambda state, batch, seed: fingerprint(state, batch), mesh)
    states = parallel.shard_seeds(mesh, initial, parallel.BY_SEED)
    seeds = parallel.shard_seeds(mesh, [np.int32(seed_of(c, "noise")) for c in configs], parallel.BY_SEED)
    loaded = _prefetched(runs, range(start, train.num_steps))
    step, stopped_by = start, 0
    with (
        stopping.requests() as requested,  # the first, so that a signal does not end the last saves
        _recording(runs, initial, start) as recorded,
        contextlib.closing(loaded),
        jax.transfer_guard_host_to_device("disallow"),
    ):
        for step, batch in enumerate(loaded, start + 1):
            stepped = step_fn(states, batch, seeds)
            states, metrics = [state for state, _ in stepped], [metrics for _, metrics in stepped]
            fingerprints = fingerprint_fn(states, batch, seeds) if step % train.log_every == 0 else None
            recorded.after_step(step, metrics, fingerprints)
            last = step == train.num_steps
            scores: list[float | None] = [None] * len(configs)
            if step % train.eval_every == 0 or last:
                figures = evaluate(parallel.split_seeds(mesh, states), Stream.VALIDATION)
                scores = [task.score(of_run) for of_run in figures]
                recorded.after_evaluation(step, figures)
            stopped_by = requested()
            if step % train.checkpoint_every == 0 or last or stopped_by:
                recorded.save(step, parallel.split_seeds(mesh, states), scores)
            if stopped_by:
                break
    return parallel.split_seeds(mesh, states), step, stopped_by


@contextlib.contextmanager
def _recording(runs: _Runs, initial: Sequence[Any], start: int) -> Iterator["_Records"]:
    """Opens what all runs write down, each in its directory."""
    train, size = runs.configs[0].train, runs.configs[0].data.batch_size
    of_runs = zip(runs.configs, runs.splits, runs.workdirs, initial, strict=True)
    with contextlib.ExitStack() as stack:
        savers = [stack.enter_context(checkpoint.Saver(workdir / "checkpoints", train)) for workdir in runs.workdirs]
        writers, logs = [], []
        for i, (config, images, workdir, state) in enumerate(of_runs):
            health = runs.task.health and runs.task.health(config, images)
            writers.append(stack.enter_context(Writer(workdir, start, tensorboard=False, health=health)))
            progress = stack.enter_context(Progress(start, train.num_steps, size, active=i == 0))
            logs.append(Log(writers[-1], progress, train, int(state.skipped)))
        yield _Records(runs.workdirs, savers, writers, logs, runs.environment)


class _Records:
    """What all runs of a study write down."""

    def __init__(
        self, workdirs: Sequence[epath.Path], savers: Sequence[checkpoint.Saver], writers: Sequence[Writer],
        logs: Sequence[Log], environment: dict[str, Any],
    ):  # fmt: skip
        self._workdirs, self._savers, self._writers, self._logs = workdirs, savers, writers, logs
        self._environment = environment
        self._pending: tuple[int, Any, Any] | None = None

    def after_step(self, step: int, metrics: Sequence[Any], fingerprints: Sequence[Any] | None) -> None:
        """Takes what the devices may still be computing, and writes down what they computed the step before."""
        self._write_pending()
        self._pending = step, metrics, fingerprints

    def after_evaluation(self, step: int, figures: Sequence[dict[str, float]]) -> None:
        """A row of validation figures for each run."""
        self._write_pending()
        for writer, of_run in zip(self._writers, figures, strict=True):
            writer.write(step, {f"validation/{name}": value for name, value in of_run.items()})

    def save(self, step: int, states: Sequence[Any], scores: Sequence[float | None]) -> None:
        """A checkpoint for each run."""
        self._write_pending()
        for writer, saver, state, score in zip(self._writers, self._savers, states, scores, strict=True):
            writer.flush()
            saver.save(step, state, self._environment, score)

    def _write_pending(self) -> None:
        if self._pending is not None:
            (step, metrics, fingerprints), self._pending = self._pending, None
            of_runs = _of_runs(metrics)
            printed = [{}] * len(of_runs) if fingerprints is None else _of_runs(fingerprints)
            for workdir, log, row, fingerprint_row in zip(self._workdirs, self._logs, of_runs, printed, strict=True):
                try:
                    log.after_step(step, row, fingerprint_row, stop=0)
                    log.catch_up()
                except FloatingPointError as error:
                    raise FloatingPointError(f"{workdir}: {error}") from error


def _of_runs(groups: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One dictionary of scalars for each run, from dictionaries of [rows]."""
    host = jax.device_get(list(groups))
    return [
        {name: values[row] for name, values in group.items()}
        for group in host
        for row in range(len(next(iter(group.values()))))
    ]


def _check_alike(configs: Sequence[Any]) -> None:
    if jax.process_count() > 1:
        raise ValueError("a study of seeds runs in one process, and this is one of several")
    alike = [dataclasses.replace(config, workdir="", seed=0, seeds=SeedConfig()) for config in configs]
    if any(config != alike[0] for config in alike):
        raise ValueError("the runs of a study may differ in workdir and seeds alone")
    if configs[0].train.steps_per_dispatch > 1:
        raise ValueError("a study of seeds takes one step at a time: leave --train.steps-per-dispatch at 1")
    workdirs = [config.workdir for config in configs]
    if len(set(workdirs)) < len(workdirs):
        raise ValueError(f"each run of a study needs a workdir of its own, got {workdirs}")


def load(configs: Sequence[Any]) -> list[Splits]:
    """The images of each of any number of runs that differ in seeds: the same arrays, unless a seed binarises them."""
    seeds = [seed_of(config, "data") if config.data.binarize == "fixed" else 0 for config in configs]
    by_seed = {seed: sources.load(configs[0].data, seed) for seed in sorted(set(seeds))}
    return [by_seed[seed] for seed in seeds]


def _restore_or_init(runs: _Runs) -> tuple[list[Any], int]:
    """The states to begin with, on the host, and the step that all of them stand at."""
    task, configs, workdirs = runs.task, runs.configs, runs.workdirs
    init = jax.jit(lambda seed: task.init(configs[0], keys.for_step(keys.root_key(seed), Stream.INIT, 0)))
    abstract = parallel.abstract(parallel.make_mesh(list(runs.mesh.devices[0])), lambda: init(0))
    directories = [workdir / "checkpoints" for workdir in workdirs]
    saved = [checkpoint.steps(directory) for directory in directories]
    shared = set.intersection(*map(set, saved))
    for step in sorted(shared, reverse=True):
        try:
            restored = [checkpoint.restore(directory, step, abstract) for directory in directories]
        except ValueError as error:
            logger.warning("%s", error)
            continue
        logger.info("resumed %d runs from step %d", len(configs), step)
        for directory in directories:
            checkpoint.set_aside(directory, step, "unshared")  # some may have saved once more than others
        changed = {line for one in restored for line in records.differences(one.environment, runs.environment)}
        for line in sorted(changed):
            logger.warning("the environment has changed, and the numbers may with it: %s", line)
        return [jax.device_get(one.state) for one in restored], step
    if _ended_in_first_save(workdirs, saved):
        for directory in directories:
            checkpoint.set_aside(directory, 0, "unshared")
    elif any(saved):
        raise ValueError(
            f"the runs in {workdirs[0].parent} have no whole checkpoint of the same step: remove those that were not "
            "begun together, or choose another --workdir"
        )
    return [jax.device_get(init(np.int32(seed_of(config, "init")))) for config in configs], 0


def _ended_in_first_save(workdirs: Sequence[epath.Path], saved: Sequence[Sequence[int]]) -> bool:
    """Whether all runs began together, and some have saved the first checkpoint when they ended, and others none."""
    began = all((workdir / "config.json").exists() for workdir in workdirs)
    finished = any((workdir / "result.json").exists() for workdir in workdirs)
    once = len({step for steps in saved for step in steps}) == 1
    return began and once and not finished and not all(saved)


def _evaluator(runs: _Runs) -> Callable[[Sequence[Any], Stream], list[dict[str, float]]]:
    """A function from the states of all runs to the figures of each over its validation or test images."""
    meshes = [parallel.make_mesh(list(devices)) for devices in runs.mesh.devices]
    of_rows = [evaluator(runs.task, runs.configs[0], mesh) for mesh in meshes]

    def evaluate(states: Sequence[Any], stream: Stream) -> list[dict[str, float]]:
        figures = []
        for of_row, state, config, images in zip(itertools.cycle(of_rows), states, runs.configs, runs.splits):  # noqa: B905
            source = {Stream.VALIDATION: images.validation, Stream.TEST: images.test}[stream]
            figures.append(of_row(state, source, stream, seed_of(config, "noise")))
        return figures

    return evaluate


def _prefetched(runs: _Runs, steps: range) -> Generator[Any, None, None]:
    """The training batches of all runs at `steps`, on the devices."""
    data = runs.configs[0].data

    def load(step: int) -> Any:
        loaded = [
            batches.load(images.train, seed_of(config, "data"), step, data.batch_size, slice(None))
            for config, images in zip(runs.configs, runs.splits, strict=True)
        ]
        return parallel.shard_seeds(runs.mesh, loaded, parallel.BY_SEED_AND_DATA)

    return batches.prefetch(load, steps, data.prefetch)
