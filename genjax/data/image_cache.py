"""Cache of decoded images on the disk, which all processes share: KEY.npy holds pixels, KEY.json what they are.

KEY.json names the images that could not be decoded, too. Beside them lie KEY.lock and KEY.partial while a process
decodes.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import filelock
import numpy as np

from genjax import files
from genjax.files import Json

logger = logging.getLogger(__name__)

MEMORY_MAP_BYTES = 4 * 2**30
"""Size above which an array is memory-mapped instead of read."""

KEY = "[0-9a-f]" * 64
"""Pattern of the keys, which are SHA-256. Other files in the directory are not the cache's, and stay."""


class Entry(NamedTuple):
    """Content of one key."""

    pixels: np.ndarray  # [number of samples]: all images, one after another
    about: Json  # what the writer returned, and the path that it is kept in


def load(path: Path, write: Callable[[BinaryIO], tuple[np.dtype, Json]], limit: int, expected: int) -> Entry:
    """Reads the pixels at `path`, named KEY.npy, and their index beside it, or writes them first.

    One process calls `write(file)`, which appends pixels and returns their type and an index; others that need the
    array wait for it. The least recently used arrays are removed until all take at most `limit` bytes, before it with
    about `expected` bytes for the new one, and after it.
    """
    entry = _read(path)
    if entry is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            entry = _read(path)  # again: another process may have written it meanwhile
            if entry is None:
                _make_room(path.parent, limit - expected)
                entry = _write(path, write, limit)
    return entry


def _read(path: Path) -> Entry | None:
    """Reads the array at `path` and its index; None if one is missing or damaged."""
    try:
        index = files.read_json(path.with_suffix(".json"))
        pixels = np.load(path, mmap_mode="r" if path.stat().st_size > MEMORY_MAP_BYTES else None)
        if pixels.shape != (index["samples"],) or pixels.dtype.str != index["dtype"]:
            raise ValueError(f"it holds {pixels.dtype} {pixels.shape}")
    except (FileNotFoundError, NotADirectoryError):  # perhaps removed just now, by a process that makes room
        return None
    except (ValueError, KeyError, TypeError, EOFError, OSError) as error:
        logger.warning("the cached %s is damaged, so images are decoded again: %s", path, error)
        return None
    with contextlib.suppress(OSError):  # a directory that others may only read
        os.utime(path)  # used now
    return Entry(pixels, index | {"path": str(path.with_suffix(".json"))})


def _write(path: Path, write: Callable[[BinaryIO], tuple[np.dtype, Json]], limit: int) -> Entry:
    # The name is always the same, so a killed process leaves one file, which the next one overwrites.
    partial = path.with_suffix(".partial")
    try:
        with open(partial, "wb") as file:
            _write_header(file, np.dtype(np.uint8), 0)
            start = file.tell()
            dtype, index = write(file)
            samples = (file.tell() - start) // dtype.itemsize
            file.seek(0)
            _write_header(file, dtype, samples)
            assert file.tell() == start  # NumPy pads headers, so that an array may grow in place
        _make_room(path.parent, limit - partial.stat().st_size)
        files.write_json(path.with_suffix(".json"), {"samples": samples, "dtype": dtype.str, **index})
        os.replace(partial, path)  # last: an array without its index would be damaged
        entry = _read(path)
    finally:
        partial.unlink(missing_ok=True)
    assert entry is not None  # it has just been written
    return entry


def _write_header(file: BinaryIO, dtype: np.dtype, samples: int) -> None:
    header: dict[str, Any] = {"descr": dtype.str, "fortran_order": False, "shape": (samples,)}
    np.lib.format.write_array_header_1_0(file, header)


def _make_room(directory: Path, room: int) -> None:
    """Removes partial files of killed processes, then arrays, the least recently used first, down to `room` bytes."""
    for lock in directory.glob(f"{KEY}.lock"):
        with contextlib.suppress(filelock.Timeout), _locked(lock, wait=False):
            lock.with_suffix(".partial").unlink(missing_ok=True)
    found = []
    for path in directory.glob(f"{KEY}.npy"):
        with contextlib.suppress(FileNotFoundError):  # another process makes room too
            found.append((path.stat().st_mtime_ns, path.stat().st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total > room:
            with contextlib.suppress(OSError):  # removed by another process, or not ours to remove
                path.unlink()  # an array that a process has mapped lives on until it ends
                path.with_suffix(".json").unlink(missing_ok=True)
                total -= size
                logger.warning("removed %s, used least recently, from the full cache: see --data.cache-gib", path)


@contextlib.contextmanager
def _locked(path: Path, wait: bool = True) -> Iterator[None]:
    """Allows one process at a time to write `path`; filelock.Timeout if another does, and this one is not to wait."""
    lock = filelock.FileLock(path.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        if not wait:
            raise
        logger.info("waiting for another process, which decodes the same images into %s", path)
        lock.acquire()
    try:
        yield
    finally:
        path.with_suffix(".lock").unlink(missing_ok=True)  # before its release: who waits for it then makes a new one
        lock.release()
