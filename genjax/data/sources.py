"""From a data string to uint8 arrays in three splits, one array for each domain.

Nothing here is random but for the seed of a fixed binarisation: a string and a configuration always give the same
arrays, whatever the number of threads.
"""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from genjax import files
from genjax.config import DataConfig
from genjax.data import decoding, embedded, folders, npz, tfds
from genjax.data.splits import Source, Splits
from genjax.keys import Stream

EMBEDDED: dict[str, Callable[[int], Splits]] = {
    "mnist5k": lambda size: embedded.mnist5k(),
    "digits": lambda size: embedded.digits(),
    "satellite": embedded.satellite,
    "icons": embedded.icons,
    "satellite-relief": embedded.satellite_relief,
    "gray-colour": embedded.gray_colour,
    "gray-colour-west": embedded.gray_colour_west,
    "gray-colour-east": embedded.gray_colour_east,
}
"""By name: functions of the height or width that the model sees, whichever is more."""


def load(config: DataConfig, seed: int) -> Splits:
    """The images of `config.source`, uint8, in three splits.

    Training images of domain i are [n, *config.stored_shape("train", i)], others [n, *config.image_shapes[i]]. Raises
    ValueError or FileNotFoundError, naming the file and the remedy, for anything that cannot be read.
    """
    kind, _, where = config.source.partition(":")
    match kind, where:
        case name, "" if name in EMBEDDED and ":" not in config.source:
            splits = _resized(EMBEDDED[name](max(config.image_size)), config)
        case "npz", _ if where:
            splits = _resized(npz.images(files.resolve(where), config), config)
        case "folder", _ if where:
            splits = decoding.decode(folders.find(files.resolve(where), config), config)
        case "tfds", _ if where:
            splits = decoding.decode(tfds.find(where, config), config)
        case _:
            raise ValueError(
                f"unknown data source {config.source!r}: give {', '.join(EMBEDDED)}, npz:PATH, folder:PATH or tfds:NAME"
            )
    _check(splits, config)
    if config.binarize == "fixed":
        splits = Splits(*(_binarize_once(source, seed, split) for split, source in enumerate(splits)))
    return splits


def describe(splits: Splits) -> dict[str, list[dict[str, Any]]]:
    """Shape and SHA-256 of each array, to be recorded with a run."""

    def describe_array(images: np.ndarray) -> dict[str, Any]:
        return {"shape": list(images.shape), "sha256": hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()}

    return {name: [describe_array(images) for images in source] for name, source in splits._asdict().items()}


def _check(splits: Splits, config: DataConfig) -> None:
    for name, source in splits._asdict().items():
        sizes = [len(images) for images in source]
        if min(sizes) == 0:
            domain = f" in domain {'AB'[sizes.index(0)]}" if len(sizes) == 2 else ""
            raise ValueError(
                f"{config.source} has no {name} images{domain}: add some, or hold out fewer with --data.holdout"
            )
        if config.paired and name != "train" and len(set(sizes)) > 1:
            raise ValueError(
                f"--data.paired needs as many {name} images in either domain, and {config.source} has {sizes}"
            )


def _resized(splits: Splits, config: DataConfig) -> Splits:
    """The same images in the sizes and channels of `config`."""
    if len(splits.train) != len(config.channels):
        raise ValueError(
            f"{config.source} has {len(splits.train)} domain(s), and --data.channels {config.channels} is for "
            f"{len(config.channels)}: give it 1 or 3 for each domain, or choose another --data.source"
        )

    def resize(images: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        if len(images) == 0 or images.shape[1:] == shape:
            return images
        pillow = (Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image) for image in images)
        try:
            return np.stack([decoding.convert(image, shape, config) for image in pillow])
        except ValueError as error:
            raise ValueError(f"cannot use the images of {config.source}: {error}") from error

    return Splits(*(
        tuple(resize(images, config.stored_shape(split, i)) for i, images in enumerate(source))
        for split, source in splits._asdict().items()
    ))  # fmt: skip


def _binarize_once(source: Source, seed: int, split: int) -> Source:
    """Pixels drawn once as 0 or 255, 255 with probability intensity / 255, from raw Philox words."""
    binarized = []
    for images in source:
        generator = np.random.Philox(np.random.SeedSequence([seed, Stream.BINARIZE, split]))
        drawn = np.empty_like(images)
        for i, image in enumerate(images):
            uniform = generator.random_raw(image.size).reshape(image.shape) / 2.0**64
            drawn[i] = np.where(uniform < image / 255, 255, 0)
        binarized.append(drawn)
    return tuple(binarized)
