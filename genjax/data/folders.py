"""Images in folders: lists of files, and their halves where a picture shows both domains."""

import logging
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from etils import epath

from genjax import files
from genjax.data import conversion, decoding, layouts, pictures, scaling
from genjax.data.config import DataConfig
from genjax.data.decoding import LazyImages, file_version
from genjax.data.pictures import Picture
from genjax.data.splits import Splits

logger = logging.getLogger(__name__)

MEASURED = 1000
"""Largest number of pairs of a split whose sizes are compared, evenly spaced: about a second."""


class Page(NamedTuple):
    """An image of a file."""

    path: epath.Path
    number: int | None  # page or frame, from 0; None if the file has to hold one

    def __str__(self) -> str:
        return str(self.path) if self.number is None else f"{self.path} (page {self.number + 1})"

    @property
    def name(self) -> str:
        """Name by which pairs are matched: that of the file without its suffix, and the page."""
        return self.path.stem if self.number is None else f"{self.path.stem} {self.number:06d}"

    def named(self, path: epath.Path) -> epath.Path:
        """Adds the number of the page to the name of a file that is written of it."""
        return path if self.number is None else path.with_name(f"{path.stem}-{self.number + 1}{path.suffix}")


def load(config: DataConfig) -> Splits:
    """Decodes the images of folder:PATH, folder:PATH_A,PATH_B or pairs:PATH.

    Raises ValueError or FileNotFoundError if a folder is missing or empty, or if names do not make pairs.
    """
    return decoding.decode(listed(config), config)


def listed(config: DataConfig) -> list[LazyImages[Page]]:
    """Lists the images of each domain; ValueError or FileNotFoundError as in `load`."""
    found = layouts.find(config)
    if config.source.startswith("pairs:"):
        return [_lazy_images(domain, config, half) for half, domain in enumerate(found)]
    domains = [_lazy_images(domain, config) for domain in found]
    if config.paired:
        names = [{split: [page.name for page in pages] for split, pages in d.items.items()} for d in domains]
        for split in layouts.check_pairs(config, names):
            _check_sizes(list(zip(*(domain.items[split] for domain in domains), strict=True)), config)
    return domains


