"""The classes of a source's images, beside them and in the same order; training a generative model needs none."""

from collections.abc import Callable

import numpy as np

from genjax import files
from genjax.config import DataConfig
from genjax.data import embedded, npz, tfds
from genjax.data.splits import Splits

EMBEDDED: dict[str, Callable[[], Splits]] = {"mnist5k": embedded.mnist5k_labels, "digits": embedded.digits_labels}


def load(config: DataConfig) -> Splits:
    """int32 [n] for each split and domain: entry i is the class of image i of `sources.load(config, seed)`.

    For mnist5k, digits, npz:PATH with arrays y_train, ..., and tfds:NAME with a feature `label`. Raises ValueError or
    FileNotFoundError, naming the remedy, for sources without labels and for what cannot be read.
    """
    kind, _, where = config.source.partition(":")
    if config.skip_corrupt:
        raise ValueError("skip_corrupt leaves images out, and no labels would be left out with them: switch it off")
    match kind, where:
        case name, "" if name in EMBEDDED:
            return EMBEDDED[name]()
        case "npz", _ if where:
            return npz.labels(files.resolve(where), config)
        case "tfds", _ if where:
            return tfds.labels(where, config)
        case _:
            raise ValueError(
                f"{config.source} has no labels: give {', '.join(EMBEDDED)}, npz:PATH with y_train, or tfds:NAME"
            )


def number(labels: Splits) -> int:
    """How many classes there are: one more than the greatest label."""
    return 1 + max(int(array.max()) for source in labels for array in source)


def check(labels: Splits, images: Splits) -> None:
    """Raises ValueError unless there is one label for each image."""
    counts, wanted = ([[len(array) for array in source] for source in splits] for splits in (labels, images))
    if counts != wanted or any(not np.issubdtype(array.dtype, np.integer) for source in labels for array in source):
        raise ValueError(f"there are {counts} labels for {wanted} images of train, validation and test")
