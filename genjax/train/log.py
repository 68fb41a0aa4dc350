"""Log of a training: metrics read from the device one step late, to rows and to the terminal."""

import contextlib
import logging
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence

import jax
from jax import Array
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from genjax.config import TrainConfig
from genjax.train.writers import Writer

logger = logging.getLogger(__name__)

NONFINITE_REMEDY = "Lower --optim.learning-rate or use --precision float32, in another --workdir"

NUM_SHOWN = 3
"""Metrics in a line of progress."""


def figures(metrics: Mapping[str, float], headline: Sequence[str]) -> list[str]:
    """Formats the first metrics of `headline` that there are, or else the first ones."""
    names = [name for name in headline if name in metrics] or list(metrics)
    return [f"{name} {metrics[name]:.4g}" for name in names[:NUM_SHOWN]]


class Progress:
    """Shows progress on stderr: one line, written anew, on a terminal, else a log line for each row of metrics.

    Log lines of others appear above the one line. A terminal that says it has no columns counts as none. `headline` are
    the names of the metrics to show, of which a row may have a part; `score_title` is what an evaluation is scored by.
    """

    def __init__(
        self, start_step: int, num_steps: int, images_per_step: int, headline: Sequence[str] = (), active: bool = True,
        score_title: str = "score",
    ):  # fmt: skip
        self._active, self._start, self._num_steps = active, start_step, num_steps
        self._images_per_step, self._headline, self._score_title = images_per_step, headline, score_title
        terminal = active and sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).columns > 0
        self._bar = tqdm(
            initial=start_step, total=num_steps, bar_format="{desc}", leave=False, dynamic_ncols=True, mininterval=0.2,
            disable=not terminal,
        )  # fmt: skip
        self._redirected = contextlib.ExitStack()
        self._began = self._since = start_step, time.perf_counter()
        self._first: tuple[int, float] | None = None
        self._rate = 0.0
        self._figures: list[str] = []

    def after_step(self, step: int) -> None:
        """Shows that `step` steps are done."""
        if self._first is None:  # it took as long as its compilation, so the time left is estimated from later ones
            self._first = self._since = step, time.perf_counter()
        if not self._bar.disable:
            self._bar.set_description_str(self._line(step), refresh=False)
            self._bar.update(step - self._bar.n)

    def images_per_second(self, step: int) -> float:
        """Returns the rate since the last call; of the first step, with its compilation, only if there is no other."""
        since, now = self._since if step > self._since[0] else self._began, time.perf_counter()
        self._since = step, now
        self._rate = (step - since[0]) * self._images_per_step / max(now - since[1], 1e-9)
        return self._rate

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Shows the metrics of a row of training."""
        self._figures = figures(metrics, self._headline)
        self._say(self._line(step))

    def evaluating(self, step: int) -> None:
        """Shows on a terminal that the images are evaluated, which may take a while."""
        self._bar.set_description_str(f"step {step} of {self._num_steps}  evaluating ...")

    def evaluated(self, step: int, metrics: Mapping[str, float], score: float | None, best: bool) -> None:
        """Logs a line that stays: the metrics of an evaluation, its score, and if it is the best so far."""
        parts = [f"step {step} of {self._num_steps}  validation", *figures(metrics, self._headline)]
        if score is not None:
            parts.append(f"{self._score_title} {score:.4g}" + (", the best so far" if best else ""))
        if self._active:
            logger.info("%s", "  ".join(parts))

    def _line(self, step: int) -> str:
        line = f"step {step} of {self._num_steps}"
        if self._rate:
            line += f"  {self._rate:,.{0 if self._rate >= 10 else 1}f} img/s"
        if self._first is not None and step > self._first[0]:
            per_step = (time.perf_counter() - self._first[1]) / (step - self._first[0])
            line += f"  {tqdm.format_interval((self._num_steps - step) * per_step)} left"
        columns = math.inf if self._bar.disable else self._bar.ncols or math.inf
        # As many figures as the line has room for.
        for figure in self._figures:
            line += f"  {figure}" if len(line) + len(figure) + 2 < columns else ""
        return line

    def _say(self, text: str) -> None:
        self._bar.set_description_str(text)
        if self._active and self._bar.disable:
            logger.info("%s", text)

    def __enter__(self) -> "Progress":
        if not self._bar.disable:
            self._redirected.enter_context(logging_redirect_tqdm())
        if self._start < self._num_steps:
            self._say("compiling ...")
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._bar.close()
        self._redirected.close()


class Log:
    """Writes the rows of a run, and reads a step's metrics only after the next step was dispatched.

    So the device always has work queued while the host waits.
    """

    def __init__(
        self, writer: Writer, progress: Progress, config: TrainConfig, skipped: int, best_score: float = math.inf
    ):
        self._writer, self._progress, self._config = writer, progress, config
        self._pending: tuple[int, Mapping[str, Array], Mapping[str, Array], Array] | None = None
        self._skipped, self._skipped_in_a_row, self._best_score = skipped, 0, best_score
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

    def before_evaluation(self, step: int) -> None:
        """Reads pending metrics, and shows that the evaluation begins."""
        self.catch_up()
        self._progress.evaluating(step)

    def after_evaluation(self, step: int, metrics: Mapping[str, float], score: float | None, saved: bool) -> None:
        """Writes a row of validation metrics, and shows their score (lower is better).

        The best is chosen among the states that are `saved` as checkpoints.
        """
        self._writer.write(step, {f"validation/{name}": value for name, value in metrics.items()})
        best = saved and score is not None and score < self._best_score
        if score is not None and best:
            self._best_score = score
        self._progress.evaluated(step, metrics, score, best)

    def flush(self) -> None:
        """Reads pending metrics and writes all rows to the disk."""
        self.catch_up()
        self._writer.flush()

    def catch_up(self) -> None:
        """Reads pending metrics; raises FloatingPointError if too many steps in a row were skipped."""
        if self._pending is None:
            return
        (step, metrics, fingerprints, signal), self._pending = self._pending, None
        self._progress.after_step(step)
        self._count_skips(step, int(metrics["skipped"]))  # one scalar to the host; the others only for a row
        self.stopped_by = int(signal)
        if step % self._config.log_every == 0:
            rate = self._progress.images_per_second(step)
            metrics, fingerprints = jax.device_get((metrics, fingerprints))
            row = {name: float(value) for name, value in metrics.items()}
            self._writer.write(step, row, {name: f"{int(value):08x}" for name, value in fingerprints.items()})
            self._writer.write_timing(step, rate)
            self._writer.flush(sync=False)  # for those who watch the run
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
