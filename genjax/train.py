"""The one training loop, for every family: batches in, metrics and checkpoints out, resumed by the same call."""

import contextlib
import logging
import signal
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from clu import parameter_overview
from etils import epath
from jax import Array
from jax.sharding import Mesh

from genjax import checkpoint, digest, files, keys, parallel, records, stopping
from genjax.config import seed_of
from genjax.data import batches, sources
from genjax.data.splits import Splits
from genjax.keys import Stream
from genjax.metrics import Log, Progress, Writer, check_rows, finite, import_tensorboard
from genjax.optim import Net
from genjax.program import Program, for_one
from genjax.task import Task

logger = logging.getLogger(__name__)


class Run(NamedTuple):
    """A run that may begin or go on."""

    config: Any
    workdir: epath.Path
    splits: Splits
    description: dict[str, Any]
    """What is recorded of the images."""
    environment: dict[str, Any]


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


def fit(task: Task, config: Any) -> Result:
    """Trains up to `config.train.num_steps`, from the latest checkpoint in `config.workdir` where there is one.

    SIGINT and SIGTERM, to any one process, make all of them save at the same step and return. Raises ValueError for a
    configuration, data or directory that will not do, before anything is overwritten, and FloatingPointError after
    `max_skips` steps in a row that were not finite.
    """
    mesh = parallel.make_mesh()
    [run] = check([config], mesh)
    records.check_processes(config, run.description)
    (result,) = fit_runs(
        task, [run],
        lambda: _restore_or_init(task, run, mesh),
        lambda: for_one(task, config, run.splits, run.workdir, mesh),
    )  # fmt: skip
    return result


def check(configs: Sequence[Any], mesh: Mesh) -> list[Run]:
    """The runs of `configs`, which differ in workdir and seeds alone, each on `mesh`; nothing is written."""
    records.check_float32()
    parallel.check_batch_size(mesh, configs[0].data.batch_size)
    if configs[0].train.tensorboard:
        import_tensorboard()  # to say now, and not after the images are loaded, that it is not installed
    workdirs = [records.check_workdir(config) for config in configs]
    runs = []
    for config, workdir, splits in zip(configs, workdirs, load(configs), strict=True):
        description = sources.describe(splits)
        records.check_data(workdir, description)
        environment = records.environment(config) | {"devices": mesh.size}
        runs.append(Run(config, workdir, splits, description, environment))
    return runs


def load(configs: Sequence[Any]) -> list[Splits]:
    """The images of each of any number of runs that differ in seeds: the same arrays, unless a seed binarises them."""
    seeds = [seed_of(config, "data") if config.data.binarize == "fixed" else 0 for config in configs]
    by_seed = {seed: sources.load(configs[0].data, seed) for seed in sorted(set(seeds))}
    return [by_seed[seed] for seed in seeds]


def fit_runs(
    task: Task, runs: Sequence[Run], restore: Callable[[], tuple[Any, int]], prepare: Callable[[], Program]
) -> list[Result]:
    """Trains `runs`, which differ in workdir and seeds alone, as one program, from the state and step to begin with."""
    with contextlib.ExitStack() as held:
        for run in runs:
            held.enter_context(records.alone(run.workdir))
        state, start = _begin(runs, restore)
        program = prepare()
        state, step, stopped_by = _train(task, runs, program, state, start)
        finished = step == runs[0].config.train.num_steps
        figures = program.evaluate(state, Stream.TEST) if finished else [{}] * len(runs)
        stopped = None if finished else signal.Signals(stopped_by)
        results = [
            Result(step, own, digest.tree_digest(own), start, stopped, test)
            for own, test in zip(program.of_runs(state), figures, strict=True)
        ]
        if finished and parallel.is_main_process():
            for run, result in zip(runs, results, strict=True):
                record = {"step": step, "digest": result.digest, "test": finite(result.test)}
                files.write_json(run.workdir / "result.json", record)
        return results


def _begin(runs: Sequence[Run], restore: Callable[[], tuple[Any, int]]) -> tuple[Any, int]:
    """The state and the step to begin with; then, as nothing can be wrong any more, writes the runs' records."""
    for run in runs:  # again: another training may have come and gone while the images were loaded
        records.check_workdir(run.config)
        check_rows(run.workdir)
    state, start = restore()
    unfinished = start < runs[0].config.train.num_steps
    for run in runs:
        records.write(run.workdir, run.config, run.description, run.environment if unfinished else None)
        if unfinished and parallel.is_main_process():
            (run.workdir / "result.json").unlink(missing_ok=True)  # of a shorter run
    return state, start


