"""Writer of a run's rows, with the monitor's warnings in them; to TensorBoard too if asked."""

import dataclasses
import json
import logging
import time
from collections import deque
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from etils import epath

from genjax.files import Json
from genjax.task import RECENT_ROWS, Monitor, Row
from genjax.train.rows import METRICS, TIMING, Extent, RowFile, finite, read_covered

logger = logging.getLogger(__name__)


class Writer:
    """Writes the rows of a run after those that a checkpoint covers, with the monitor's warnings, if `active`.

    It logs when a warning appears or disappears. It writes nothing before the first flush. Raises ValueError if rows in
    `covered` (file name -> `Extent` as JSON) are not there.
    """

    def __init__(
        self, workdir: epath.Path, covered: Mapping[str, Json], tensorboard: bool, active: bool = True,
        monitor: Monitor | None = None,
    ):  # fmt: skip
        self.workdir, self._active, self._monitor = workdir, active, monitor
        self._began = time.perf_counter()
        self._recent: deque[Row] = deque(maxlen=RECENT_ROWS)
        self._evaluation: Row = {}
        self._warnings: dict[str, str] = {}
        metrics, timing = (read_covered(workdir / name, Extent(**covered.get(name, {}))) for name in (METRICS, TIMING))
        # A resumed run needs the monitor's earlier rows, so that it gives the same warnings as an uninterrupted one.
        for line in metrics:
            self._remember(json.loads(line))
        self._metrics = RowFile(workdir / METRICS, metrics, active)
        self._timing = RowFile(workdir / TIMING, timing, active)
        self._make_tensorboard = import_tensorboard().SummaryWriter if tensorboard and active else None
        self._tensorboard: Any = None

    @property
    def covered(self) -> dict[str, Json]:
        """The rows written so far, for the record of a checkpoint: file name -> `Extent` as JSON."""
        extents = {METRICS: self._metrics.extent, TIMING: self._timing.extent}
        return {name: dataclasses.asdict(extent) for name, extent in extents.items()}

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
        if self._make_tensorboard is not None:
            self._tensorboard = self._make_tensorboard(str(self.workdir / "tensorboard"))
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
