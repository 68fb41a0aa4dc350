"""Run directory: checks, the lock, and records of configuration and images."""

import contextlib
import dataclasses
import json
import logging
import os
import re
import shlex
import sys
from collections.abc import Iterator
from typing import Any, Generic, NamedTuple

import filelock
import jax
from etils import epath
from jax.sharding import Mesh

from genjax import files, parallel
from genjax.config import RunConfig, seed_of, with_num_steps
from genjax.data import sources
from genjax.data.splits import Domains, Splits
from genjax.evaluation import best
from genjax.files import Json
from genjax.task import C, Task
from genjax.train import config_file, environment, trackers

logger = logging.getLogger(__name__)

RESULT = "result.json"
"""Result of the finished run. It is kept under its step too, as a longer training removes this one."""

KEPT_RESULT = re.compile(r"result-(\d+)\.json")
LOCK = ".lock"
LEFT_OVERS = re.compile(rf"{re.escape(LOCK)}|{files.PARTIAL.pattern}")
"""Files that a failed start leaves behind."""


class Run(NamedTuple, Generic[C]):
    """A run that has passed all checks and may start or resume."""

    config: C
    workdir: epath.Path
    splits: Splits
    description: Json
    """Shape and SHA-256 of the images, and files that were left out, as in data.json."""
    environment: Json
    pairs: Domains = ()
    """Known pairs, images of both domains; empty if none are known."""


@contextlib.contextmanager
def opened(task: Task[C, Any], config: C, mesh: Mesh) -> Iterator[Run[C]]:
    """Checks a run, loads its images, and locks its directory until the context ends.

    It writes nothing but the lock. Raises ValueError for an invalid configuration, images or directory.
    """
    environment.check_float32()
    parallel.check_batch_size(mesh, config.data.batch_size, config.train.accumulate)
    trackers.check(config.train.track)  # fails now, not after the images are loaded
    if (config.train.track or config.train.profile) and "://" in str(files.resolve(config.workdir)):
        raise ValueError(f"--train.track and --train.profile need a local --workdir, got {config.workdir}")
    config, workdir, splits = with_images(task, config)
    pairs = sources.load_pairs(config.data, seed_of(config, "data"))
    images = sources.describe(splits, pairs) | sources.left_out(config.data)
    run = Run(config, workdir, splits, images, environment.describe(config) | {"devices": mesh.size}, pairs)
    # ORDER MATTERS: processes are compared first, as any later check may fail in one and leave the others waiting.
    check_processes(run)
    check_data(workdir, run.description)
    with exclusive_lock(workdir):
        check_workdir(config)  # again: another training may have used it while the images were loaded
        yield run


def with_images(task: Task[C, Any], config: C) -> tuple[C, epath.Path, Splits]:
    """Loads a run's images; returns its configuration with all that is measured or automatic, its path, the images.

    Raises ValueError as `check_workdir` does, and for images that cannot be loaded.
    """
    config = dataclasses.replace(config, data=sources.measured(config.data))  # the same each time, so a run resumes
    workdir = check_workdir(config, steps_known=config.train.epochs == 0)  # before images, which may take long
    config = with_best_by(task, config, workdir)
    splits = sources.load(config.data, seed_of(config, "data"))
    return with_num_steps(config, max(map(len, splits.train))), workdir, splits


def with_best_by(task: Task[C, Any], config: C, workdir: epath.Path) -> C:
    """Returns `config` with the validation loss that --train.best-by auto means: that of the run, if it has begun."""
    asked, record = config.train.best_by, workdir / "config.json"
    # What auto means depends on what is installed, and a run keeps its own.
    if asked == best.AUTO and record.exists():
        asked = config_file.load(workdir, type(config)).train.best_by
    chosen = best.resolve(task, config, asked)
    return dataclasses.replace(config, train=dataclasses.replace(config.train, best_by=chosen))


def check_workdir(config: RunConfig, steps_known: bool = True) -> epath.Path:
    """Returns the absolute path of `config.workdir` if this run may start or resume there; writes nothing.

    Without `steps_known`, another `num_steps` is accepted, as epochs become steps once the images are loaded.
    Raises ValueError if the directory holds a run with another configuration (the fields are named) or other files, or
    if its path has a scheme other than gs://.
    """
    workdir = files.resolve(config.workdir)
    try:
        if (workdir / "config.json").exists():
            saved = config_file.load(workdir, type(config))
            config_file.check_resumable(saved, config, finished_steps(workdir), steps_known)
        elif workdir.exists() and any(not LEFT_OVERS.fullmatch(entry.name) for entry in workdir.iterdir()):
            raise ValueError(f"{workdir} is not empty and holds no run (no config.json): choose another --workdir")
    except ValueError:
        raise
    except Exception as error:  # OSError, or nearly anything from the libraries behind gs://
        raise ValueError(f"cannot use workdir {workdir} ({error}): choose another --workdir") from error
    return workdir


