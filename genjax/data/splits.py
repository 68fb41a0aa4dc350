"""Arrays by split and domain, and the rows that are held out of training."""

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from genjax.config import DataConfig

logger = logging.getLogger(__name__)

Source = tuple[np.ndarray, ...]
"""One uint8 array [n, h, w, c] for each domain: a VAE has one domain, translation has two."""

T = TypeVar("T")


class Splits(NamedTuple):
    """Images to train on, to choose checkpoints by, and to report on."""

    train: Source
    validation: Source
    test: Source


def hold_out(items: Mapping[str, Sequence[T]], share: float) -> dict[str, list[T]]:
    """Completes the items of a source to train, validation and test.

    A missing split is taken out of train, `share` of it each, always the same items; with a share of 0 it is up to 100
    items of train, which stay there too, and a warning is logged.
    """
    train, found = items["train"], {name: list(rows) for name, rows in items.items()}
    # Philox's raw words with a seed of 0: the same rows in every version, so results on them stay comparable.
    order = np.argsort(np.random.Philox(np.random.SeedSequence(0)).random_raw(len(train)), kind="stable")
    for name in ("test", "validation"):
        if name not in found and share == 0:
            logger.warning("no image is held out: %s metrics are of images that are trained on", name)
            found[name] = [train[row] for row in np.linspace(0, len(train) - 1, min(100, len(train))).astype(int)]
        elif name not in found:
            num = max(1, round(share * len(train)))
            found[name], order = [train[row] for row in sorted(order[:num])], order[num:]
    found["train"] = [train[row] for row in sorted(order)]
    return {name: found[name] for name in Splits._fields}


def check_paired(config: DataConfig, splits: Collection[str]) -> None:
    """Raises ValueError if `config.paired` is set and the `splits` of a domain lack validation or test."""
    if config.paired and not {"validation", "test"} <= set(splits):
        raise ValueError(
            f"--data.paired needs {config.source} to have validation and test images of its own, one of each domain: "
            "images held out of training come in no pairs"
        )
