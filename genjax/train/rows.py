"""Files of rows: metrics.jsonl, timing.jsonl, and the table metrics.csv made of the first.

metrics.jsonl holds no clock times, so equal runs have equal files. Rows are appended. Each checkpoint names the rows
that it covers. A resumed training checks those, cuts off later ones, and writes them again.
"""

import csv
import dataclasses
import hashlib
import io
import json
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence

from etils import epath

from genjax import files
from genjax.files import Json
from genjax.task import Row

logger = logging.getLogger(__name__)

METRICS, TIMING, TABLE = "metrics.jsonl", "timing.jsonl", "metrics.csv"


def read_rows(path: epath.PathLike) -> Iterator[Json]:
    """Yields the rows of a .jsonl file; none if it does not exist. An incomplete last line is ignored.

    Raises ValueError for any other line that is not a row.
    """
    path = epath.Path(path)
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return  # cut off by a kill
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path} is damaged, its line {number} is no JSON: {error}") from error
            if not isinstance(row, dict) or type(row.get("step")) is not int:
                raise ValueError(f"{path} is damaged, its line {number} has no step")
            yield row


def finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Replaces numbers that are not finite by None, as JSON cannot hold them."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def write_csv(workdir: epath.Path) -> None:
    """Writes metrics.csv: a line for each step with its metrics of training and evaluation, without fingerprints.

    A metric that is not finite, or was not measured at a step, is empty.
    """
    steps: dict[int, Json] = {}
    for row in read_rows(workdir / METRICS):
        row.pop("fingerprint", None)
        if "warnings" in row:
            row["warnings"] = "; ".join(row["warnings"].values())
        steps.setdefault(row["step"], {}).update(row)
    if steps:
        names = dict.fromkeys(name for row in steps.values() for name in row)  # in the order of their first rows
        table = csv.DictWriter(buffer := io.StringIO(), names, lineterminator="\n")
        table.writeheader()
        table.writerows(steps.values())
        files.write_atomically(workdir / TABLE, buffer.getvalue())


@dataclasses.dataclass(frozen=True)
class Extent:
    """Number and SHA-256 of the first rows of a file."""

    count: int = 0
    sha256: str = hashlib.sha256().hexdigest()


def read_covered(path: epath.Path, covered: Extent) -> list[bytes]:
    """Reads the lines of a file of rows that a checkpoint covers.

    If the file was removed, it logs which rows are lost and returns none. Raises ValueError if rows are missing in it
    or have changed.
    """
    if not path.exists():
        if covered.count:
            logger.warning("%s is gone, so rows 1 to %d, up to the checkpoint, are lost", path, covered.count)
        return []
    lines = path.read_bytes().splitlines(keepends=True)[: covered.count]
    if hashlib.sha256(b"".join(lines)).hexdigest() != covered.sha256:
        whole = sum(line.endswith(b"\n") for line in lines)
        found = f"holds {whole} of the" if whole < covered.count else "differs (by its SHA-256) from the"
        raise ValueError(
            f"{path} is damaged, it {found} {covered.count} rows up to the checkpoint: "
            "restore it from a backup, or move it away, and the run goes on without these rows"
        )
    return lines


class RowFile:
    """A .jsonl file that rows are appended to, after `lines`; the first flush cuts off whatever else it holds.

    gs:// files cannot be appended to: there each flush with `sync` writes the whole file again, and others do nothing.
    """

    def __init__(self, path: epath.Path, lines: Sequence[bytes], active: bool):
        content = b"".join(lines)
        self._path, self._active, self._pending = path, active, bytearray()
        self._sha, self._count = hashlib.sha256(content), len(lines)
        self._size = len(content)
        """Bytes of the file that hold whole rows."""
        self._remote = "://" in str(path)
        self._content = content if active and self._remote else b""

    @property
    def extent(self) -> Extent:
        """Number and SHA-256 of all rows, buffered ones among them."""
        return Extent(self._count, self._sha.hexdigest())

    def append(self, row: Row) -> None:
        """Buffers a row until the next flush."""
        line = (json.dumps(row) + "\n").encode()
        self._sha.update(line)
        self._count += 1
        if self._active:
            self._pending += line

    def flush(self, sync: bool = True) -> None:
        """Writes all buffered rows to the file, and with `sync` to the disk."""
        if not self._active or (self._remote and not sync):
            return
        if self._remote:
            self._path.write_bytes(self._content + self._pending)
            self._content += self._pending
        else:
            self._append_to_disk(sync)
        self._size += len(self._pending)
        self._pending.clear()

    def _append_to_disk(self, sync: bool) -> None:
        if not self._pending and not self._path.exists():
            return  # an empty file would look like one whose rows were cut off
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with files.named_errors(self._path), open(self._path, "ab") as file:
            if file.tell() > self._size:  # rows after the checkpoint, or half a row if a flush failed on a full disk
                file.truncate(self._size)
            file.write(self._pending)
            file.flush()
            if sync:  # earlier rows too: the next thing written may be a checkpoint that covers them
                os.fsync(file.fileno())
