"""Where numbers go: metrics.jsonl, timing.jsonl, TensorBoard if asked, and a bar or lines for the person watching."""

import json
import logging
import math
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath
from jax import Array
from tqdm import tqdm

from genjax import files, parallel
from genjax.config import TrainConfig
from genjax.task import Health

logger = logging.getLogger(__name__)

ROWS = ("metrics.jsonl", "timing.jsonl")
"""The files of rows in a run's directory."""


class Writer:
    """Rows of a run's files. metrics.jsonl holds no clock times, so equal runs have equal files.

    Rows later than `start_step` come from a run that was killed before the checkpoint that would have covered them;
    they are dropped. Nothing is written where `active` is false (all processes but one). Files are replaced as a whole
    at each flush, so a reader never sees half a row, on object stores either. With `health` a row has `flags` too, and
    the log says when one goes up or down.
    """

    def __init__(
        self, workdir: epath.Path, start_step: int, tensorboard: bool, active: bool = True,
        health: Health | None = None,
    ):  # fmt: skip
        self.workdir, self._active, self._health = workdir, active, health
        self._began = time.perf_counter()
        self._files = {workdir / name: _rows_until(workdir / name, start_step) for name in ROWS}
        self._metrics, self._timing = self._files.values()
        self._tensorboard = (
            import_tensorboard().SummaryWriter(str(workdir / "tensorboard")) if tensorboard and active else None
        )

    def write(self, step: int, metrics: dict[str, float], fingerprint: Mapping[str, str] | None = None) -> None:
        """One row of metrics after `step` steps, and the state's fingerprint; a value that is not finite is null."""
        row: dict[str, Any] = {"step": step, **finite(metrics)} | ({"fingerprint": fingerprint} if fingerprint else {})
        self._metrics.append(row)
        if self._health is not None:
            before: dict[str, str] = next(
                (earlier["flags"] for earlier in reversed(self._metrics) if "flags" in earlier), {}
            )
            row["flags"] = self._health(self._metrics)
            self._tell(step, before, row["flags"])
        if self._tensorboard is not None:
            self._tensorboard.write_scalars(step, metrics)

    def _tell(self, step: int, before: Mapping[str, str], now: Mapping[str, str]) -> None:
        """Logs the flags that this step has raised or lowered."""
        if self._active:
            for name in sorted(now.keys() - before.keys()):
                logger.warning("%s, step %d: %s", self.workdir.name, step, now[name])
            for name in sorted(before.keys() - now.keys()):
                logger.warning("%s, step %d: no longer %s", self.workdir.name, step, name)

    def write_timing(self, step: int, images_per_second: float) -> None:
        """One row of clock times: seconds since this process began to train, and the rate since its last row."""
        seconds = round(time.perf_counter() - self._began, 3)
        self._timing.append({"step": step, "seconds": seconds, "images_per_second": round(images_per_second, 1)})

    def flush(self) -> None:
        """Puts all rows on the disk; called before a checkpoint that covers them."""
        if self._active:
            for path, rows in self._files.items():
                files.write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows))
        if self._tensorboard is not None:
            self._tensorboard.flush()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.flush()
        if self._tensorboard is not None:
            self._tensorboard.close()


def read_rows(path: epath.PathLike) -> list[dict[str, Any]]:
    """The rows of a .jsonl file; none if there is no such file; ValueError if it holds something else."""
    path = epath.Path(path)
    remedy = "restore it from a backup, or move it away, and its rows are lost"
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} is damaged, it holds a line that is no JSON ({error}): {remedy}") from error
    if not all(isinstance(row, dict) and type(row.get("step")) is int for row in rows):
        raise ValueError(f"{path} is damaged, it holds a line without a step: {remedy}")
    return rows


def check_rows(workdir: epath.Path) -> None:
    """Raises ValueError if a file of rows in `workdir` is damaged."""
    for name in ROWS:
        read_rows(workdir / name)


def finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """The same numbers as JSON can hold them: None for those that are not finite."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def _rows_until(path: epath.Path, last_step: int) -> list[dict[str, Any]]:
    return [row for row in read_rows(path) if row["step"] <= last_step]


def import_tensorboard() -> Any:
    """The module that writes for TensorBoard; ValueError if what it needs is not installed."""
    try:
        from clu import metric_writers
    except ImportError as error:
        raise ValueError(
            f"--train.tensorboard needs TensorFlow and TensorBoard ({error}): pip install 'genjax-images[tensorboard]'"
        ) from error
    return metric_writers


class Progress:
    """A bar with images a second and the time left on a terminal, a plain line now and then elsewhere; on stderr."""

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
        """So many more steps."""
        self._bar.update(num_steps * self._images_per_step)

    def images_per_second(self, step: int) -> float:
        """The rate since the last call."""
        now = time.perf_counter()
        self._rate = (step - self._last_step) * self._images_per_step / max(now - self._last_time, 1e-9)
        self._last_step, self._last_time = step, now
        return self._rate

    def report(self, step: int, metrics: dict[str, float]) -> None:
        """Shows `metrics` beside the bar, or logs them as a line where there is none."""
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
    """Writes the rows of a run, or of many side by side.

    A step's metrics are read when the next step is under way, so the host never waits for the device it feeds.
    """

    def __init__(self, writers: Sequence[Writer], progress: Progress, config: TrainConfig, skipped: Sequence[int]):
        self._writers, self._progress, self._config = writers, progress, config
        self._pending: tuple[int, list[Any], list[Any], int | Array] | None = None
        self._skipped, self._skipped_in_a_row = list(skipped), [0] * len(skipped)
        self.stopped_by = 0
        """The signal that a process was sent before the latest step that has been read; 0 for none."""

    def after_step(self, step: int, metrics: list[Any], fingerprints: list[Any], stop: int | Array) -> None:
        """Takes what `step` returned, as a Program has it, and reads that of the step before.

        The devices may still be computing it. `fingerprints` are empty for a step that has no row.
        """
        self.catch_up()
        self._pending = step, metrics, fingerprints, stop

    def after_evaluation(self, step: int, figures: Sequence[dict[str, float]]) -> None:
        """A row of validation figures for each run."""
        self.catch_up()
        rows = [{f"validation/{name}": value for name, value in of_run.items()} for of_run in figures]
        for writer, row in zip(self._writers, rows, strict=True):
            writer.write(step, row)
        self._progress.report(step, rows[0])

    def flush(self) -> None:
        """Puts all rows on the disk."""
        self.catch_up()
        for writer in self._writers:
            writer.flush()

    def catch_up(self) -> None:
        """Reads what is pending. Raises FloatingPointError if too many steps in a row were skipped."""
        if self._pending is None:
            return
        (step, metrics, fingerprints, stop), self._pending = self._pending, None
        self._progress.advance(self._config.steps_per_dispatch)
        self._count_skips(step, [int(count) for count in parallel.by_run([group["skipped"] for group in metrics])])
        self.stopped_by = int(stop)
        if step % self._config.log_every == 0:
            rate = self._progress.images_per_second(step)
            rows = [{name: float(value) for name, value in row.items()} for row in parallel.by_run(metrics)]
            for writer, row, digests in zip(self._writers, rows, parallel.by_run(fingerprints), strict=True):
                writer.write(step, row, {name: f"{int(value):08x}" for name, value in digests.items()})
                writer.write_timing(step, rate)
            self._progress.report(step, rows[0])

    def _count_skips(self, step: int, skipped: Sequence[int]) -> None:
        dispatch = self._config.steps_per_dispatch
        for run, count in enumerate(skipped):
            new, self._skipped[run] = count - self._skipped[run], count
            in_a_row = self._skipped_in_a_row[run] = self._skipped_in_a_row[run] + new if new == dispatch else 0
            if in_a_row >= self._config.max_skips:
                raise FloatingPointError(
                    f"{self._writers[run].workdir}: the loss or a gradient was not finite in {in_a_row} steps in a "
                    f"row, up to step {step}; none of them entered the state. Lower the learning rate, or use "
                    "precision float32"
                )
