"""Cache of decoded images on the disk: one file KEY.npy for each array, which all processes share.

Beside it lie KEY.lock and KEY.partial while a process decodes.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
import numpy as np

logger = logging.getLogger(__name__)

MEMORY_MAP_BYTES = 4 * 2**30
"""Size above which an array is memory-mapped instead of read."""

KEY = "[0-9a-f]" * 64
"""Pattern of the keys, which are SHA-256. Other files in the directory are not the cache's, and stay."""


def load(path: Path, shape: tuple[int, ...], dtype: np.dtype, write: Callable[[Path], None], room: int) -> np.ndarray:
    """Reads the array [n, *shape] of `dtype` at `path`, named KEY.npy, or writes it first.

    One process calls `write(partial)`; others that need the array wait for it. Before it, partial files of killed
    processes are removed, and then the least recently used arrays until the rest take at most `room` bytes.
    """
    array = _read(path, shape, dtype)
    if array is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            array = _read(path, shape, dtype)  # again: another process may have written it meanwhile
            if array is None:
                _make_room(path.parent, room)
                array = _write(path, shape, dtype, write)
    return array


def _read(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray | None:
    """Reads the array at `path`; None if it is missing or damaged."""
    try:
        array = np.load(path, mmap_mode="r" if path.stat().st_size > MEMORY_MAP_BYTES else None)
        if array.shape[1:] != shape or array.dtype != dtype:
            raise ValueError(f"it holds {array.dtype} {array.shape}")
    except (FileNotFoundError, NotADirectoryError):  # perhaps removed just now, by a process that makes room
        return None
    except (ValueError, EOFError, OSError) as error:
        logger.warning("the cached %s is damaged, so images are decoded again: %s", path, error)
        return None
    with contextlib.suppress(OSError):  # a directory that others may only read
        os.utime(path)  # used now
    return array


def _write(path: Path, shape: tuple[int, ...], dtype: np.dtype, write: Callable[[Path], None]) -> np.ndarray:
    # The name is always the same, so a killed process leaves one file, which the next one overwrites.
    partial = path.with_suffix(".partial")
    try:
        write(partial)
        os.replace(partial, path)
        array = _read(path, shape, dtype)
    finally:
        partial.unlink(missing_ok=True)
    assert array is not None  # it has just been written
    return array


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
