"""Writer of a run's rows, with the monitor's warnings in them; to TensorBoard too if asked."""

import logging
import time
from collections import deque
from collections.abc import Mapping
from types import ModuleType

from etils import epath

from genjax.files import Json
from genjax.task import RECENT_ROWS, Monitor, Row
from genjax.train.rows import METRICS, TIMING, RowFile, finite, read_rows

logger = logging.getLogger(__name__)


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