def _train(task: Task, runs: Sequence[Run], program: Program, state: Any, start: int) -> tuple[Any, int, int]:
    """The state after the last step, that step, and the number of the signal that ended training early, or 0."""
    train, size, main = runs[0].config.train, runs[0].config.data.batch_size, parallel.is_main_process()
    several = train.steps_per_dispatch
    skipped = [int(own.skipped) for own in program.of_runs(state)]
    loaded = batches.prefetch(program.load, range(start, train.num_steps, several), runs[0].config.data.prefetch)
    step, stopped_by = start, 0
    with (
        stopping.requests() as requested,  # the first, so that a signal does not end the last saves
        contextlib.ExitStack() as stack,
        contextlib.closing(loaded),
        jax.transfer_guard_host_to_device("disallow"),  # only what is explicit: batches, streams, seeds
    ):
        savers = [stack.enter_context(checkpoint.Saver(run.workdir / "checkpoints", train)) for run in runs]
        writers = [stack.enter_context(_writer(task, run, start)) for run in runs]
        log = Log(writers, stack.enter_context(Progress(start, train.num_steps, size, main)), train, skipped)
        for step, batch in zip(range(start + several, train.num_steps + 1, several), loaded, strict=True):
            state, metrics, stop = program.step(state, batch, requested())
            fingerprints = program.fingerprint(state, batch) if step % train.log_every == 0 else []
            log.after_step(step, metrics, fingerprints, stop)
            last = step == train.num_steps
            scores: list[float | None] = [None] * len(runs)
            if step % train.eval_every == 0 or last:
                log.catch_up()
                figures = program.evaluate(state, Stream.VALIDATION)
                scores = [task.score(of_run) for of_run in figures]
                log.after_evaluation(step, figures)
                if program.draw is not None:
                    program.draw(step, state)
                log.flush()
            stopped_by = log.stopped_by
            if step % train.checkpoint_every == 0 or last or stopped_by:
                log.flush()
                for saver, run, own, score in zip(savers, runs, program.of_runs(state), scores, strict=True):
                    saver.save(step, own, run.environment, score)
            if stopped_by:
                break
    return state, step, stopped_by


def _writer(task: Task, run: Run, start: int) -> Writer:
    health = task.health and task.health(run.config, run.splits)
    return Writer(run.workdir, start, run.config.train.tensorboard, parallel.is_main_process(), health)


def _restore_or_init(task: Task, run: Run, mesh: Mesh) -> tuple[Any, int]:
    """The state to begin with, on every device, and the step it stands at."""

    def init(seed: int | Array) -> Any:
        return task.init(run.config, keys.for_step(keys.root_key(seed), Stream.INIT, 0))

    directory = run.workdir / "checkpoints"
    restored = checkpoint.restore_latest(directory, parallel.abstract(mesh, lambda: init(0)))
    if restored is None:
        state = parallel.replicate(mesh, init, parallel.put(mesh, seed_of(run.config, "init")))
        params = {name: value.params for name, value in state._asdict().items() if isinstance(value, Net)}
        logger.info("\n%s", parameter_overview.get_parameter_overview(params, include_stats=False))
        return state, 0
    several = run.config.train.steps_per_dispatch
    if restored.step % several:
        raise ValueError(
            f"the run in {run.workdir} stands at step {restored.step}, which is no multiple of "
            f"--train.steps-per-dispatch {several}: go on with a number that divides it"
        )
    logger.info("resumed %s from step %d", run.workdir, restored.step)
    checkpoint.set_aside(directory, restored.step)
    warn_of_changes([run], [restored])
    return restored.state, restored.step


def warn_of_changes(runs: Sequence[Run], restored: Sequence[checkpoint.Restored]) -> None:
    """Says what has changed in the environment since checkpoints were saved, once for all runs."""
    pairs = zip(restored, runs, strict=True)
    for line in sorted({line for one, run in pairs for line in records.differences(one.environment, run.environment)}):
        logger.warning("the environment has changed, and the numbers may with it: %s", line)
