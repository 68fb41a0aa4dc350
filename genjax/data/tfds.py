"""TensorFlow Datasets, read without TensorFlow: one domain, or two by names of splits or by a label."""

import os
from typing import Any

import numpy as np
from etils import epath

from genjax import files
from genjax.data import decoding, pictures
from genjax.data.config import DataConfig
from genjax.data.decoding import LazyImages, file_version
from genjax.data.imports import optional_module
from genjax.data.splits import Splits, check_paired, hold_out

Row = tuple[str, int]  # split of the dataset and row in it
Builder = Any  # a tensorflow_datasets.core.DatasetBuilder, which has no types


def load(config: DataConfig) -> Splits:
    """Decodes the images of the source tfds:NAME or tfds:DIRECTORY; raises ValueError as `find` does."""
    found = listed(config)
    for domain in found:
        check_paired(config, domain.items)
    return decoding.decode(found, config)


def listed(config: DataConfig) -> list[LazyImages[Row]]:
    """Lists the images of each domain of `config.source`, as `find` does."""
    return find(_name(config), config)


def labels(config: DataConfig) -> Splits:
    """Reads the feature `label` of each image of `load`, in the same order: int32 [n].

    Raises ValueError if there is no such feature; other errors are those of `find`.
    """
    name = _name(config)
    builder, domains = _builder(name), find(name, config)
    if "label" not in builder.info.features:
        raise ValueError(f"tfds:{name} has no feature label: it has {sorted(builder.info.features)}")
    found = []
    for domain in domains:
        data = {split: _undecoded(builder, name, split) for items in domain.items.values() for split, _ in items[:1]}
        held = hold_out(domain.items, config.holdout)
        found.append([np.array([data[s][row]["label"] for s, row in held[split]], np.int32) for split in held])
    return Splits(*zip(*found, strict=True))


def find(name: str, config: DataConfig) -> list[LazyImages[Row]]:
    """Lists the images (feature `image`) of a dataset, given by its name or by the directory of a prepared one.

    Two domains are the splits trainA, trainB, testA, testB, or the two classes of the feature `label`. Raises
    ValueError if the dataset cannot be loaded or lacks these splits and features.
    """
    builder = _builder(name)
    splits, features = builder.info.splits, builder.info.features
    letters = ("",) if len(config.channels) == 1 else ("A", "B")
    by_label = len(letters) == 2 and "trainA" not in splits
    if by_label:
        letters = ("", "")
    wanted = sorted({f"train{letter}" for letter in letters})
    label = features["label"] if "label" in features else None
    two_classes = getattr(label, "num_classes", None) == 2
    if not set(wanted) <= set(splits) or "image" not in features or (by_label and not two_classes):
        two = "the splits trainA and trainB, or a split train with a feature label of two classes,"
        raise ValueError(
            f"tfds:{name} needs {two if len(letters) == 2 else 'a split train'} and a feature image; "
            f"it has the splits {sorted(splits)} and the features {sorted(features)}"
        )
    # Preparing a dataset writes this file, so its version stands for that of all images.
    version = file_version(epath.Path(builder.data_path) / "dataset_info.json")
    domains = []
    for domain, letter in enumerate(letters):
        names = {split: f"{split}{letter}" for split in Splits._fields if f"{split}{letter}" in splits}
        rows = {split: _rows(builder, name, found, domain if by_label else None) for split, found in names.items()}
        domains.append(_lazy_images(builder, name, rows, version))
    return domains


def _name(config: DataConfig) -> str:
    return config.source.removeprefix("tfds:")


def _lazy_images(builder: Builder, name: str, rows: dict[str, list[Row]], version: list[str | int]) -> LazyImages[Row]:
    # Opened once for all rows; `decode` runs in threads.
    data = {split: builder.as_data_source(split) for items in rows.values() for split, _ in items[:1]}

    def decode(item: Row) -> pictures.Picture:
        split, row = item
        return pictures.from_planes(data[split][row]["image"])

    # The content of a row is that of its file, whose size and name stand for it.
    content = [os.path.basename(builder.data_path), *version[1:2]]
    return LazyImages(
        rows, lambda item: f"tfds:{name} {item[0]}[{item[1]}]", decode,
        lambda item: [version, *item], lambda item: [*content, *item],
    )  # fmt: skip


def _rows(builder: Builder, name: str, split: str, label: int | None) -> list[Row]:
    """Lists the examples of `split`, or those of one class."""
    data = _undecoded(builder, name, split)  # labels alone are read, so no image is decoded
    return [(split, row) for row in range(len(data)) if label is None or data[row]["label"] == label]


def _undecoded(builder: Builder, name: str, split: str) -> Any:
    """Opens the examples of `split` without decoding their images."""
    tfds = optional_module("tensorflow_datasets", f"source tfds:{name}", "tensorflow-datasets")
    try:
        return builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
    except NotImplementedError as error:  # such as TFDS's own default, tfrecord
        raise ValueError(
            f"tfds:{name} was prepared as {builder.info.file_format.value}, which cannot be read without TensorFlow: "
            "prepare it with file_format='array_record'"
        ) from error


def _builder(name: str) -> Builder:
    """Makes TFDS's builder of a dataset and prepares the dataset if needed; raises ValueError with the reason."""
    tfds = optional_module("tensorflow_datasets", f"source tfds:{name}", "tensorflow-datasets")
    try:
        directory = files.resolve(name)
        if (directory / "dataset_info.json").exists():  # another folder may have a dataset's name by chance
            return tfds.builder_from_directory(directory)
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
