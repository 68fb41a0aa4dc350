"""Images of files and data sets, decoded once into the cache, or on demand: the same images either way."""

import hashlib
import importlib.util
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Generic, NamedTuple, TypeVar

import numpy as np
import PIL
from etils import epath

import genjax
from genjax import files
from genjax.data import batches, conversion, image_cache, scaling
from genjax.data.config import DataConfig
from genjax.data.crops import Crops
from genjax.data.image_cache import Entry
from genjax.data.pictures import Picture
from genjax.data.splits import Images, Splits, check_domains, hold_out
from genjax.files import Json

logger = logging.getLogger(__name__)

DECODER_VERSION = 4
"""Part of every cache key: raise it when a change of the code changes pixels."""

READERS = ("imagecodecs", "pillow_heif", "tifffile")
"""Optional packages that decode some pictures."""

NAMED = 5
"""Damaged images that an error or a warning names; the file that it mentions names all."""

T = TypeVar("T")


class LazyImages(NamedTuple, Generic[T]):
    """Images of one domain that are not decoded yet."""

    items: Mapping[str, Sequence[T]]
    """Paths or rows by split: train, and validation and test if the source has them."""
    name: Callable[[T], str]
    """Returns the name of an item, for messages."""
    open: Callable[[T], Picture]
    """Decodes an item; may raise any exception for damaged files."""
    identity: Callable[[T], list]
    """Returns a JSON value that changes when the item changes; part of the cache key."""
    content: Callable[[T], list] | None = None
    """Returns a JSON value that stands for an item wherever it lies (default: the identity). It is recorded with a run
    that caches nothing."""


class Set(NamedTuple):
    """Images of one domain and split that are not decoded yet."""

    names: list[str]
    read: Callable[[int], np.ndarray]  # decodes and scales an image; raises any exception
    identity: list
    content: list
    channels: int


def decode(domains: Sequence[LazyImages], config: DataConfig) -> Splits[Images]:
    """Decodes the images of all `domains`, or prepares it; missing splits are held out of the training images.

    Raises ValueError if the cache cannot be written, and one that tells all images that are damaged or too small. With
    `config.skip_corrupt` damaged ones are left out, with a warning. Without a cache, images are checked when they are
    needed, or all of them before with `config.skip_corrupt`.
    """
    return Splits(**_decode([hold_out(domain.items, config.holdout) for domain in domains], domains, config))


def decode_train(domains: Sequence[LazyImages], config: DataConfig) -> tuple[Images, ...]:
    """Decodes the training images of all `domains` as `decode` does, but holds none out."""
    return _decode([{"train": list(domain.items["train"])} for domain in domains], domains, config)["train"]


def _decode(
    items: Sequence[Mapping[str, list]], domains: Sequence[LazyImages], config: DataConfig
) -> dict[str, tuple[Images, ...]]:
    """Decodes the `items` of each of the `domains`, by split."""
    check_domains(config, len(domains))
    sets = [
        (split, _set(domain, split, of_split, number, config))
        for number, domain in enumerate(domains)
        for split, of_split in items[number].items()
    ]
    checked = config.cache == "disk" or config.skip_corrupt
    entries = [decode_all(images, split, config) for split, images in sets] if checked else []
    _check(entries, config)
    loaded: dict[str, list[Images]] = {split: [] for split in items[0]}
    for i, (split, images) in enumerate(sets):
        if config.cache == "disk":
            loaded[split].append(_cached(entries[i], split, config))
        else:
            damaged = entries[i].about["damaged"] if checked else {}
            loaded[split].append(
                _on_demand(images, [row for row in range(len(images.names)) if str(row) not in damaged], config)
            )
    return {split: tuple(images) for split, images in loaded.items()}


def _set(domain: LazyImages[T], split: str, items: list[T], number: int, config: DataConfig) -> Set:
    # Evaluation sees the centre of a picture, so nothing else is kept of it.
    scale = scaling.to_scale if split == "train" else scaling.evaluated

    def read(i: int) -> np.ndarray:
        pixels = conversion.to_samples(domain.open(items[i]), config, number)
        scaling.check_large_enough(pixels, config)
        return scale(pixels, config)

    names = [domain.name(item) for item in items]
    checked = config.cache == "disk" or config.skip_corrupt
    identity = [config.levels_of(number), [domain.identity(item) for item in items]] if checked else []
    content = [(domain.content or domain.identity)(item) for item in items] if config.cache == "none" else []
    return Set(names, read, identity, content, config.channels[number])


def _cached(entry: Entry, split: str, config: DataConfig) -> Images:
    """Makes images of cached pixels: an array, or crops of its parts."""
    channels = entry.about["channels"]
    if split != "train" or not config.crops:
        return entry.pixels.reshape(-1, *config.image_size, channels)
    sizes = np.array(entry.about["sizes"], np.int64).reshape(-1, 2)
    ends = np.cumsum(sizes.prod(axis=1) * channels)  # [n]: where each picture's samples end

    def picture(i: int) -> np.ndarray:
        height, width = sizes[i]
        return entry.pixels[ends[i] - height * width * channels : ends[i]].reshape(height, width, channels)

    return Crops((len(sizes), *config.image_size, channels), entry.pixels.dtype, picture)


