"""Layouts of folders: which folder holds which split of which domain, and which names make a pair."""

import unicodedata
from collections.abc import Mapping, Sequence

from etils import epath

from genjax import files
from genjax.data.config import DataConfig
from genjax.data.splits import check_domains

# Names of each split's folder, the first one that exists counts.
SPLIT_FOLDERS = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}

Folders = dict[str, epath.Path]
"""Folder of each split of one domain: train, and validation and test if they exist."""


def find(config: DataConfig) -> list[Folders]:
    """Finds the folders of each domain of folder:PATH, folder:PATH_A,PATH_B or pairs:PATH.

    Both domains of pairs:PATH have the same folders. Raises ValueError or FileNotFoundError if one is missing.
    """
    kind, _, place = config.source.partition(":")
    root = files.resolve(place)
    if kind == "pairs":
        check_domains(config, 2)
        return [_one_domain(root)] * 2  # halves of the same pictures
    if "," in place and not root.exists():  # a comma may also belong to a name
        check_domains(config, 2)
        return _two_folders(*at_comma(place))
    if len(config.channels) == 1:
        return [_one_domain(root)]
    return [_lettered(root, letter) for letter in "AB"]


def check_pairs(config: DataConfig, names: Sequence[Mapping[str, Sequence[str]]]) -> list[str]:
    """Returns the splits that hold pairs; ValueError unless both domains have files of the same names in each.

    `names` are those of each domain and split, without suffixes. Pairs are matched by their place in this order.
    """
    a, b = names
    # Where a split is missing, the same rows are held out of the training images of both domains.
    missing = {"validation", "test"} - (a.keys() & b.keys())
    splits = {"validation", "test"} - missing | ({"train"} if missing or config.train_pairs else set())
    for split in splits:
        first, second = ([unicodedata.normalize("NFC", name) for name in domain[split]] for domain in (a, b))
        if first != second:
            alone = set(first) ^ set(second)
            why = f"{len(alone)} are in one of them only, such as {min(alone)}" if alone else "their order differs"
            held = f", as {' and '.join(sorted(missing))} images are held out of it"
            held = held if split == "train" and missing and config.holdout > 0 else ""
            raise ValueError(
                f"--data.paired needs the same names in both {split} folders of {config.source}{held}, and {why}"
            )
    return sorted(splits)


def at_comma(place: str) -> tuple[epath.Path, epath.Path]:
    """Parts A,B at the first comma between two folders; at the first of all if there is none."""
    # Names of folders may hold commas themselves.
    ends = [i for i, character in enumerate(place) if character == ","]
    parts = [(files.resolve(place[:i].strip()), files.resolve(place[i + 1 :].strip())) for i in ends]
    return next(((a, b) for a, b in parts if a.is_dir() and b.is_dir()), parts[0])


def _two_folders(*roots: epath.Path) -> list[Folders]:
    a, b = roots
    if a == b or a in b.parents or b in a.parents:
        raise ValueError(f"the two domains share a folder: {a} and {b}. Give each a folder of its own")
    return [_one_domain(root) for root in roots]


def _one_domain(root: epath.Path) -> Folders:
    """Returns `root` itself, or the folders train, validation (or val) and test in it."""
    _check_folder(root)
    if (root / "train").is_dir():
        return _existing(root, SPLIT_FOLDERS)
    names = ("trainA", "train_A", "traina", "train_a")
    first = next((root / name for name in names if (root / name).is_dir()), None)
    if first is not None:  # as one domain, its test images would be trained on
        raise ValueError(
            f"{root} holds two domains: give --data.channels an entry for each, or one of them as folder:{first}"
        )
    return {"train": root}


def _lettered(root: epath.Path, letter: str) -> Folders:
    """Finds the folder of each split, named trainA, train_A, train/A or with a lower-case letter."""
    _check_folder(root)
    endings = [between + form for between in ("", "_", "/") for form in (letter, letter.lower())]
    named = {
        split: [f"{name}{ending}" for name in names for ending in endings] for split, names in SPLIT_FOLDERS.items()
    }
    found = _existing(root, named)
    if "train" not in found:
        there = sorted(path.name for path in root.iterdir() if path.is_dir())
        raise FileNotFoundError(
            f"{root} has no folder train{letter} (nor train_{letter}, nor train/{letter}) for domain {letter}; its "
            f"folders are: {', '.join(there) or 'none'}. Two folders of other names are given as folder:PATH_A,PATH_B, "
            "pictures that show A and B side by side as pairs:PATH"
        )
    return found


def _existing(root: epath.Path, named: Mapping[str, Sequence[str]]) -> Folders:
    """Returns the first folder below `root` that exists, for each split that has one."""
    first = {
        split: next((root / name for name in names if (root / name).is_dir()), None) for split, names in named.items()
    }
    return {split: path for split, path in first.items() if path is not None}


def _check_folder(root: epath.Path) -> None:
    if not root.is_dir():
        raise FileNotFoundError(f"no such folder: {root}")
