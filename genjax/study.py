"""Many runs at once that differ in their seeds alone: one program for all, an ordinary run directory for each."""

import contextlib
import dataclasses
import logging
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

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


def fit_together(task: Task, configs: Sequence[Any]) -> list[Result]:
    """Trains all of `configs`, which differ in workdir and seeds alone, from the latest step that all of them saved.

    Each comes to the digest of `train.fit(task, config)` on as many devices as it has here (those of a row of
    `parallel.make_seed_mesh`), and either may resume what the other began. Pictures and TensorBoard are left out.
    Errors and signals are as for `fit`; ValueError also for configurations that differ otherwise, and in one of several
    processes.
    """
    records.check_types()
    _check_alike(configs)
    mesh = parallel.make_seed_mesh(len(configs))
    row = parallel.make_mesh(list(mesh.devices[0]))
    parallel.check_batch_size(row, configs[0].data.batch_size)
    workdirs = [records.check_workdir(config) for config in configs]
    splits, environment = load(configs), records.environment(configs[0]) | {"devices": row.size}
    descriptions = [sources.describe(split) for split in splits]
    for workdir, description in zip(workdirs, descriptions, strict=True):
        records.check_data(workdir, description)
    with contextlib.ExitStack() as held:
        for workdir in workdirs:
            held.enter_context(records.alone(workdir))
        return _fit_alone(task, configs, mesh, workdirs, splits, descriptions, environment)


def _fit_alone(
    task: Task, configs: Sequence[Any], mesh: Mesh, workdirs: Sequence[epath.Path], splits: Sequence[Splits],
    descriptions: Sequence[dict[str, Any]], environment: dict[str, Any],
) -> list[Result]:  # fmt: skip
    """`fit_together` in directories that no other training is in."""
    train, row = configs[0].train, parallel.make_mesh(list(mesh.devices[0]))
    single, start = _restore_or_init(task, configs, workdirs, row, environment)
    for config, workdir, description in zip(configs, workdirs, descriptions, strict=True):
        records.write(workdir, config, description, environment if start < train.num_steps else None)
        if start < train.num_steps:
            (workdir / "result.json").unlink(missing_ok=True)  # of a shorter run

    step_fn = parallel.pmap_seeds(bind(task.train_step, configs[0], Stream.TRAIN), mesh, donate=(0,))
    fingerprint_fn = parallel.pmap_seeds(lambda state, batch, seed: fingerprint(state, batch), mesh)
    validate = _evaluator(task, configs, mesh, [split.validation for split in splits], Stream.VALIDATION)
    states = parallel.shard_seeds(mesh, single, parallel.BY_SEED)
    seeds = parallel.shard_seeds(mesh, [np.int32(seed_of(c, "noise")) for c in configs], parallel.BY_SEED)
    loaded = _prefetched(configs, mesh, [split.train for split in splits], range(start, train.num_steps))
    step, stopped_by = start, 0
    with (
        stopping.requests() as requested,  # the first, so that a signal does not end the last saves
        _recording(task, configs, splits, workdirs, start, single, environment) as recorded,
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
                figures = validate(parallel.split_seeds(mesh, states))
                scores = [task.score(of_run) for of_run in figures]
                recorded.after_evaluation(step, figures)
            stopped_by = requested()
            if step % train.checkpoint_every == 0 or last or stopped_by:
                recorded.save(step, parallel.split_seeds(mesh, states), scores)
            if stopped_by:
                break

    finished = step == train.num_steps
    test = _evaluator(task, configs, mesh, [split.test for split in splits], Stream.TEST)
    final = parallel.split_seeds(mesh, states)
    figures = test(final) if finished else [{}] * len(configs)
    results = []
    for workdir, state, of_run in zip(workdirs, final, figures, strict=True):
        sha = digest.tree_digest(state)
        if finished:
            files.write_json(workdir / "result.json", {"step": step, "digest": sha, "test": finite(of_run)})
        stopped = None if finished else signal.Signals(stopped_by)
        results.append(Result(step, state, sha, start, stopped, of_run))
    return results


@contextlib.contextmanager
def _recording(
    task: Task, configs: Sequence[Any], splits: Sequence[Splits], workdirs: Sequence[epath.Path], start: int,
    states: Sequence[Any], environment: dict[str, Any],
) -> Iterator["_Records"]:  # fmt: skip
    """Opens what all runs write down, each in its directory."""
    train, size = configs[0].train, configs[0].data.batch_size
    with contextlib.ExitStack() as stack:
        savers = [stack.enter_context(checkpoint.Writer(workdir / "checkpoints", train)) for workdir in workdirs]
        writers, logs = [], []
        for i, (config, images, workdir, state) in enumerate(zip(configs, splits, workdirs, states, strict=True)):
            health = task.health and task.health(config, images)
            writers.append(stack.enter_context(Writer(workdir, start, tensorboard=False, health=health)))
            progress = stack.enter_context(Progress(start, train.num_steps, size, active=i == 0))
            logs.append(Log(writers[-1], progress, train, int(state.skipped)))
        yield _Records(workdirs, savers, writers, logs, environment)


class _Records:
    """What all runs of a study write down."""

    def __init__(
        self, workdirs: Sequence[epath.Path], savers: Sequence[checkpoint.Writer], writers: Sequence[Writer],
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
                    log.finish()
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


def _restore_or_init(
    task: Task, configs: Sequence[Any], workdirs: Sequence[epath.Path], mesh: Mesh, environment: dict[str, Any]
) -> tuple[list[Any], int]:
    """The states to begin with, on the host, and the step that all of them stand at."""
    init = jax.jit(lambda seed: task.init(configs[0], keys.for_step(keys.root_key(seed), Stream.INIT, 0)))
    abstract = parallel.abstract(mesh, lambda: init(0))
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
        changed = {line for one in restored for line in records.differences(one.environment, environment)}
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


def _evaluator(
    task: Task, configs: Sequence[Any], mesh: Mesh, images: Sequence[batches.Source], stream: Stream
) -> Callable[[Sequence[Any]], list[dict[str, float]]]:
    """A function from the states of all runs to the figures of each."""
    rows = [parallel.make_mesh(list(devices)) for devices in mesh.devices]
    functions = [
        evaluator(task, config, rows[i % len(rows)], source, stream)
        for i, (config, source) in enumerate(zip(configs, images, strict=True))
    ]
    return lambda states: [evaluate(state) for evaluate, state in zip(functions, states, strict=True)]


def _prefetched(
    configs: Sequence[Any], mesh: Mesh, images: Sequence[batches.Source], steps: range
) -> Generator[Any, None, None]:
    """The training batches of all runs at `steps`, on the devices."""
    data = configs[0].data

    def load(step: int) -> Any:
        loaded = [
            batches.load(source, seed_of(config, "data"), step, data.batch_size, slice(None))
            for config, source in zip(configs, images, strict=True)
        ]
        return parallel.shard_seeds(mesh, loaded, parallel.BY_SEED_AND_DATA)

    return batches.prefetch(load, steps, data.prefetch)
