"""Training loop for every family: batches in, metrics and checkpoints out; the same call resumes a run."""

import contextlib
import dataclasses
import functools
import logging
import math
import signal
from collections.abc import Callable
from typing import Generic, NamedTuple

import jax
from clu import parameter_overview
from etils import epath
from jax import Array
from jax.sharding import Mesh

from genjax import files, keys, parallel
from genjax.compiled import TrainStep, compile_train_step
from genjax.config import seed_of
from genjax.data import batches
from genjax.evaluation import best
from genjax.files import Json
from genjax.keys import SCORING_SEED, Stream
from genjax.optim import Net
from genjax.task import C, Evaluate, Parts, S, Split, Task
from genjax.train import checkpoint, fingerprint, preemption, profiling, run_directory, sample_images, starts, trackers
from genjax.train.log import NONFINITE_REMEDY, Log, Progress, figures
from genjax.train.rows import finite
from genjax.train.run_directory import Run
from genjax.train.writers import Writer

logger = logging.getLogger(__name__)


class Programs(NamedTuple, Generic[S]):
    """Compiled functions of a training. Seeds are inputs, so runs that differ only in seeds share them."""

    train_step: TrainStep[S]
    fingerprint: fingerprint.Fingerprint[S]
    check_replicas: fingerprint.CheckReplicas
    evaluate: list[Evaluate[S]]
    write_grids: sample_images.WriteGrids[S]


class Result(NamedTuple, Generic[S]):
    """Outcome of a call of `fit`."""

    step: int
    state: S
    digest: str  # SHA-256 of the state
    resumed_from: int  # step of the checkpoint that training resumed from; 0 for a fresh start
    stopped_by: signal.Signals | None  # signal that stopped training early, or None
    test: dict[str, float]  # metrics on the test images; empty if training was stopped early


def compile_programs(task: Task[C, S], config: C, mesh: Mesh) -> Programs[S]:
    """Prepares the programs of a training; each compiles at its first call."""
    return Programs(
        compile_train_step(task, config, mesh),
        fingerprint.compile_fingerprint(mesh, config.train.steps_per_dispatch),
        fingerprint.compile_check_replicas(mesh),
        [*(evaluator(config, mesh) for evaluator in task.evaluators), best.compile_distance(task, config, mesh)],
        sample_images.compile_grids(task, config, mesh),
    )


MakePrograms = Callable[[Task[C, S], C, Mesh], Programs[S]]


def no_report(workdir: epath.Path) -> None:
    """Does nothing after an evaluation."""


def fit(
    task: Task[C, S],
    config: C,
    make_programs: MakePrograms = compile_programs,
    after_evaluation: Callable[[epath.Path], object] = no_report,
) -> Result[S]:
    """Trains up to `config.train.num_steps`, from the latest checkpoint in `config.workdir` if there is one.

    Process 0 calls `after_evaluation` with the run's directory, whose rows and grids are on the disk then.
    After SIGINT or SIGTERM to any one process, all processes save at the same step and return. Raises ValueError for an
    invalid configuration, data or directory, before anything is overwritten, and OSError if rows or a checkpoint cannot
    be written. Raises FloatingPointError if the loss or a gradient was not finite in `max_nonfinite_steps` steps in a
    row or in all steps, if the test score is not finite, and instead of saving a state that devices do not share.
    """
    if task.load_constants is not None:
        config, _ = task.load_constants(config)  # checks that the files are those that the run began with
    config, start_parts = starts.prepared(task, config)
    mesh = parallel.make_mesh()
    with run_directory.opened(task, config, mesh) as run:
        config = run.config  # with epochs as steps, and all that was automatic decided
        programs = make_programs(task, config, mesh)
        state, start, covered = _restore_or_init(task, run, mesh, start_parts)
        monitor = task.monitor(config, run.splits) if task.monitor else None
        tracked = trackers.Start(run.workdir, start, files.flatten(dataclasses.asdict(config)))
        start_trackers = functools.partial(trackers.make, config.train.track, tracked)
        writer = Writer(run.workdir, covered, parallel.is_main_process(), monitor, start_trackers)
        # ORDER MATTERS: all checks are done, so from here on files of an earlier run may be overwritten.
        run_directory.write(run, unfinished=start < config.train.num_steps)
        state, step, stopped_by = _train(task, run, mesh, programs, writer, state, start, after_evaluation)
        if step < config.train.num_steps:
            return Result(step, state, fingerprint.tree_digest(state), start, signal.Signals(stopped_by), {})
        logger.info("evaluating the test images ...")
        test = evaluate(programs, run, state, "test")
        _check_learned(task, run, state, test)
        logger.info("%s", "  ".join([f"step {step} of {step}  test", *figures(test, task.headline)]))
        result = Result(step, state, fingerprint.tree_digest(state), start, None, test)
        record = {"step": step, "digest": result.digest, "scoring_seed": SCORING_SEED, "test": finite(result.test)}
        run_directory.write_result(run, record)
        return result


