"""Decodes many images once, in threads, into one cached uint8 array."""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL

import genjax
from genjax.config import DataConfig

logger = logging.getLogger(__name__)

MEMORY_MAP_BYTES = 4 * 2**30
"""Larger arrays are read from the disk page by page."""


def decode_all(
    names: Sequence[str], read: Callable[[int], np.ndarray], config: DataConfig, identity: Any
) -> np.ndarray:
    """uint8 [n, *config.image_shape] of the images that `read(i)` decodes, in order, from the cache or into it.

    `identity` (anything JSON can write) says which images these are: the cache is keyed by it, by the shape and by the
    treatment of corrupt images. Raises ValueError with the name of an image that cannot be decoded, unless
    `config.skip_corrupt`: then it is logged and left out. Raises ValueError if the cache cannot be written.
    """
    address = json.dumps([identity, config.image_shape, config.skip_corrupt, PIL.__version__, genjax.__version__])
    directory = Path(config.cache_dir).expanduser()
    path = directory / f"{hashlib.sha256(address.encode()).hexdigest()}.npy"
    array = _read_cached(path, config)
    if array is None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=directory, suffix=".partial")
        except OSError as error:
            raise ValueError(
                f"cannot write the image cache in {directory} ({error}): choose another --data.cache-dir"
            ) from error
        os.close(handle)
        try:
            _decode_into(Path(name), names, read, config)
            os.replace(name, path)  # two runs that decode the same images at once write the same bytes
        finally:
            Path(name).unlink(missing_ok=True)
        array = _read_cached(path, config)
    assert array is not None  # it has just been written
    return array


def _read_cached(path: Path, config: DataConfig) -> np.ndarray | None:
    """The array at `path`, or None if there is none or it is damaged."""
    if not path.exists():
        return None
    try:
        array = np.load(path, mmap_mode="r" if path.stat().st_size > MEMORY_MAP_BYTES else None)
    except (ValueError, EOFError, OSError) as error:
        logger.warning("decoding anew, for the cached %s is damaged: %s", path, error)
        return None
    return array if array.shape[1:] == tuple(config.image_shape) and array.dtype == np.uint8 else None


def _decode_into(path: Path, names: Sequence[str], read: Callable[[int], np.ndarray], config: DataConfig) -> None:
    array = np.lib.format.open_memmap(path, "w+", np.uint8, (len(names), *config.image_shape))
    good = np.zeros(len(names), bool)

    def decode(i: int) -> None:
        try:
            array[i] = read(i)
            good[i] = True
        except Exception as error:  # Pillow raises nearly anything on bad bytes
            if not config.skip_corrupt:
                raise ValueError(
                    f"cannot decode {names[i]}: {error}. Mend it, remove it, or leave it out with --data.skip-corrupt"
                ) from error
            logger.warning("left out %s, which cannot be decoded: %s", names[i], error)

    with ThreadPoolExecutor(config.decode_threads, "decode") as pool:
        try:
            for _ in pool.map(decode, range(len(names))):
                pass
        except ValueError:
            pool.shutdown(cancel_futures=True)
            raise
    if not good.all():
        logger.warning("left out %d of %d images", len(names) - good.sum(), len(names))
        kept = array[good]
        array = np.lib.format.open_memmap(path, "w+", np.uint8, kept.shape)
        array[:] = kept
    array.flush()
