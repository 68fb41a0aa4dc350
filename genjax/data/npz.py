"""Images and labels from one .npz file, with arrays such as `x_train`, `y_train` and `x_trainA`."""

import numpy as np
from etils import epath

from genjax import files
from genjax.data.config import DataConfig
from genjax.data.splits import Splits, check_paired, hold_out

# Prefixes of array names that look like splits; an unknown one of these is an error.
LIKE_SPLITS = ("x_train", "x_val", "x_dev", "x_test")


def load(config: DataConfig) -> Splits:
    """Reads x_train, x_validation and x_test of the source npz:PATH, each with A and B for two domains.

    They are uint8 or uint16 (or any numbers, if levels are given), [n, h, w] or [n, h, w, c]; missing splits are held
    out of x_train. Raises FileNotFoundError, or ValueError for a damaged file, arrays of another type or shape, and
    names such as x_val.
    """
    domains = [_held_out(arrays, config) for arrays in _images(config)]
    return Splits(*(tuple(arrays[split] for arrays in domains) for split in Splits._fields))


def train(config: DataConfig) -> tuple[np.ndarray, ...]:
    """Reads x_train, with A and B for two domains, and holds nothing out; errors are those of `load`."""
    return tuple(arrays["train"] for arrays in _images(config))


def _images(config: DataConfig) -> list[dict[str, np.ndarray]]:
    """Reads the images of each domain by split, [n, h, w, c]; errors are those of `load`."""
    path, names, archive = _read(config)
    domains, letters = [], _letters(names)
    known = {f"x_{split}{letter}" for split in Splits._fields for letter in letters}
    if unknown := sorted(name for name in names if name.startswith(LIKE_SPLITS) and name not in known):
        raise ValueError(f"{path} has {', '.join(unknown)}, none of {', '.join(sorted(known))}: rename or remove them")
    for letter in letters:
        arrays = {split: archive[f"x_{split}{letter}"] for split in Splits._fields if f"x_{split}{letter}" in archive}
        if "train" not in arrays:
            raise ValueError(f"{path} has no array x_train{letter} (it has {', '.join(names) or 'nothing'})")
        for split, array in arrays.items():
            whole = array.dtype in (np.uint8, np.uint16)
            if not (whole or (array.dtype.kind in "iuf" and config.levels != "full")) or array.ndim not in (3, 4):
                raise ValueError(
                    f"x_{split}{letter} in {path} is {array.dtype} {list(array.shape)}, not uint8 or uint16 [n, h, w] "
                    "or [n, h, w, c] (other numbers need --data.levels LOW HIGH)"
                )
            array = array if whole else array.astype(np.float32)
            arrays[split] = array if array.ndim == 4 else array[..., None]
        check_paired(config, arrays)
        domains.append(arrays)
    return domains


def labels(config: DataConfig) -> Splits:
    """Reads y_train and so on, an int32 for each image of x_train; order and errors are those of `load`."""
    path, names, archive = _read(config)
    domains = []
    for letter in _letters(names):
        arrays = {}
        for split in Splits._fields:
            images, name = archive.get(f"x_{split}{letter}"), f"y_{split}{letter}"
            if images is None:
                continue
            if name not in archive:
                raise ValueError(f"{path} has no labels {name} for its x_{split}{letter} (it has {', '.join(names)})")
            array = archive[name]
            if not np.issubdtype(array.dtype, np.integer) or array.shape != (len(images),):
                raise ValueError(
                    f"{name} in {path} is {array.dtype} {list(array.shape)}, not an integer for each of {len(images)} "
                    "images"
                )
            arrays[split] = array.astype(np.int32)
        domains.append(_held_out(arrays, config))
    return Splits(*(tuple(arrays[split] for arrays in domains) for split in Splits._fields))


def _letters(names: list[str]) -> tuple[str, ...]:
    # With one of the two, `load` names the array that is missing.
    return ("A", "B") if "x_trainA" in names or "x_trainB" in names else ("",)


def _held_out(arrays: dict[str, np.ndarray], config: DataConfig) -> dict[str, np.ndarray]:
    """Holds out missing splits, as `hold_out` does."""
    # Row numbers are held out rather than images, so that labels follow the images.
    rows = hold_out({split: range(len(array)) for split, array in arrays.items()}, config.holdout)
    return {split: arrays.get(split, arrays["train"])[np.array(found, int)] for split, found in rows.items()}


def _read(config: DataConfig) -> tuple[epath.Path, list[str], dict[str, np.ndarray]]:
    """Returns the path, the names of all arrays, and the arrays whose names begin with x_ or y_."""
    path = files.resolve(config.source.removeprefix("npz:"))
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:  # a pickle could run code
            names = archive.files
            return path, names, {name: archive[name] for name in names if name.startswith(("x_", "y_"))}
    except Exception as error:  # NumPy, zipfile and zlib raise nearly anything on bad bytes
        raise ValueError(f"{path} is not a readable .npz file: {error}") from error