def _train(
    task: Task[C, S], run: Run[C], mesh: Mesh, programs: Programs[S], writer: Writer, state: S, start: int,
    after_evaluation: Callable[[epath.Path], object],
) -> tuple[S, int, int]:  # fmt: skip
    """Runs the loop; returns the last state, its step, and the signal that stopped training early, or 0."""
    train, data, main = run.config.train, run.config.data, parallel.is_main_process()
    several, scored_by = train.steps_per_dispatch, best.score_title(task, train.best_by)
    noise_seed, data_seed = seed_of(run.config, "noise"), seed_of(run.config, "data")
    seed, signals = parallel.replicate_scalar(mesh, noise_seed), preemption.per_device(mesh)
    load = batches.loader(run.splits.train, data.batch_size, data_seed, several, data.train_pairs, run.pairs)
    # Batches that are decoded on demand may be of one image each: several are then decoded at a time.
    threads = data.prefetch if data.cache == "none" else 1
    ahead = range(start, train.num_steps, several)
    loaded = batches.prefetch(lambda step: parallel.shard_batch(mesh, load(step)), ahead, data.prefetch, threads)
    step = start  # returned as it is, if no step is left to train
    with (
        preemption.requests() as requested,  # entered first and left last, so a signal cannot interrupt the last save
        checkpoint.Saver(run.workdir / "checkpoints", train, run_directory.finished_steps(run.workdir)) as saver,
        writer,
        Progress(start, train.num_steps, data.batch_size, task.headline, main, scored_by) as progress,
        profiling.profiled(run.workdir / "profile", train.profiled_steps) as profile,
        contextlib.closing(loaded),
        jax.transfer_guard_host_to_device("disallow"),  # an accidental copy to the device in the loop is an error
    ):
        log = Log(writer, progress, train, int(state.skipped), saver.best_score)
        profile(start, state)  # where a trace begins that has the first step in it
        for step, batch in zip(range(start + several, train.num_steps + 1, several), loaded, strict=True):
            # The state is donated: its old arrays are gone after this.
            state, metrics, stop = programs.train_step(state, batch, seed, signals[requested()])
            fingerprints = programs.fingerprint(state, batch) if step % train.log_every == 0 else {}
            # Dispatch is asynchronous. Reading the metrics of the step before keeps the host ahead of the device.
            log.after_step(step, metrics, fingerprints, stop)
            profile(step, state)
            last, score = step == train.num_steps, None
            if step % train.eval_every == 0 or last:
                log.before_evaluation(step)
                found = evaluate(programs, run, state, "validation")
                score = best.score(task, run.config.train.best_by, found)
                log.after_evaluation(step, found, score, saved=step % train.checkpoint_every == 0 or last)
                grids = programs.write_grids(run.workdir, step, state, run.splits, noise_seed)
                writer.write_pictures(step, grids)
                log.flush()  # the report reads rows from the disk
                if main and last:
                    sample_images.write_growth(run.workdir, grids)
                if main:
                    after_evaluation(run.workdir)
            if step % train.checkpoint_every == 0 or last or log.stopped_by:
                # ORDER MATTERS: rows must be on the disk before the checkpoint that covers them. Resuming cuts off rows
                # after the checkpoint, and could not write missing ones again.
                log.flush()
                programs.check_replicas(step, state)
                saver.save(step, state, run.environment, score, writer.covered)
            if log.stopped_by:
                break
        return state, step, log.stopped_by


def _check_learned(task: Task[C, S], run: Run[C], state: S, test: dict[str, float]) -> None:
    """Raises FloatingPointError if all steps were skipped, or the test score is not finite."""
    skipped, steps = int(state.skipped), run.config.train.num_steps
    score = best.score(task, run.config.train.best_by, test)
    # Standard errors are NaN for a single image, or a single draw of the noise.
    figures = [value for name, value in test.items() if not name.endswith("_se")] if score is None else [score]
    if skipped == steps or not all(map(math.isfinite, figures)):
        raise FloatingPointError(
            f"{run.workdir}: the training diverged. The loss or a gradient was not finite in {skipped} of {steps} "
            f"steps, and there is no result. {NONFINITE_REMEDY}"
        )


def evaluate(programs: Programs[S], run: Run, state: S, split: Split) -> dict[str, float]:
    """Returns the metrics of all evaluators; raises ValueError if two evaluators use one name."""
    found: dict[str, float] = {}
    for evaluator in programs.evaluate:
        metrics = evaluator(state, run.splits, split)
        if twice := found.keys() & metrics.keys():
            raise ValueError(f"two evaluators give the metric {min(twice)}: rename one")
        found |= metrics
    return found


def _restore_or_init(task: Task[C, S], run: Run[C], mesh: Mesh, start_parts: Parts | None) -> tuple[S, int, Json]:
    """Returns the restored or initial state, on every device, its step, and the rows that the checkpoint covers.

    An initial state begins with `start_parts`.
    """

    def init(seed: int | Array) -> S:
        return task.init(run.config, keys.for_step(keys.root_key(seed), Stream.INIT, 0))

    directory = run.workdir / "checkpoints"
    # `init` is traced for shapes and types here, which no seed changes.
    restored = checkpoint.restore_latest(directory, parallel.abstract(mesh, lambda: init(0)))
    if restored is None:
        state = parallel.replicate(mesh, init, parallel.replicate_scalar(mesh, seed_of(run.config, "init")))
        if task.starts is not None and start_parts is not None:
            state = parallel.replicate(mesh, task.starts.begin, state, parallel.replicate_arrays(mesh, start_parts))
        if run.config.train.show_parameters:
            params = {name: value.params for name, value in state._asdict().items() if isinstance(value, Net)}
            logger.info("\n%s", parameter_overview.get_parameter_overview(params, include_stats=False))
        return state, 0, {}
    several = run.config.train.steps_per_dispatch
    if restored.step % several:
        raise ValueError(
            f"the run in {run.workdir} is at step {restored.step}, which is not a multiple of "
            f"--train.steps-per-dispatch {several}: choose a number that divides it"
        )
    if restored.rows is None:
        raise ValueError(
            f"an earlier genjax began the run in {run.workdir}, and its checkpoints do not name their rows: "
            "resume it with that version, or choose another --workdir"
        )
    logger.info("resumed %s from step %d", run.workdir, restored.step)
    checkpoint.set_aside(directory, restored.step)
    for line in files.differences(restored.environment, run.environment):
        logger.warning("the environment has changed, so results may differ: %s", line)
    return restored.state, restored.step, restored.rows
