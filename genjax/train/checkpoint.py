"""Checkpoints through Orbax: saved with their SHA-256, and verified when restored.

A checkpoint is a state and a record (step, digest, environment, score, rows). It holds no keys: batches and noise
follow from the seed and the step.
"""

import contextlib
import logging
import math
import time
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import jax
from etils import epath
from orbax.checkpoint import v1 as ocp

from genjax import parallel
from genjax.config import TrainConfig
from genjax.files import Json
from genjax.parallel import PyTree
from genjax.train import fingerprint

logger = logging.getLogger(__name__)

T = TypeVar("T")

SHARED_BYTES = 1 << 20
"""Least size per device of an array that all devices save in parts; smaller arrays are saved faster whole."""

REMOVAL_SECONDS = 1
"""Time in which a training removes a checkpoint."""


class Restored(NamedTuple, Generic[T]):
    """A verified checkpoint."""

    step: int
    state: T
    environment: Json
    digest: str
    rows: Json | None
    """The rows that the checkpoint covers; None if an older genjax saved it."""


def steps(directory: epath.PathLike) -> list[int]:
    """Lists the steps that have a finished checkpoint, ascending; on gs:// too."""
    try:
        return sorted(found.step for found in ocp.path.step.standard_name_format().find_all(directory))
    except Exception:  # one with damaged metadata, which must not hide the others: restoring it names the damage
        return sorted(int(path.name) for path in epath.Path(directory).iterdir() if path.name.isdigit())


class Record(NamedTuple):
    """Metadata saved beside a state."""

    step: int
    digest: str
    environment: Json
    score: float | None
    rows: Json | None
    """Count and SHA-256 of the rows written before it, by file name; None if an older genjax saved it."""


def record(directory: epath.PathLike, step: int) -> Record:
    """Reads the metadata of the checkpoint of `step`; ValueError if it cannot be read, or is of another step."""
    path = epath.Path(directory) / str(step)
    try:
        found = ocp.metadata(path).custom_metadata
        saved = Record(
            found.get("step", step), found["digest"], found["environment"], found["score"], found.get("rows")
        )
    except Exception as error:  # a damaged file surfaces as nearly any error from the libraries below
        raise ValueError(f"checkpoint {path} cannot be read: {str(error)[:160]}") from error
    if saved.step != step:
        raise ValueError(f"checkpoint {path} is a copy of that of step {saved.step}, under the number of another step")
    return saved


def restore(directory: epath.PathLike, step: int, abstract_state: T) -> Restored[T]:
    """Restores the checkpoint of `step` onto the devices of `abstract_state`, whichever devices saved it.

    Raises ValueError if it cannot be read, or if its SHA-256 is not the recorded one.
    """
    path, saved = epath.Path(directory) / str(step), record(directory, step)
    try:
        state = ocp.load(path, abstract_state)
    except Exception as error:  # as in record
        raise ValueError(f"checkpoint {path} cannot be read: {str(error)[:160]}") from error
    found = fingerprint.tree_digest(state)
    if found != saved.digest:
        raise ValueError(f"checkpoint {path} is damaged: its SHA-256 is {found}, and {saved.digest} was saved")
    return Restored(step, state, saved.environment, found, saved.rows)


def restore_latest(directory: epath.PathLike, abstract_state: T) -> Restored[T] | None:
    """Restores the latest intact checkpoint, the same in every process; None if there are no checkpoints.

    Damaged checkpoints are logged and skipped. Raises ValueError if all are damaged.
    """
    found = parallel.broadcast(steps(directory))
    # A checkpoint counts only if every process could read it: all have to resume from the same step.
    for step in reversed(found):
        restored = None
        try:
            restored = restore(directory, step, abstract_state)
        except ValueError as error:
            logger.warning("%s", error)
        if parallel.all_processes(restored is not None):
            return restored
    if found:
        raise ValueError(
            f"none of the {len(found)} checkpoints in {directory} is whole (see the warnings above): "
            "restore them from a backup, or start another run in another --workdir"
        )
    return None


def restore_chosen(directory: epath.PathLike, which: int | str, abstract_state: T) -> Restored[T]:
    """Restores the checkpoint `which`: last, best, or a step; FileNotFoundError if there is none, else as `restore`."""
    kept = steps(directory)
    if not kept:
        raise FileNotFoundError(f"{directory} holds no checkpoint yet")
    chosen = None if which == "last" else chosen_step(directory, which)
    try:
        if chosen is None:
            restored = restore_latest(directory, abstract_state)
        else:
            restored = restore(directory, chosen, abstract_state)
    except ValueError:
        time.sleep(REMOVAL_SECONDS)  # a training may be removing it just now
        if steps(directory) == kept:
            raise
        restored = None
    if restored is None:  # a training removed it, to keep a newer one
        return restore_chosen(directory, which, abstract_state)
    return restored


