"""Folders of images: one domain below a folder, or two in the folders trainA, trainB, testA, testB."""

import os
from collections.abc import Mapping, Sequence

import numpy as np
from etils import epath

from genjax import files
from genjax.data import decoding, pictures
from genjax.data.config import DataConfig, Resize
from genjax.data.decoding import LazyImages, file_version
from genjax.data.splits import Splits

# Names of each split's folder, the first one that exists counts.
SPLIT_FOLDERS = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}


def load(config: DataConfig) -> Splits:
    """Decodes the images of the source folder:PATH; ValueError or FileNotFoundError if a folder is missing or empty."""
    return decoding.decode(find(files.resolve(config.source.removeprefix("folder:")), config), config)


def find(root: epath.Path, config: DataConfig) -> list[LazyImages[epath.Path]]:
    """Lists the images of each domain below `root`; ValueError or FileNotFoundError as in `load`."""
    if not root.is_dir():
        raise FileNotFoundError(f"no such folder: {root}")
    if len(config.channels) == 1:
        return [_lazy_images(_one_domain_folders(root), config)]
    domains = [_lazy_images(_two_domain_folders(root, letter), config) for letter in "AB"]
    if config.paired:
        _check_pairs(root, *domains)
    return domains


def _one_domain_folders(root: epath.Path) -> dict[str, epath.Path]:
    """Returns `root` itself, or the folders train, validation (or val) and test in it."""
    if (root / "train").is_dir():
        return _existing(root, SPLIT_FOLDERS)
    names = ("trainA", "train_A", "traina", "train_a")
    first = next((root / name for name in names if (root / name).is_dir()), None)
    if first is not None:  # as one domain, its test images would be trained on
        raise ValueError(
            f"{root} holds two domains: give --data.channels an entry for each, or one of them as folder:{first}"
        )
    return {"train": root}


def _two_domain_folders(root: epath.Path, letter: str) -> dict[str, epath.Path]:
    """Finds the folder of each split, named trainA, train_A, train/A or with a lower-case letter."""
    endings = [between + form for between in ("", "_", "/") for form in (letter, letter.lower())]
    named = {
        split: [f"{name}{ending}" for name in names for ending in endings] for split, names in SPLIT_FOLDERS.items()
    }
    found = _existing(root, named)
    if "train" not in found:
        there = sorted(path.name for path in root.iterdir() if path.is_dir())
        raise FileNotFoundError(
            f"{root} has no folder train{letter} (nor train_{letter}, nor train/{letter}) for domain {letter}; "
            f"its folders are: {', '.join(there) or 'none'}"
        )
    return found


def _existing(root: epath.Path, named: Mapping[str, Sequence[str]]) -> dict[str, epath.Path]:
    """Returns the first folder below `root` that exists, for each split that has one."""
    first = {
        split: next((root / name for name in names if (root / name).is_dir()), None) for split, names in named.items()
    }
    return {split: path for split, path in first.items() if path is not None}


def _lazy_images(folders: dict[str, epath.Path], config: DataConfig) -> LazyImages[epath.Path]:
    # A file that two links lead to would else be held out and trained on.
    found = {split: _distinct(image_files(folder)) for split, folder in folders.items()}
    minimum = 1 if config.holdout == 0 else 4 - len(found)  # one for each split that is held out of train
    if len(found["train"]) < minimum:
        raise ValueError(
            f"{folders['train']} holds {len(found['train'])} images, and training needs at least {minimum}; "
            f"looked in it and below for {' '.join(sorted(pictures.SUFFIXES))}"
        )
    return LazyImages(found, str, lambda path: pictures.decode(path.read_bytes()), file_version)


def _check_pairs(root: epath.Path, first: LazyImages, second: LazyImages) -> None:
    """Raises ValueError unless pairs have the same name (suffixes may differ) in validation and in test."""
    # Pairs are matched by their place in the order of names, so names have to be the same.
    for split in set(first.items) & set(second.items) - {"train"}:
        a, b = ([path.stem for path in domain.items[split]] for domain in (first, second))
        if a != b:
            alone = set(a) ^ set(b)
            why = f"{len(alone)} are in one of them only, such as {min(alone)}" if alone else "their order differs"
            raise ValueError(f"--data.paired needs the same names in both {split} folders of {root}, and {why}")


def read_images(
    paths: Sequence[epath.PathLike], shape: Sequence[int], resize: Resize = "cover", num: int | None = None
) -> np.ndarray:
    """Reads the first `num` images (default: all) of files and folders, as uint8 [n, *shape].

    Raises ValueError with the name of an image that cannot be read.
    """
    return np.stack([pictures.to_uint8(pictures.read(file), shape, resize) for file in list(named_images(paths))[:num]])


def named_images(paths: Sequence[epath.PathLike]) -> dict[epath.Path, epath.Path]:
    """Maps each image file in `paths`, or below a folder in them, to its name or its path below that folder.

    Raises ValueError or FileNotFoundError for a path without images.
    """
    named: dict[epath.Path, epath.Path] = {}
    for root in map(files.resolve, paths):
        if not root.exists():
            raise FileNotFoundError(f"no such file or folder: {root}")
        found = {path: path.relative_to(root) for path in image_files(root)} if root.is_dir() else {}
        if root.is_dir() and not found:
            raise ValueError(f"{root} holds no images ({' '.join(sorted(pictures.SUFFIXES))})")
        named |= found or {root: epath.Path(root.name)}
    return named


def image_files(root: epath.Path) -> list[epath.Path]:
    """Lists the image files below `root`, sorted by path, without hidden ones; links are followed."""
    # Each folder is entered once, as a link to a parent folder would never end.
    pending, found, seen = [root], [], {_real(root)}
    while pending:
        for path in sorted(pending.pop().iterdir(), key=str):
            if path.name.startswith("."):
                continue
            if path.is_dir():
                if _real(path) not in seen:
                    seen.add(_real(path))
                    pending.append(path)
            elif path.suffix.lower() in pictures.SUFFIXES:
                found.append(path)
    return sorted(found, key=str)


def _distinct(paths: list[epath.Path]) -> list[epath.Path]:
    """Keeps the first path of each file, if several links lead to it."""
    first: dict[str, epath.Path] = {}
    for path in paths:
        first.setdefault(_real(path), path)
    return list(first.values())


def _real(path: epath.Path) -> str:
    """Resolves links."""
    return str(path) if "://" in str(path) else os.path.realpath(path)
