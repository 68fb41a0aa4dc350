"""Classes of a source's images, in the order of the images; training a generative model needs none."""

import numpy as np

from genjax.data import sources
from genjax.data.config import DataConfig
from genjax.data.splits import Splits


def load(config: DataConfig) -> Splits:
    """Loads int32 [n] for each split and domain: entry i is the class of image i of `sources.load(config, seed)`.

    Of faces they are int32 [n, 10], the factors in the order of `demo.faces.NAMES`.

    Raises ValueError or FileNotFoundError, with the remedy, for sources without labels and files that cannot be read.
    """
    if config.skip_corrupt:
        raise ValueError("--data.skip-corrupt leaves out images, but not their labels: leave this flag out")
    labels = sources.reader(config.source).labels
    if labels is None:
        labelled = ", ".join(form for form, reader in sources.READERS.items() if reader.labels is not None)
        raise ValueError(f"{config.source} has no labels: give {labelled}")
    return labels(config)


def check(labels: Splits, images: Splits) -> None:
    """Raises ValueError unless there is one label for each image."""
    counts, wanted = ([[len(array) for array in domains] for domains in splits] for splits in (labels, images))
    if counts != wanted or any(not np.issubdtype(array.dtype, np.integer) for domains in labels for array in domains):
        raise ValueError(
            f"there are {counts} labels for {wanted} images of train, validation and test: give one for each"
        )
