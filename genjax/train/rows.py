"""Files of rows: metrics.jsonl, timing.jsonl.

metrics.jsonl holds no clock times, so equal runs have equal files. Rows are appended. A resumed training first cuts off
rows later than its checkpoint, and writes them again.
"""

import json
import math
import os
import re
from collections.abc import Iterator, Mapping

from etils import epath

from genjax.files import Json
from genjax.task import Row

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
