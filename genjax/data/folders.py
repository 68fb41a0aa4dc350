"""Folders of images: one domain below a folder, or two in the folders trainA, trainB, testA, testB."""

import io
import os
from collections.abc import Sequence
from typing import Literal

import numpy as np
from etils import epath
from PIL import Image

from genjax import files
from genjax.config import DataConfig
from genjax.data import image_arrays
from genjax.data.decoding import LazyImages

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"})
SPLIT_FOLDERS = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}


def find(root: epath.Path, config: DataConfig) -> list[LazyImages]:
    """The images of each domain below `root`; ValueError or FileNotFoundError if a folder is missing or empty."""
    if not root.is_dir():
        raise FileNotFoundError(f"no such folder: {root}")
    if len(config.channels) == 1:
        return [_stored(_one_domain_folders(root), config)]
    domains = [_stored(_two_domain_folders(root, letter), config) for letter in "AB"]
    if config.paired:
        _check_pairs(root, *domains)
    return domains


def _one_domain_folders(root: epath.Path) -> dict[str, epath.Path]:
    """`root` itself, or the folders train, validation (or val) and test in it."""
    if (root / "train").is_dir():
        return _existing({split: [root / name for name in names] for split, names in SPLIT_FOLDERS.items()})
    names = ("trainA", "train_A", "traina", "train_a")
    of_two = next((root / name for name in names if (root / name).is_dir()), None)
    if of_two is not None:  # all images below would be test images too
        raise ValueError(
            f"{root} holds two domains: give --data.channels an entry for each, or one of them as folder:{of_two}"
        )
    return {"train": root}


def _two_domain_folders(root: epath.Path, letter: str) -> dict[str, epath.Path]:
    """The folder of each split, named trainA, train_A, train/A or with a lower-case letter."""
    endings = [between + form for between in ("", "_", "/") for form in (letter, letter.lower())]
    found = _existing({
        split: [root / f"{name}{ending}" for name in names for ending in endings]
        for split, names in SPLIT_FOLDERS.items()
    })  # fmt: skip
    if "train" not in found:
        there = sorted(path.name for path in root.iterdir() if path.is_dir())
        raise FileNotFoundError(
            f"{root} has no folder train{letter} (nor train_{letter}, nor train/{letter}) for domain {letter}; "
            f"its folders are: {', '.join(there) or 'none'}"
        )
    return found


def _existing(named: dict[str, list[epath.Path]]) -> dict[str, epath.Path]:
    first = {split: next((path for path in paths if path.is_dir()), None) for split, paths in named.items()}
    return {split: path for split, path in first.items() if path is not None}


def _stored(folders: dict[str, epath.Path], config: DataConfig) -> LazyImages:
    found = {split: _distinct(image_files(folder)) for split, folder in folders.items()}
    minimum = 1 if config.holdout == 0 else 4 - len(found)  # one for each split that is held out of train
    if len(found["train"]) < minimum:
        raise ValueError(
            f"{folders['train']} holds {len(found['train'])} images, and training needs at least {minimum}; "
            f"looked in it and below for {' '.join(sorted(IMAGE_SUFFIXES))}"
        )
    return LazyImages(found, name=str, open=lambda path: Image.open(io.BytesIO(path.read_bytes())), identity=stamp)


def _check_pairs(root: epath.Path, first: LazyImages, second: LazyImages) -> None:
    """Pairs are files of the same name, but for its suffix."""
    for split in set(first.items) & set(second.items) - {"train"}:
        a, b = ([path.stem for path in stored.items[split]] for stored in (first, second))
        if a != b:
            alone = set(a) ^ set(b)
            why = f"{len(alone)} are in one of them only, such as {min(alone)}" if alone else "their order differs"
            raise ValueError(f"--data.paired needs the same names in both {split} folders of {root}, and {why}")


def read_images(
    path: epath.PathLike, shape: Sequence[int], resize: Literal["cover", "stretch"] = "cover", num: int | None = None
) -> np.ndarray:
    """uint8 [n, *shape] of an image file, or of the first `num` images below a folder (default: of all).

    ValueError names one that is corrupt.
    """

    def read(file: epath.Path) -> np.ndarray:
        try:
            return image_arrays.decode(file.read_bytes(), shape, resize)
        except Exception as error:  # Pillow raises nearly anything on bad bytes
            raise ValueError(f"cannot decode {file}: {error}") from error

    return np.stack([read(file) for file in file_or_folder(path)[:num]])


def file_or_folder(path: epath.PathLike) -> list[epath.Path]:
    """The image file `path`, or all image files below the folder `path`; ValueError if there is none."""
    path = files.resolve(path)
    if not path.exists():
        raise FileNotFoundError(f"no such file or folder: {path}")
    found = image_files(path) if path.is_dir() else [path]
    if not found:
        raise ValueError(f"{path} holds no images ({' '.join(sorted(IMAGE_SUFFIXES))})")
    return found


def image_files(root: epath.Path) -> list[epath.Path]:
    """Image files below `root` in the order of their names, no hidden ones; no link leads into a folder twice."""
    pending, found, seen = [root], [], {_real(root)}
    while pending:
        for path in sorted(pending.pop().iterdir(), key=str):
            if path.name.startswith("."):
                continue
            if path.is_dir():
                if _real(path) not in seen:
                    seen.add(_real(path))
                    pending.append(path)
            elif path.suffix.lower() in IMAGE_SUFFIXES:
                found.append(path)
    return sorted(found, key=str)


def _distinct(paths: list[epath.Path]) -> list[epath.Path]:
    """Each file once, by the first of its names."""
    first: dict[str, epath.Path] = {}
    for path in paths:
        first.setdefault(_real(path), path)
    return list(first.values())


def _real(path: epath.Path) -> str:
    """Where links lead."""
    return str(path) if "://" in str(path) else os.path.realpath(path)


def stamp(path: epath.Path) -> list[str | int]:
    """What changes when a file does: path, size and time."""
    if "://" in str(path):
        found = path.stat()
        return [str(path), found.length, found.mtime]
    try:
        local = os.stat(path)  # epath's stat of a local file drops what is below a second, and fails on unknown owners
    except OSError:  # a link to nothing, which cannot be decoded either
        return [os.path.abspath(path)]
    return [os.path.abspath(path), local.st_size, local.st_mtime_ns]
