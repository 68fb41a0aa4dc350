"""Decoding of images, once and in threads, into cached arrays: one for each split and domain."""

import hashlib
import json
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import PIL
from etils import epath

import genjax
from genjax import files
from genjax.data import conversion, image_cache
from genjax.data.config import DataConfig
from genjax.data.pictures import Picture
from genjax.data.splits import Splits, check_domains, hold_out

logger = logging.getLogger(__name__)

DECODER_VERSION = 3
"""Part of every cache key: raise it when a change of the code changes pixels."""

T = TypeVar("T")


class LazyImages(NamedTuple, Generic[T]):
    """Images of one domain that are not decoded yet."""

    items: Mapping[str, Sequence[T]]
    """Paths or rows by split: train, and validation and test if the source has them."""
    name: Callable[[T], str]
    """Returns the name of an item, for messages."""
    open: Callable[[T], Picture]
    """Decodes an item; may raise any exception for damaged files."""
    identity: Callable[[T], object]
    """Returns a JSON value that changes when the item changes; part of the cache key."""


def decode(domains: Sequence[LazyImages], config: DataConfig) -> Splits:
    """Decodes the images of all `domains`; missing splits are held out of the training images."""
    check_domains(config, len(domains))
    arrays = [_decode_domain(domain, i, config) for i, domain in enumerate(domains)]
    return Splits(*(tuple(by_split[split] for by_split in arrays) for split in Splits._fields))


def _decode_domain(domain: LazyImages, number: int, config: DataConfig) -> dict[str, np.ndarray]:
    arrays = {}
    for split, items in hold_out(domain.items, config.holdout).items():
        shape = config.stored_shape(split, number)
        read = lambda i, items=items, shape=shape: convert(domain.open(items[i]), shape, config, number)  # noqa: E731
        identity = [domain.identity(item) for item in items]
        names = [domain.name(item) for item in items]
        arrays[split] = decode_all(names, read, shape, config, [identity, config.levels_of(number)])
    return arrays


def convert(picture: Picture, shape: tuple[int, int, int], config: DataConfig, number: int) -> np.ndarray:
    """Converts a picture of domain `number` to `shape` by the settings in `config`; ValueError if it is too small."""
    height, width = picture.pixels.shape[:2]
    if (height < config.image_size[0] or width < config.image_size[1]) and not config.upscale:
        raise ValueError(
            f"its {height}x{width} pixels are fewer than the {config.image_size[0]}x{config.image_size[1]} of "
            "--data.image-size; --data.upscale enlarges it"
        )
    return conversion.to_stored(picture, shape, config, number)


def file_version(path: epath.Path) -> list[str | int]:
    """Returns path, size and modification time of a file, for the cache key."""
    if "://" in str(path):
        found = path.stat()
        return [str(path), found.length, found.mtime]
    try:
        local = os.stat(path)  # epath's stat rounds times to seconds, and fails for unknown owners
    except OSError:  # a link to nothing, which cannot be decoded either
        return [os.path.abspath(path)]
    return [os.path.abspath(path), local.st_size, local.st_mtime_ns]


def decode_all(
    names: Sequence[str],
    read: Callable[[int], np.ndarray],
    shape: tuple[int, ...],
    config: DataConfig,
    identity: object,
) -> np.ndarray:
    """Decodes images to [n, *shape], `read(i)` for each of `names` in order, or reads them from the cache.

    The cache key holds `identity` (a JSON value), the shape, the settings that change pixels, and versions. Raises
    ValueError if the cache cannot be written, or with the name of an image that cannot be decoded; with
    `config.skip_corrupt` such an image is logged and left out.
    """
    treatment = [config.resize, config.image_size, config.upscale, config.skip_corrupt, config.ground, DECODER_VERSION]
    address = json.dumps([identity, shape, str(config.dtype), treatment, PIL.__version__, genjax.__version__])
    directory = Path(files.resolve(config.cache_dir))
    path = directory / f"{hashlib.sha256(address.encode()).hexdigest()}.npy"
    room = config.cache_gib * 2**30 - len(names) * math.prod(shape) * config.dtype.itemsize
    try:
        array = image_cache.load(
            path, shape, config.dtype, lambda partial: _decode_into(partial, names, read, shape, config), room
        )
    except OSError as error:
        raise ValueError(
            f"cannot write the image cache in {directory} ({error}): choose another --data.cache-dir"
        ) from error
    if len(array) < len(names):
        left_out = len(names) - len(array)
        logger.warning("left out %d of %d images; remove %s to be told again which", left_out, len(names), path)
    return array


def _decode_into(
    path: Path, names: Sequence[str], read: Callable[[int], np.ndarray], shape: tuple[int, ...], config: DataConfig
) -> None:
    """Decodes images into an .npy file at `path`, without corrupt ones if `config.skip_corrupt`."""
    array = np.lib.format.open_memmap(path, "w+", config.dtype, (len(names), *shape))
    if hasattr(os, "posix_fallocate"):  # reserve the space: a full disk would kill the process with SIGBUS
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    good = np.zeros(len(names), bool)

    def decode(i: int) -> None:
        try:
            array[i] = read(i)
            good[i] = True
        except MemoryError as error:
            raise ValueError(f"no memory to decode {names[i]}: try fewer --data.decode-threads") from error
        except Exception as error:  # Pillow raises nearly anything on bad bytes
            if not config.skip_corrupt:
                raise ValueError(
                    f"cannot decode {names[i]}: {error}. Repair or remove it, or leave it out with --data.skip-corrupt"
                ) from error
            logger.warning("left out %s, which cannot be decoded: %s", names[i], error)

    # Each image has its own row, so the result does not depend on the order of the threads.
    with ThreadPoolExecutor(config.decode_threads, "decode") as pool:
        try:
            for _ in pool.map(decode, range(len(names))):
                pass
        except ValueError:
            pool.shutdown(cancel_futures=True)
            raise
    if not good.all():
        kept = array[good]
        array = np.lib.format.open_memmap(path, "w+", config.dtype, kept.shape)
        array[:] = kept
    array.flush()