def _check_sizes(pairs: Sequence[tuple[Page, ...]], config: DataConfig) -> None:
    """Raises ValueError if two pictures of a pair show other parts once they are scaled.

    It reads headers alone, and of many pairs those of MEASURED.
    """

    def check(pair: tuple[Page, ...]) -> None:
        try:
            sizes = [pictures.size(page.path, page.number, config.max_megapixels) for page in pair]
        except ValueError:  # decoding names all that are damaged
            return
        scaling.check_pair(sizes, [str(page) for page in pair], config)

    # Stretched pictures are never cropped, so those of a pair may have any two sizes.
    if config.resize != "stretch":
        with ThreadPoolExecutor(config.decode_threads) as threads:
            list(threads.map(check, pairs[:: 1 + len(pairs) // MEASURED]))


def left_out(config: DataConfig) -> dict[str, int]:
    """Counts the files of `config.source` that are not read, by suffix; logs a warning if there are any."""
    # A set, as both domains of pairs:PATH have the same folders.
    folders = {folder for by_split in layouts.find(config) for folder in by_split.values()}
    others = {path for folder in folders for path in _files(folder) if path.suffix.lower() not in pictures.SUFFIXES}
    counts = dict(sorted(Counter(path.suffix.lower() or "without suffix" for path in others).items()))
    if counts:
        listed = ", ".join(f"{num} {suffix}" for suffix, num in counts.items())
        logger.warning(
            "left out %d files of %s that are no pictures of a known kind: %s", len(others), config.source, listed
        )
    return counts


def _lazy_images(folders: layouts.Folders, config: DataConfig, half: int | None = None) -> LazyImages[Page]:
    """Lists the images of one domain, or one half of each picture that shows both domains side by side."""
    # A file that two links lead to would else be held out and trained on.
    found = {split: pages(_distinct(image_files(folder)), config) for split, folder in folders.items()}
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

    def read(page: Page) -> Picture:
        picture = pictures.decode(page.path.read_bytes(), page.number, config.max_megapixels)
        return picture if half is None else _half(picture, half)

    def name(page: Page) -> str:
        return str(page) if half is None else f"{page} ({('left', 'right')[half]} half)"

    return LazyImages(found, name, read, lambda page: [*file_version(page.path), page.number, half],
                      lambda page: [*_content(page.path), page.number, half])  # fmt: skip


def _half(picture: Picture, half: int) -> Picture:
    """Returns the left half (0) or the right half (1) of a picture; ValueError for an odd width."""
    width = picture.pixels.shape[1]
    if width % 2:
        raise ValueError(f"its width of {width} pixels is odd, so it does not show two pictures side by side")
    part = slice(half * width // 2, (half + 1) * width // 2)
    alpha = None if picture.alpha is None else picture.alpha[:, part]
    return picture._replace(pixels=picture.pixels[:, part], alpha=alpha)


def read_images(
    paths: Sequence[epath.PathLike], config: DataConfig, domain: int = 0, num: int | None = None
) -> np.ndarray:  # fmt: skip
    """Reads the first `num` images of files and folders as evaluations see them: [n, h, w, c].

    By default it reads all. Raises ValueError with the name of an image that cannot be read or converted.
    """
    converted = []
    for page in list(named_pages(paths, config))[:num]:
        picture = pictures.read(page.path, page.number, config.max_megapixels)
        try:
            converted.append(scaling.evaluated(conversion.to_samples(picture, config, domain), config))
        except ValueError as error:
            raise ValueError(f"cannot use {page}: {error}") from error
    return np.stack(converted)


def pages(paths: Sequence[epath.Path], config: DataConfig) -> list[Page]:
    """Lists the images in files: one for each, or one for each page or frame if `config.pages` is all."""
    if config.pages == "refuse":
        return [Page(path, None) for path in paths]
    counts = [(path, pictures.count_pages(path)) for path in paths]
    return [Page(path, number if count > 1 else None) for path, count in counts for number in range(count)]


def named_pages(paths: Sequence[epath.PathLike], config: DataConfig) -> dict[Page, epath.Path]:
    """Maps each image, or page of one, to a name as `named_images` does.

    Raises ValueError or FileNotFoundError for a path without images.
    """
    named = named_images(paths)
    return {page: page.named(named[page.path]) for page in pages(list(named), config)}


def named_images(paths: Sequence[epath.PathLike]) -> dict[epath.Path, epath.Path]:
    """Maps each image file of `paths` to its name, or to its path below a folder in `paths`.

    Raises ValueError or FileNotFoundError for a path without images.
    """
    named: dict[epath.Path, epath.Path] = {}
    for root in map(files.resolve, paths):
        if not root.exists():
            raise FileNotFoundError(f"no such file or folder: {root}")
        found = {path: path.relative_to(root) for path in image_files(root)} if root.is_dir() else {}
        if root.is_dir() and not found:
            raise ValueError(f"{root} holds no images ({' '.join(sorted(pictures.SUFFIXES))})")
        named |= found or {root: epath.Path(root.name)}  # a folder's pictures, or the file itself
    if not named:
        raise ValueError("no image is given: give --images at least one file or folder")
    return named


def natural_order(page: Page) -> tuple[list[list[str | int]], int]:
    """Returns a key that sorts pages by their paths, with numbers as numbers: frame2 before frame10."""

    def split(name: str) -> list[str | int]:
        # Text and digits alternate, so that each part is compared with one of its kind.
        parts = re.split(r"(\d+)", unicodedata.normalize("NFC", name))
        return [int(part) if i % 2 else part for i, part in enumerate(parts)]

    return [split(name) for name in page.path.parts], page.number or 0


def image_files(root: epath.Path) -> list[epath.Path]:
    """Lists the image files below `root`, sorted by path, without hidden ones; links are followed."""
    return [path for path in _files(root) if path.suffix.lower() in pictures.SUFFIXES]


def _files(root: epath.Path) -> list[epath.Path]:
    """Lists all files below `root` as `image_files` does."""

    def order(path: epath.Path) -> str:
        return unicodedata.normalize("NFC", str(path))  # macOS may store an umlaut as two characters

    # Each folder is entered once, as a link to a parent folder would never end.
    pending, found, seen = [root], [], {_real(root)}
    while pending:
        for path in sorted(pending.pop().iterdir(), key=str):  # in a fixed order, as one of several links counts
            if path.name.startswith("."):
                continue
            if path.is_dir():
                if _real(path) not in seen:
                    seen.add(_real(path))
                    pending.append(path)
            else:
                found.append(path)
    return sorted(found, key=order)


def _distinct(paths: list[epath.Path]) -> list[epath.Path]:
    """Keeps the first path of each file, if several links lead to it."""
    first: dict[str, epath.Path] = {}
    for path in paths:
        first.setdefault(_real(path), path)
    return list(first.values())


def _content(path: epath.Path) -> list[str | int]:
    """Returns name and size of a local file; the name alone in a bucket, where each size takes a request."""
    return [path.name] if "://" in str(path) else [path.name, *file_version(path)[1:2]]


def _real(path: epath.Path) -> str:
    """Resolves links."""
    return str(path) if "://" in str(path) else os.path.realpath(path)
