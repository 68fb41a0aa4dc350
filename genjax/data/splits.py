"""Splits of images by domain, and rows held out of training."""

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from genjax.data.config import DataConfig
from genjax.data.crops import Crops

logger = logging.getLogger(__name__)

# Images [n, h, w, c]: a uint8 array, or crops that are indexed like one.
Images = np.ndarray | Crops

# The images of each domain: a VAE has one domain, translation has two.
Domains = tuple[Images, ...]

T = TypeVar("T")
X = TypeVar("X")


class Splits(NamedTuple, Generic[X]):
    """Images for training, for the choice of checkpoints (validation), and for reports (test), by domain."""

    train: tuple[X, ...]
    validation: tuple[X, ...]
    test: tuple[X, ...]


def hold_out(items: Mapping[str, Sequence[T]], share: float) -> dict[str, list[T]]:
    """Returns train, validation and test items, and takes missing splits out of train.

    A missing split gets `share` of the train items, always the same ones. With a share of 0 it gets up to 100 items
    that also stay in train, and a warning is logged.
    """
    train, found = items["train"], {name: list(rows) for name, rows in items.items()}
    # Raw words of Philox with seed 0 give the same rows in every NumPy version, so results stay comparable.
    order = np.argsort(np.random.Philox(np.random.SeedSequence(0)).random_raw(len(train)), kind="stable")
    # Test first: its rows stay the same if validation images are added to a source later.
    for name in ("test", "validation"):
        if name not in found and share == 0:
            logger.warning("no image is held out: %s metrics are of training images", name)
            found[name] = [train[row] for row in np.linspace(0, len(train) - 1, min(100, len(train))).astype(int)]
        elif name not in found:
            num = max(1, round(share * len(train)))
            found[name], order = [train[row] for row in sorted(order[:num])], order[num:]
    found["train"] = [train[row] for row in sorted(order)]
    return {name: found[name] for name in Splits._fields}


def check_domains(config: DataConfig, number: int) -> None:
    """Raises ValueError unless `config.channels` has an entry for each of the source's domains."""
    if number != len(config.channels):
        raise ValueError(
            f"{config.source} has {number} domain(s), and --data.channels {config.channels} is for "
            f"{len(config.channels)}: give it a number for each domain, or choose another --data.source"
        )


def check_paired(config: DataConfig, splits: Collection[str]) -> None:
    """Raises ValueError if images held out of training would be pairs, as `splits` lack validation or test."""
    if config.paired and not config.train_pairs and not {"validation", "test"} <= set(splits):
        raise ValueError(
            f"--data.paired needs {config.source} to have validation and test images of its own, one of each domain: "
            "images held out of training are not paired, unless --data.train-pairs says that training images are"
        )
