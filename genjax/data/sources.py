"""Table of data sources, and loading of a source as arrays in three splits.

A source and a configuration always give the same arrays, for any number of threads. Only the fixed binarisation of
training images uses a seed.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genjax.data import conversion, crops, decoding, folders, layouts, levels, npz, pictures, python, scaling, tfds
from genjax.data.config import DataConfig
from genjax.data.crops import Crops
from genjax.data.decoding import LazyImages
from genjax.data.demo import digits, faces, icons, satellite
from genjax.data.splits import Domains, Images, Splits, check_domains
from genjax.keys import SCORING_SEED, Stream


class Reader(NamedTuple):
    """Functions that read one kind of source."""

    images: Callable[[DataConfig], Splits]  # loads arrays [n, h, w, c] of any size for each split and domain
    labels: Callable[[DataConfig], Splits] | None = None  # loads int32 [n], or [n, factors], if the source has them
    files: Callable[[DataConfig], list[LazyImages]] | None = None  # lists the images, if they are encoded files
    train: Callable[[DataConfig], tuple[np.ndarray, ...]] | None = None  # loads all training images, and holds out none


def _rendered(make: Callable[[int], Splits]) -> Reader:
    """Makes a reader of images drawn at the larger of the model's height and width."""
    return Reader(lambda config: make(max(config.image_size)))


_FACES = Reader(faces.faces, faces.labels, faces.listed)
_ICON_PAIRS = Reader(icons.icon_pairs)
_FOLDERS = Reader(folders.load, files=folders.listed)

# All sources, by name or by prefix with a colon.
READERS = {
    "mnist5k": Reader(lambda config: digits.mnist5k(), lambda config: digits.mnist5k_labels()),
    "digits": Reader(lambda config: digits.digits(), lambda config: digits.digits_labels()),
    "satellite": _rendered(satellite.satellite),
    "icons": _rendered(icons.icons),
    "icons-pairs": _ICON_PAIRS,
    "icons-pairs:N": _ICON_PAIRS,
    "satellite-relief": _rendered(satellite.satellite_relief),
    "gray-colour": _rendered(satellite.gray_colour),
    "gray-colour-west": _rendered(lambda size: satellite.gray_colour(size, "-west")),
    "gray-colour-east": _rendered(lambda size: satellite.gray_colour(size, "-east")),
    "faces": _FACES,
    "faces:N": _FACES,
    "faces-glasses": _FACES,
    "faces-glasses:N": _FACES,
    "faces-glasses-pairs": _FACES,
    "faces-glasses-pairs:N": _FACES,
    "npz:PATH": Reader(npz.load, npz.labels, train=npz.train),
    "folder:PATH": _FOLDERS,
    "folder:PATH_A,PATH_B": _FOLDERS,
    "pairs:PATH": _FOLDERS,
    "tfds:NAME": Reader(tfds.load, tfds.labels, tfds.listed),
    "python:MODULE.FUNCTION": Reader(python.load),
}


def reader(source: str) -> Reader:
    """Finds the reader of a source by its name; ValueError lists the choices."""
    prefix, colon, rest = source.partition(":")
    for form, found in READERS.items():  # npz:PATH stands for npz: and anything after it
        if form == source or (colon and rest and form.startswith(f"{prefix}:")):
            return found
    path = Path(source).expanduser()
    two = "," in source and all(part.is_dir() for part in layouts.at_comma(source))
    kind = "folder:" if source and (path.is_dir() or two) else "npz:" if path.is_file() else ""
    meant = f"did you mean {kind}{source}? Or " if kind else ""
    raise ValueError(f"unknown data source {source!r}: {meant}give {', '.join(READERS)}")


def measured(config: DataConfig) -> DataConfig:
    """Returns the configuration with the levels of the training images, measured anew, in place of `auto`."""
    if config.levels != "auto":
        return config
    found = reader(config.source)
    pairs = levels.of_pictures(found.files(config), config) if found.files else levels.of_arrays(_train(found, config))
    for low, high in zip(pairs[::2], pairs[1::2], strict=True):
        if not low < high:  # also NaN
            raise ValueError(
                f"--data.levels auto finds levels {low:g} to {high:g} in the training images of {config.source}: "
                "give --data.levels LOW HIGH"
            )
    return dataclasses.replace(config, levels=pairs)


def load(config: DataConfig, seed: int) -> Splits:
    """Loads the images of `config.source`, in its bits, in three splits.

    Images of domain i are [n, *config.image_shapes[i]]. Raises ValueError or FileNotFoundError, naming the file and the
    remedy, for anything that cannot be read.
    """
    config = measured(config)
    found = reader(config.source)
    splits = found.images(config)
    loaded = splits._asdict()
    loaded = loaded if found.files else _converted(loaded, config)  # files are converted before they are cached
    return Splits(**_finished(loaded, config, seed))


def load_pairs(config: DataConfig, seed: int) -> Domains:
    """Loads the known pairs of `config.pairs`, images of both domains; empty without.

    Errors are those of `load`, after the flag.
    """
    if not config.pairs:
        return ()
    try:
        found = reader(config.pairs)
        known = dataclasses.replace(
            config, source=config.pairs, pairs="", paired=True, train_pairs=True, holdout=0.0, skip_corrupt=False,
            cache=config.cache if found.files else "disk",
        )  # fmt: skip
        # Nothing but the pairs is loaded: as none is held out, other splits would be the same pairs again.
        known = measured(known)
        if found.files:
            loaded = {"train": decoding.decode_train(found.files(known), known)}
        else:
            loaded = _converted({"train": _train(found, known)}, known)
        return _finished(loaded, known, seed)["train"]
    except (ValueError, FileNotFoundError) as error:
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        raise kind(f"--data.pairs {config.pairs}: {error}") from error


