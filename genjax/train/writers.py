"""Writers of metrics: metrics.jsonl, timing.jsonl, TensorBoard, and progress on the terminal.

metrics.jsonl holds no clock times, so equal runs have equal files. Rows are appended. A resumed training first cuts off
rows later than its checkpoint, and writes them again.
"""

import json
import logging
import math
import os
import re
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from types import ModuleType

import jax
from etils import epath
from jax import Array
from tqdm import tqdm

from genjax.config import TrainConfig
from genjax.files import Json
from genjax.task import RECENT_ROWS, Monitor, Row

logger = logging.getLogger(__name__)

METRICS, TIMING = "metrics.jsonl", "timing.jsonl"


def read_rows(path: epath.PathLike) -> Iterator[Json]:
    """Yields the rows of a .jsonl file; none if it does not exist. An incomplete last line is ignored.

    Raises ValueError for any other line that is not a row.
    """
    for row, _ in _rows_and_ends(epath.Path(path)):
        yield row


def check_rows(workdir: epath.Path, last_step: int) -> None:
    """Raises ValueError if a file of rows in `workdir` is damaged up to `last_step`, which a checkpoint covers."""
    for name in (METRICS, TIMING):
        for _ in _rows_and_ends(workdir / name, last_step):
            pass


def finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Replaces numbers that are not finite by None, as JSON cannot hold them."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def _rows_and_ends(path: epath.Path, last_step: int = -1) -> Iterator[tuple[Json, int]]:
    """Yields each row with the byte offset of its end; raises ValueError if a row up to `last_step` is cut off."""
    if not path.exists():
        return
    end, remedy = 0, "restore it from a backup, or move it away, and its rows are lost"
    with path.open("rb") as file:
        for line in file:
            end += len(line)
            if not line.endswith(b"\n"):
                step = re.match(rb'{"step": (\d+),', line)
                if step and int(step[1]) <= last_step:
                    raise ValueError(f"{path} is damaged, its row of step {int(step[1])} is cut off: {remedy}")
                return  # cut off by a kill; no checkpoint covers it
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path} is damaged, it holds a line that is no JSON ({error}): {remedy}") from error
            if not isinstance(row, dict) or type(row.get("step")) is not int:
                raise ValueError(f"{path} is damaged, it holds a line without a step: {remedy}")
            yield row, end


class RowFile:
    """A .jsonl file that rows are appended to; rows after `last_step` are cut off first.

    gs:// files cannot be appended to, so there each flush writes the whole file again: flush seldom.
    """

    def __init__(self, path: epath.Path, last_step: int, active: bool):
        self._path, self._active, self._pending = path, active, bytearray()
        self._remote = "://" in str(path)
        end = 0
        for row, row_end in _rows_and_ends(path):
            if row["step"] > last_step:
                break
            end = row_end
        if active and not self._remote:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._size = end
        """Bytes of the file that hold whole rows."""
        self._content = path.read_bytes()[:end] if active and self._remote and path.exists() else b""
        if active and path.exists() and not self._remote:
            os.truncate(path, end)

    def append(self, row: Row) -> None:
        """Buffers a row until the next flush."""
        self._pending += (json.dumps(row) + "\n").encode()

    def flush(self) -> None:
        """Writes all buffered rows to the disk."""
        if not self._active:
            return
        if self._remote:
            self._path.write_bytes(self._content + self._pending)
            self._content += self._pending
        else:
            with open(self._path, "ab") as file:
                if file.tell() > self._size:
                    file.truncate(self._size)  # a flush that failed, on a full disk, may have left half a row
                file.write(self._pending)
                file.flush()
                os.fsync(file.fileno())  # the next thing written may be a checkpoint that covers these rows
        self._size += len(self._pending)
        self._pending.clear()


class Writer:
    """Writes the rows of a run, with the monitor's warnings in them, if `active`.

    It logs when a warning appears or disappears.
    """

    def __init__(
        self, workdir: epath.Path, start_step: int, tensorboard: bool, active: bool = True,
        monitor: Monitor | None = None,
    ):  # fmt: skip
        self.workdir, self._active, self._monitor = workdir, active, monitor
        self._began = time.perf_counter()
        self._recent: deque[Row] = deque(maxlen=RECENT_ROWS)
        self._evaluation: Row = {}
        self._warnings: dict[str, str] = {}
        # A resumed run needs the monitor's earlier rows, so that it gives the same warnings as an uninterrupted one.
        for row in read_rows(workdir / METRICS):
            if row["step"] <= start_step:
                self._remember(row)
        self._metrics = RowFile(workdir / METRICS, start_step, active)
        self._timing = RowFile(workdir / TIMING, start_step, active)
        self._tensorboard = (
            import_tensorboard().SummaryWriter(str(workdir / "tensorboard")) if tensorboard and active else None
        )

    def write(self, step: int, metrics: Mapping[str, float], fingerprint: Mapping[str, str] | None = None) -> None:
        """Writes a row of metrics after `step` steps, with the state's fingerprint if given; NaN becomes null."""
        row: Json = {"step": step, **finite(metrics)} | ({"fingerprint": fingerprint} if fingerprint else {})
        before = self._warnings
        self._remember(row)
        if self._monitor is not None:
            row["warnings"] = self._warnings = self._monitor(self._recent, self._evaluation)
            self._log_changes(step, before)
        self._metrics.append(row)
        if self._tensorboard is not None:
            self._tensorboard.write_scalars(step, metrics)

    def _remember(self, row: Row) -> None:
        if any(name.startswith("validation/") for name in row):
            self._evaluation = row
        else:
            self._recent.append(row)
        self._warnings = row.get("warnings", self._warnings)

    def _log_changes(self, step: int, before: Mapping[str, str]) -> None:
        if not self._active:
            return
        for name in sorted(self._warnings.keys() - before.keys()):
            logger.warning("%s, step %d: %s", self.workdir.name, step, self._warnings[name])
        for name in sorted(before.keys() - self._warnings.keys()):
            logger.warning("%s, step %d: no longer %s", self.workdir.name, step, name)

    def write_timing(self, step: int, images_per_second: float) -> None:
        """Writes a row of clock times: seconds since this process started training, and images per second."""
        seconds = round(time.perf_counter() - self._began, 3)
        self._timing.append({"step": step, "seconds": seconds, "images_per_second": round(images_per_second, 1)})

    def flush(self) -> None:
        """Writes all rows to the disk; call it before saving a checkpoint that covers them."""
        self._metrics.flush()
        self._timing.flush()
        if self._tensorboard is not None:
            self._tensorboard.flush()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.flush()
        if self._tensorboard is not None:
            self._tensorboard.close()


