"""Many runs at once that differ in their seeds alone: one program for all, an ordinary run directory for each."""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from genjax import checkpoint, keys, parallel
from genjax.config import SeedConfig, seed_of
from genjax.keys import Stream
from genjax.program import for_seeds
from genjax.task import Task
from genjax.train import Result, Run, check, fit_runs, warn_of_changes

logger = logging.getLogger(__name__)


def fit_together(task: Task, configs: Sequence[Any]) -> list[Result]:
    """Trains all of `configs`, which differ in workdir and seeds alone, from the latest step that all of them saved.

    Each comes to the digest of `train.fit(task, config)` on as many devices as it has here (those of a row of
    `parallel.make_seed_mesh`), and either may resume what the other began. Pictures are left out. Errors and signals
    are as for `fit`; ValueError also for configurations that differ otherwise, and in one of several processes.
    """
    _check_alike(configs)
    mesh = parallel.make_seed_mesh(len(configs))
    runs = check(configs, parallel.make_mesh(list(mesh.devices[0])))
    return fit_runs(
        task, runs,
        lambda: _restore_or_init(task, runs, mesh),
        lambda: for_seeds(task, configs, [run.splits for run in runs], mesh),
    )  # fmt: skip


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


def _restore_or_init(task: Task, runs: Sequence[Run], mesh: Mesh) -> tuple[Any, int]:
    """The states to begin with, as `for_seeds` has them, and the step that all of them stand at."""
    states, step = _restore_shared(task, runs)
    if states is None:
        init = jax.jit(lambda seed: task.init(runs[0].config, keys.for_step(keys.root_key(seed), Stream.INIT, 0)))
        states = [jax.device_get(init(np.int32(seed_of(run.config, "init")))) for run in runs]
    return parallel.shard_seeds(mesh, states, parallel.BY_SEED), step


def _restore_shared(task: Task, runs: Sequence[Run]) -> tuple[list[Any] | None, int]:
    """The states on the host of the latest step that all runs have a whole checkpoint of, and that step.

    What was saved later is set aside. None and 0 if they begin, or had begun together and some had saved nothing yet;
    ValueError if they have no step in common otherwise.
    """
    shapes = jax.eval_shape(lambda: task.init(runs[0].config, keys.root_key(0)))
    abstract = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), shapes)
    directories = [run.workdir / "checkpoints" for run in runs]
    saved = [checkpoint.steps(directory) for directory in directories]
    for step in sorted(set.intersection(*map(set, saved)), reverse=True):
        try:
            restored = [checkpoint.restore(directory, step, abstract) for directory in directories]
        except ValueError as error:
            logger.warning("%s", error)
            continue
        logger.info("resumed %d runs from step %d", len(runs), step)
        for directory in directories:
            checkpoint.set_aside(directory, step, "unshared")  # some may have saved once more than others
        warn_of_changes(runs, restored)
        return [one.state for one in restored], step
    if _ended_in_first_save(runs, saved):
        for directory in directories:
            checkpoint.set_aside(directory, 0, "unshared")
    elif any(saved):
        raise ValueError(
            f"the runs in {runs[0].workdir.parent} have no whole checkpoint of the same step: remove those that were "
            "not begun together, or choose another --workdir"
        )
    return None, 0


def _ended_in_first_save(runs: Sequence[Run], saved: Sequence[Sequence[int]]) -> bool:
    """Whether all runs began together, and some have saved the first checkpoint when they ended, and others none."""
    began = all((run.workdir / "config.json").exists() for run in runs)
    finished = any((run.workdir / "result.json").exists() for run in runs)
    once = len({step for steps in saved for step in steps}) == 1
    return began and once and not finished and not all(saved)