def describe(splits: Splits, pairs: Domains = ()) -> dict[str, list[dict[str, Any]]]:
    """Computes shape and SHA-256 of each domain's images, and of known pairs, to be recorded with a run.

    Images that are decoded on demand have a `files_sha256` instead, of their names and sizes.
    """

    def describe_array(images: Images) -> dict[str, Any]:
        if isinstance(images, Crops):
            return {"shape": list(images.shape)} | images.describe()
        return {"shape": list(images.shape), "sha256": hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()}

    named = splits._asdict() | ({"pairs": pairs} if pairs else {})
    return {name: [describe_array(images) for images in source] for name, source in named.items()}


def left_out(config: DataConfig) -> dict[str, dict[str, int]]:
    """Counts files of the source that are not read, to be recorded with a run; empty if there are none."""
    counts = folders.left_out(config) if config.source.startswith(("folder:", "pairs:")) else {}
    return {"left_out": counts} if counts else {}


def _train(found: Reader, config: DataConfig) -> tuple[np.ndarray, ...]:
    """Loads the training images of a source of arrays."""
    return found.train(config) if found.train and config.holdout == 0 else found.images(config).train


def _finished(splits: Mapping[str, Domains], config: DataConfig, seed: int) -> dict[str, Domains]:
    """Checks loaded images, and binarizes them if they are to be fixed."""
    _check(splits, config)
    levels.warn_if_few(splits["train"], config.source)
    if config.binarize != "fixed":
        return dict(splits)
    # Models are scored on the same images whatever their seed.
    seeds = {split: seed if split == "train" else SCORING_SEED for split in splits}
    return {split: _binarize_once(source, seeds[split], split) for split, source in splits.items()}


def _check(splits: Mapping[str, Domains], config: DataConfig) -> None:
    """Raises ValueError for a domain without images, and for pairs that do not match."""
    for name, source in splits.items():
        sizes = [len(images) for images in source]
        if min(sizes) == 0:
            domain = f" in domain {'AB'[sizes.index(0)]}" if len(sizes) == 2 else ""
            raise ValueError(
                f"{config.source} has no {name} images{domain}: add some, or hold out fewer with --data.holdout"
            )
        if config.paired and (name != "train" or config.train_pairs) and len(set(sizes)) > 1:
            raise ValueError(
                f"--data.paired needs as many {name} images in either domain, and {config.source} has {sizes}"
            )
    cached = [images for images in splits["train"] if isinstance(images, Crops) and images.files is None]
    if config.train_pairs and cached:  # those that are decoded on demand are checked when they are
        crops.check_pairs(*(images.pictures(range(len(images))) for images in cached))


def _converted(splits: Mapping[str, tuple[np.ndarray, ...]], config: DataConfig) -> dict[str, Domains]:
    """Converts arrays to the scale, channels, levels and bits of `config`."""
    check_domains(config, len(splits["train"]))
    for split, source in splits.items() if config.paired else ():
        if (split != "train" or config.train_pairs) and all(map(len, source)):
            scaling.check_pair([a.shape[1:3] for a in source], [f"{split} {x}" for x in "AB"], config)
    return {
        split: tuple(_converted_array(images, split, i, config) for i, images in enumerate(source))
        for split, source in splits.items()
    }


def _converted_array(array: np.ndarray, split: str, domain: int, config: DataConfig) -> Images:
    cropped = config.crops and split == "train"
    as_stored = array.dtype == config.dtype and config.levels_of(domain) is None
    if len(array) == 0 or (as_stored and not config.crops and array.shape[1:] == config.image_shapes[domain]):
        return array
    scale = scaling.to_scale if cropped else scaling.evaluated
    try:
        scaling.check_large_enough(array[0], config)
        scaled = [scale(conversion.to_samples(pictures.Picture(image), config, domain), config) for image in array]
    except scaling.TooSmallError as error:  # then all are: images of an array are of one size
        said = scaling.too_small([error.size] * len(array), len(array), config)
        raise ValueError(f"cannot use the images of {config.source}: {said}") from error
    except ValueError as error:
        raise ValueError(f"cannot use the images of {config.source}: {error}") from error
    return crops.of_list(scaled, config.image_size) if cropped else np.stack(scaled)


def _binarize_once(domains: Domains, seed: int, split: str) -> Domains:
    """Sets each pixel to the highest level with probability intensity, else to 0, by raw words of Philox."""
    binarized = []
    for images in (images[:] for images in domains):
        generator = np.random.Philox(np.random.SeedSequence([seed, Stream.BINARIZE, Splits._fields.index(split)]))
        drawn, top = np.empty_like(images), np.iinfo(images.dtype).max
        # One image at a time: the random numbers of all would take eight times the memory of the images.
        for i, image in enumerate(images):
            uniform = generator.random_raw(image.size).reshape(image.shape) / 2.0**64
            drawn[i] = np.where(uniform < image / top, top, 0)
        binarized.append(drawn)
    return tuple(binarized)
