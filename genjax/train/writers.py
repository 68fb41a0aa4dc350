"""Writer of a run's rows, with the monitor's warnings in them; to trackers too if asked."""

import dataclasses
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from etils import epath

from genjax.files import Json
from genjax.task import RECENT_ROWS, Monitor, Row
from genjax.train.rows import METRICS, TIMING, Extent, RowFile, finite, read_covered, write_csv
from genjax.train.trackers import Tracker

logger = logging.getLogger(__name__)


class Writer:
    """Writes the rows of a run after those that a checkpoint covers, with the monitor's warnings, if `active`.

    It logs when a warning appears or disappears. It writes nothing before the first flush, and metrics.csv at its end.
    Raises ValueError if rows in `covered` (file name -> `Extent` as JSON) are not there.
    """

    def __init__(
        self, workdir: epath.Path, covered: Mapping[str, Json], active: bool = True, monitor: Monitor | None = None,
        start_trackers: Callable[[], Sequence[Tracker]] = tuple,
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
        self._start_trackers = start_trackers if active else tuple
        self._trackers: list[Tracker] = []

    @property
    def covered(self) -> dict[str, Json]:
        """The rows written so far, for the record of a checkpoint: file name -> `Extent` as JSON."""
        extents = {METRICS: self._metrics.extent, TIMING: self._timing.extent}
        return {name: dataclasses.asdict(extent) for name, extent in extents.items()}

    def write(self, step: int, metrics: Mapping[str, float], fingerprint: Mapping[str, str] | None = None) -> None:
        """Writes a row of metrics after `step` steps, with the state's fingerprint if given; NaN becomes null."""
        row: Json = {"step": step, **finite(metrics)} | ({"fingerprint": fingerprint} if fingerprint else {})
        before = self._warnings
        self._remember(row)  # before the monitor, which sees this row too
        if self._monitor is not None:
            row["warnings"] = self._warnings = self._monitor(self._recent, self._evaluation)
            self._log_changes(step, before)
        self._metrics.append(row)
        self._track(lambda tracker: tracker.scalars(step, metrics))

    def write_pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """Gives trackers pictures, uint8 [h, w, c] by name; the run has its own in samples/."""
        self._track(lambda tracker: tracker.pictures(step, pictures))

    def _track(self, send: Callable[[Tracker], None]) -> None:
        for tracker in list(self._trackers):  # a copy, as the loop removes some
            try:
                send(tracker)
            except Exception as error:  # of the network, perhaps: no reason to lose a training
                self._trackers.remove(tracker)
                logger.warning("%s gets no more rows, training goes on: %s", type(tracker).__name__, error)

    def _remember(self, row: Row) -> None:
        if any(name.startswith("validation/") for name in row):
            self._evaluation = row
        else:
            self._recent.append(row)
        self._warnings = row.get("warnings", self._warnings)  # of a row that is read again

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

    def flush(self, sync: bool = True) -> None:
        """Writes all rows, with `sync` to the disk; call it so before saving a checkpoint that covers them.

        Without, they are in the files for those who watch the run, and a power cut may take them.
        """
        self._metrics.flush(sync)
        self._timing.flush(sync)

    def __enter__(self) -> "Writer":
        self._trackers = list(self._start_trackers())
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            self.flush()
            if self._active:
                write_csv(self.workdir)
        finally:
            self._track(lambda tracker: tracker.close())
