"""Log of a training: metrics read from the device one step late, to rows and to the terminal."""

import logging
import sys
import time
from collections.abc import Mapping

import jax
from jax import Array
from tqdm import tqdm

from genjax.config import TrainConfig
from genjax.train.writers import Writer

logger = logging.getLogger(__name__)

NONFINITE_REMEDY = "Lower --optim.learning-rate or use --precision float32, in another --workdir"


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
            pace = ""
            if self._rate:  # known after the first row of training metrics
                left = (self._num_steps - step) * self._images_per_step / self._rate
                pace = f"  {self._rate:.0f} img/s  {left:.0f} s left"
            logger.info("step %d/%d%s  %s", step, self._num_steps, pace, shown)

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
        self.catch_up()  # blocks until the step before is done, while the device has the new one to compute
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
        self._count_skips(step, int(metrics["skipped"]))  # one scalar to the host; the others only for a row
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
        # Of several steps in a call only the number of skips is known: a call counts if all of its steps were skipped.
        whole_dispatch = new == self._config.steps_per_dispatch
        self._skipped_in_a_row = self._skipped_in_a_row + new if whole_dispatch else 0
        if self._skipped_in_a_row >= self._config.max_nonfinite_steps:
            raise FloatingPointError(
                f"{self._writer.workdir}: the loss or a gradient was not finite in {self._skipped_in_a_row} steps in a "
                f"row, up to step {step}; none of them entered the state. {NONFINITE_REMEDY}"
            )