def _on_demand(images: Set, rows: list[int], config: DataConfig) -> Crops:
    """Makes those images of a set that are not damaged, `rows`; threads decode them when they are needed."""

    def picture(i: int) -> np.ndarray:
        try:
            return images.read(rows[i])
        except MemoryError:
            raise
        except scaling.TooSmallError as error:
            said = scaling.too_small([error.size], 1, config)
            raise ValueError(f"cannot use {images.names[rows[i]]}: {said}") from error
        except Exception as error:  # Pillow raises nearly anything on bad bytes
            other = "--data.skip-corrupt, which checks all images first" if not config.paired else "other pairs"
            raise ValueError(
                f"cannot decode {images.names[rows[i]]}: {error}. Repair it, or start another run with {other}"
            ) from error

    return Crops(
        (len(rows), *config.image_size, images.channels), config.dtype, picture,
        ThreadPoolExecutor(config.decode_threads, "decode"), _sha256([images.content[row] for row in rows]),
    )  # fmt: skip


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


def decode_all(images: Set, split: str, config: DataConfig) -> Entry:
    """Decodes all images of a set into the cache, or finds them there.

    The cache key holds the identity of the images, the settings that change pixels, and versions. Damaged and small
    images are named beside the pixels, which are not kept without a cache.
    """
    # Damaged images have no part in the key: with skip_corrupt, the next start finds the others decoded.
    crops = [config.crops and split == "train", config.load_size]
    treatment = [config.resize, crops, config.image_size, config.upscale, config.cache, config.ground, config.bits]
    # What was too large, or needed a package, is no longer damaged once the user has followed the error's remedy.
    able = [config.max_megapixels, [name for name in READERS if importlib.util.find_spec(name)]]
    versions = [DECODER_VERSION, PIL.__version__, genjax.__version__]
    address = json.dumps([images.identity, images.channels, treatment, able, versions])
    directory = Path(files.resolve(config.cache_dir))
    path = directory / f"{hashlib.sha256(address.encode()).hexdigest()}.npy"
    height, width = config.load_size or config.image_size  # a guess for pictures that keep their proportions
    expected = (
        len(images.names) * height * width * images.channels * config.dtype.itemsize if config.cache == "disk" else 0
    )
    try:
        return image_cache.load(
            path, lambda file: _decode_into(file, images, config), config.cache_gib * 2**30, expected
        )
    except OSError as error:
        raise ValueError(
            f"cannot write the image cache in {directory} ({error}): choose another --data.cache-dir"
        ) from error


def _decode_into(file: BinaryIO, images: Set, config: DataConfig) -> tuple[np.dtype, Json]:
    """Decodes images in threads and appends them to a file, in order; returns their type and a description."""
    sizes: list[tuple[int, int]] = []
    small: dict[str, tuple[int, int]] = {}
    damaged: dict[int, str] = {}

    def read(i: int) -> np.ndarray | Exception:
        try:
            return images.read(i)
        except MemoryError as error:
            raise ValueError(f"no memory to decode {images.names[i]}: try fewer --data.decode-threads") from error
        except Exception as error:  # Pillow raises nearly anything on bad bytes
            return error

    # A few images are decoded ahead of the one that is written, so the set is never in memory.
    threads = config.decode_threads
    for i, found in enumerate(batches.prefetch(read, range(len(images.names)), 2 * threads, threads)):
        if isinstance(found, scaling.TooSmallError):
            small[images.names[i]] = found.size
        elif isinstance(found, Exception):
            damaged[i] = f"{images.names[i]}: {str(found) or type(found).__name__}"
        elif config.cache == "disk":
            sizes.append(found.shape[:2])
            file.write(np.ascontiguousarray(found).data)
    about = {"images": len(images.names), "channels": images.channels, "sizes": sizes}
    return config.dtype, about | {"small": small, "damaged": damaged}


def _check(entries: Sequence[Entry], config: DataConfig) -> None:
    """Raises one ValueError for all images that are small or damaged; warns of those that are left out."""
    total = sum(entry.about["images"] for entry in entries)
    small = {name: (height, width) for entry in entries for name, (height, width) in entry.about["small"].items()}
    damaged = [line for entry in entries for line in entry.about["damaged"].values()]
    lines = damaged_lines(damaged, total)
    where = " ".join(entry.about["path"] for entry in entries if entry.about["damaged"])
    faults = [f"{scaling.too_small([*small.values()], total, config)}; one is {min(small)}"] if small else []
    if damaged and not config.skip_corrupt:
        faults.append(f"{lines}\n{remedy(config)}. All are named in {where}; remove that to try them again")
    if faults:
        raise ValueError("\n".join(faults))
    if damaged:
        logger.warning("%s\nThey are left out; all are named in %s", lines, where)


def remedy(config: DataConfig) -> str:
    """Says what to do with damaged images."""
    # Of a pair whose other image is left out, nothing is left to compare with.
    others = ", and their partners" if config.paired else ", or leave them out with --data.skip-corrupt"
    return f"Repair or remove them{others}"


def damaged_lines(damaged: Sequence[str], total: int) -> str:
    """Says how many images are damaged, and which are the first, one a line."""
    more = [f"and {len(damaged) - NAMED} more"] if len(damaged) > NAMED else []
    return "\n  ".join([f"{len(damaged)} of {total} images cannot be decoded:", *damaged[:NAMED], *more])


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