@contextlib.contextmanager
def exclusive_lock(workdir: epath.Path) -> Iterator[None]:
    """Locks `workdir` against other trainings until the context or the process ends. (gs:// has no locks.)

    Raises ValueError if another training is running there, or if the directory is not writable.
    """
    if not parallel.is_main_process() or "://" in str(workdir):
        yield
        return
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        # Entered here and left below, so that no error of the training is taken for one of the lock.
        held = contextlib.ExitStack()
        if not held.enter_context(files.locked(workdir / LOCK, timeout=0)):
            logger.warning("%s is on a file system without locks: start no second training there", workdir)
    except filelock.Timeout:
        raise ValueError(
            f"another training is under way in {workdir}: wait for it, or choose another --workdir"
        ) from None
    except OSError as error:
        raise ValueError(f"cannot write to workdir {workdir} ({error}): choose another --workdir") from error
    with held:
        yield


def check_data(workdir: epath.Path, description: Json) -> None:
    """Raises ValueError unless `description` matches the images that the run in `workdir` began with.

    With another --data.cache their SHA-256 is of something else, and a warning says that it is not compared.
    """
    path = workdir / "data.json"
    saved = files.read_json(path) if path.exists() else description
    try:
        # Other files beside the images may change.
        names = [name for name in description if name in (*Splits._fields, "pairs")]
        images = [(name, saved.get(name, []), description[name]) for name in names]
        changed = [
            f"{name} {[a['shape'] for a in old]} -> {[a['shape'] for a in new]}"
            for name, old, new in images
            if not _agree(old, new)
        ]
        if any(a.keys() != b.keys() for _, old, new in images for a, b in zip(old, new, strict=False)):
            logger.warning(
                "with another --data.cache, only the numbers and sizes of the images are compared, not their SHA-256"
            )
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged, it does not name the images ({error}): restore it from a backup"
        ) from error
    if changed:
        raise ValueError(
            f"the images have changed since the run in {workdir} began ({', '.join(changed)}; SHA-256 differs): "
            "restore them, or start another run in another --workdir"
        )


def _agree(old: list[Json], new: list[Json]) -> bool:
    """True if two descriptions of images agree in all that both record."""
    pairs = zip(old, new, strict=False)
    return len(old) == len(new) and all(a[name] == b[name] for a, b in pairs for name in a.keys() & b.keys())


def check_processes(run: Run) -> None:
    """Raises ValueError in every process if configuration, images or environment differ between processes."""
    # The host's processor and threads change bits only where the host computes.
    host = () if jax.default_backend() == "cpu" else environment.HOST
    surroundings = {name: value for name, value in run.environment.items() if name not in host}
    record = {"config": dataclasses.asdict(run.config), "images": run.description, "environment": surroundings}
    own = json.loads(json.dumps(record))  # lists for tuples, as the broadcast record has
    found = files.differences(parallel.broadcast(own), own)
    # All ask before any of them raises: the others would wait for ever.
    alike = parallel.all_processes(not found)
    if found:
        lines = "\n".join(f"  {line}" for line in found)
        raise ValueError(f"process {jax.process_index()} differs from process 0, and a run needs them alike:\n{lines}")
    if not alike:
        raise ValueError("another process differs from process 0, and a run needs them alike: see its own error")


def write(run: Run, unfinished: bool) -> None:
    """Writes config.json and data.json; raises ValueError if the directory is not writable.

    If the run is `unfinished`, it also writes environment.json and removes result.json; result-STEP.json stays.
    """
    if not parallel.is_main_process():
        return
    try:
        config_file.write(run.workdir, run.config)
        files.write_json(run.workdir / "data.json", run.description)
        if unfinished:
            files.write_json(run.workdir / "environment.json", run.environment)
            _append_command(run.workdir / "commands.txt")
            (run.workdir / RESULT).unlink(missing_ok=True)
            for step in finished_steps(run.workdir):
                logger.info("the result after %d steps stays in %s", step, run.workdir / f"result-{step}.json")
    except OSError as error:
        raise ValueError(
            f"cannot write to workdir {run.workdir} ({error}): make room there, or choose another --workdir"
        ) from error


def _append_command(path: epath.Path) -> None:
    """Adds the command of this program to those that began or resumed the run."""
    earlier, (program, *arguments) = path.read_bytes() if path.exists() else b"", sys.argv
    launched = program.split() if program.startswith("genjax ") else ["python", program]  # an installed command
    command = shlex.join([*launched, *arguments])
    files.write_atomically(path, earlier + os.fsencode(f"{command}\n"))  # names of files need not be UTF-8


def write_result(run: Run, result: Json) -> None:
    """Writes the result of a finished training, with its `step`; longer trainings keep it, and its checkpoint."""
    if parallel.is_main_process():
        for name in (f"result-{result['step']}.json", RESULT):
            files.write_json(run.workdir / name, result)


def finished_steps(workdir: epath.Path) -> list[int]:
    """Lists the numbers of steps after which a training has finished in `workdir`, ascending."""
    names = [path.name for path in workdir.iterdir()] if workdir.exists() else []
    return sorted(int(found[1]) for name in names if (found := KEPT_RESULT.fullmatch(name)))