def _is_readable(path: epath.Path) -> bool:
    """Returns False if Orbax cannot read its own records of a checkpoint, as then it could not save another."""
    try:
        ocp.metadata(path)
    except Exception:  # as in record
        return False
    return True


def set_aside(directory: epath.PathLike, after: int) -> None:
    """Moves damaged checkpoints later than step `after`, and unreadable ones, to damaged-STEP, beside `directory`."""
    if parallel.is_main_process():
        for step in steps(directory):
            if step > after or not _is_readable(epath.Path(directory) / str(step)):
                # No common folder: on gs:// it would have to be created first.
                target = epath.Path(directory).parent / f"damaged-{step}"
                while target.exists():
                    target = target.with_name(target.name + "_")
                (epath.Path(directory) / str(step)).rename(target)
                message = "moved the damaged checkpoint of step %d to %s; going on from step %d"
                logger.warning(message, step, target, after)
    parallel.wait_for_all("checkpoints are set aside")


class Saver:
    """Saves checkpoints asynchronously; a context manager that waits for the last save at its end.

    It keeps the last two, the one with the lowest score, those at multiples of `config.keep_period`, and `keep`. A save
    that fails is an OSError at the next one or at the end; the checkpoints before it stay.
    """

    def __init__(self, directory: epath.Path, config: TrainConfig, keep: Collection[int] = ()):
        self._directory, self._keep = directory, frozenset(keep)
        self._scores, self._keep_period = scores(directory), config.keep_period
        context = ocp.Context()
        context.array.saving.min_slice_bytes_for_replica_parallel = SHARED_BYTES
        self._checkpointer = ocp.training.Checkpointer(
            directory,
            context=context,
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),  # the loop decides
            preservation_policy=self,
            cleanup_tmp_directories=True,  # left by saves that were cut off
        )

    @property
    def best_score(self) -> float:
        """The lowest score of a checkpoint, infinity if none has one."""
        return min(self._scores.values(), default=math.inf)

    def save(self, step: int, state: PyTree, environment: Json, score: float | None, rows: Json | None = None) -> None:
        """Starts saving `state`; `score` (lower is better) is None if the state was not evaluated.

        `rows` are those on the disk that it covers.
        """
        if score is not None and math.isfinite(score):  # NaN has no place in an order
            self._scores[step] = score
        beside = Record(step, fingerprint.tree_digest(state), environment, self._scores.get(step), rows or {})
        with self._errors():
            self._checkpointer.save_async(step, state, custom_metadata=beside._asdict())

    def should_preserve(self, checkpoints: Sequence[Any], *, context: object) -> list[bool]:
        """Selects the checkpoints that Orbax keeps. (Its own policy for the best fails on a damaged older file.)"""
        found = [checkpoint.step for checkpoint in checkpoints]
        scored = [step for step in found if step in self._scores]
        kept = {*found[-2:], *sorted(scored, key=self._scores.__getitem__)[:1], *self._keep}
        return [step in kept or (self._keep_period > 0 and step % self._keep_period == 0) for step in found]

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self._errors():
            self._checkpointer.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turns an error of a save into one with a remedy: nearly any, from the libraries that write."""
        try:
            yield
        except jax.errors.JaxRuntimeError:
            raise
        except Exception as error:
            said = str(error).partition("\n")[0]
            raise OSError(
                f"cannot save a checkpoint in {self._directory} ({said}); those before it are whole: "
                "repair the cause (make room, if the disk is full), and the same command goes on from the last one"
            ) from error


def scores(directory: epath.PathLike) -> dict[int, float]:
    """Returns the validation scores of checkpoints by step, without damaged ones and ones without a score."""
    found = {}
    for step in steps(directory):
        try:
            score = record(directory, step).score
        except ValueError as error:
            logger.warning("%s", error)
            continue
        if score is not None:
            found[step] = score
    return found


def chosen_step(directory: epath.PathLike, which: int | str) -> int:
    """Returns the step of a kept checkpoint: `which` itself, or with "best" the step with the lowest score.

    Raises ValueError for any other value and if no checkpoint has a score; it lists the kept checkpoints.
    """
    found, kept = scores(directory), steps(directory)
    if which == "best" and found:
        return min(found, key=found.__getitem__)
    if type(which) is int and which in kept:
        return which
    listed = ", ".join(f"{step} (validation score {found[step]:.5g})" if step in found else str(step) for step in kept)
    reason = "no checkpoint has a validation score" if which == "best" else "no such checkpoint is kept"
    raise ValueError(f"cannot load checkpoint {which!r} of {directory}, as {reason}: give last, or a step of {listed}")
