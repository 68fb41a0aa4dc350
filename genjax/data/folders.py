"""Images in folders: lists of files, and their halves where a picture shows both domains."""

import os
import unicodedata
from collections.abc import Sequence

import numpy as np
from etils import epath

from genjax import files
from genjax.data import decoding, layouts, pictures
from genjax.data.config import DataConfig, Resize
from genjax.data.decoding import LazyImages, file_version
from genjax.data.pictures import Picture
from genjax.data.splits import Splits


def load(config: DataConfig) -> Splits:
    """Decodes the images of folder:PATH, folder:PATH_A,PATH_B or pairs:PATH.

    Raises ValueError or FileNotFoundError if a folder is missing or empty, or if names do not make pairs.
    """
    return decoding.decode(listed(config), config)


def listed(config: DataConfig) -> list[LazyImages[epath.Path]]:
    """Lists the images of each domain; ValueError or FileNotFoundError as in `load`."""
    found = layouts.find(config)
    if config.source.startswith("pairs:"):
        return [_lazy_images(domain, config, half) for half, domain in enumerate(found)]
    domains = [_lazy_images(domain, config) for domain in found]
    if config.paired:
        names = [{split: [path.stem for path in paths] for split, paths in d.items.items()} for d in domains]
        layouts.check_pairs(config, names)
    return domains


def _lazy_images(folders: layouts.Folders, config: DataConfig, half: int | None = None) -> LazyImages[epath.Path]:
    """Lists the images of one domain, or one half of each picture that shows both domains side by side."""
    # A file that two links lead to would else be held out and trained on.
    found = {split: _distinct(image_files(folder)) for split, folder in folders.items()}
    minimum = 1 if config.holdout == 0 else 4 - len(found)  # one for each split that is held out of train
    if len(found["train"]) < minimum:
        raise ValueError(
            f"{folders['train']} holds {len(found['train'])} images, and training needs at least {minimum}; "
            f"looked in it and below for {' '.join(sorted(pictures.SUFFIXES))}"
        )
    for split in found.keys() - {"train"}:
        if not found[split]:
            raise ValueError(
                f"{folders[split]} holds no images ({' '.join(sorted(pictures.SUFFIXES))}): add some, or remove the "
                f"folder, and {split} images are held out of training (--data.holdout {config.holdout})"
            )

    def read(path: epath.Path) -> Picture:
        picture = pictures.decode(path.read_bytes())
        return picture if half is None else _half(picture, half)

    return LazyImages(found, str, read, lambda path: [*file_version(path), half])


def _half(picture: Picture, half: int) -> Picture:
    """Returns the left half (0) or the right half (1) of a picture; ValueError for an odd width."""
    width = picture.pixels.shape[1]
    if width % 2:
        raise ValueError(f"its width of {width} pixels is odd, so it does not show two pictures side by side")
    part = slice(half * width // 2, (half + 1) * width // 2)
    alpha = None if picture.alpha is None else picture.alpha[:, part]
    return picture._replace(pixels=picture.pixels[:, part], alpha=alpha)


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

    def order(path: epath.Path) -> str:
        return unicodedata.normalize("NFC", str(path))  # macOS may store an umlaut as two characters

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
    return sorted(found, key=order)


def _distinct(paths: list[epath.Path]) -> list[epath.Path]:
    """Keeps the first path of each file, if several links lead to it."""
    first: dict[str, epath.Path] = {}
    for path in paths:
        first.setdefault(_real(path), path)
    return list(first.values())


def _real(path: epath.Path) -> str:
    """Resolves links."""
    return str(path) if "://" in str(path) else os.path.realpath(path)