def import_tensorboard() -> ModuleType:
    """Imports CLU's TensorBoard writer; raises ValueError if TensorFlow or TensorBoard is missing."""
    try:
        from clu import metric_writers
    except ImportError as error:
        raise ValueError(
            f"--train.tensorboard needs TensorFlow and TensorBoard ({error}): pip install 'genjax-images[tensorboard]'"
        ) from error
    return metric_writers


class Progress:
    """Shows progress on stderr: a bar on a terminal, else log lines."""

    def __init__(self, start_step: int, num_steps: int, images_per_step: int, active: bool = True):
        self._bar = tqdm(
            initial=start_step * images_per_step,
            total=num_steps * images_per_step,
            unit="img",
            unit_scale=True,
            dynamic_ncols=True,
            disable=not (active and sys.stderr.isatty()),
        )
        self._active, self._num_steps, self._images_per_step = active, num_steps, images_per_step
        self._last_step, self._last_time, self._rate = start_step, time.perf_counter(), 0.0

    def advance(self, num_steps: int) -> None:
        """Moves the bar forward by `num_steps`."""
        self._bar.update(num_steps * self._images_per_step)

    def images_per_second(self, step: int) -> float:
        """Returns the rate since the last call."""
        now = time.perf_counter()
        self._rate = (step - self._last_step) * self._images_per_step / max(now - self._last_time, 1e-9)
        self._last_step, self._last_time = step, now
        return self._rate

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Shows `metrics` beside the bar, or logs them if there is no bar."""
        shown = "  ".join(f"{name} {value:.5g}" for name, value in metrics.items())
        self._bar.set_postfix_str(shown, refresh=False)
        if self._active and self._bar.disable:
            left = (self._num_steps - step) * self._images_per_step / self._rate if self._rate else math.inf
            logger.info("step %d/%d  %.0f img/s  %.0f s left  %s", step, self._num_steps, self._rate, left, shown)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._bar.close()


class Log:
    """Writes the rows of a run, and reads a step's metrics only after the next step was dispatched.

    So the device always has work queued while the host waits.
    """

    def __init__(self, writer: Writer, progress: Progress, config: TrainConfig, skipped: int):
        self._writer, self._progress, self._config = writer, progress, config
        self._pending: tuple[int, Mapping[str, Array], Mapping[str, Array], Array] | None = None
        self._skipped, self._skipped_in_a_row = skipped, 0
        self.stopped_by = 0
        """Signal that a process received before the latest step that was read; 0 for none."""

    def after_step(
        self, step: int, metrics: Mapping[str, Array], fingerprints: Mapping[str, Array], signal: Array
    ) -> None:
        """Stores the outputs of a training step, and reads those of the step before.

        The devices may still be computing the new ones. `fingerprints` is empty for a step without a row.
        """
        self.catch_up()
        self._pending = step, metrics, fingerprints, signal

    def after_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes a row of validation metrics."""
        self.catch_up()
        row = {f"validation/{name}": value for name, value in metrics.items()}
        self._writer.write(step, row)
        self._progress.report(step, row)

    def flush(self) -> None:
        """Reads pending metrics and writes all rows to the disk."""
        self.catch_up()
        self._writer.flush()

    def catch_up(self) -> None:
        """Reads pending metrics; raises FloatingPointError if too many steps in a row were skipped."""
        if self._pending is None:
            return
        (step, metrics, fingerprints, signal), self._pending = self._pending, None
        self._progress.advance(self._config.steps_per_dispatch)
        self._count_skips(step, int(metrics["skipped"]))
        self.stopped_by = int(signal)
        if step % self._config.log_every == 0:
            rate = self._progress.images_per_second(step)
            metrics, fingerprints = jax.device_get((metrics, fingerprints))
            row = {name: float(value) for name, value in metrics.items()}
            self._writer.write(step, row, {name: f"{int(value):08x}" for name, value in fingerprints.items()})
            self._writer.write_timing(step, rate)
            self._progress.report(step, row)

    def _count_skips(self, step: int, skipped: int) -> None:
        new, self._skipped = skipped - self._skipped, skipped
        whole_dispatch = new == self._config.steps_per_dispatch
        self._skipped_in_a_row = self._skipped_in_a_row + new if whole_dispatch else 0
        if self._skipped_in_a_row >= self._config.max_nonfinite_steps:
            raise FloatingPointError(
                f"{self._writer.workdir}: the loss or a gradient was not finite in {self._skipped_in_a_row} steps in a "
                f"row, up to step {step}; none of them entered the state. Lower the learning rate, or use "
                "precision float32"
            )
