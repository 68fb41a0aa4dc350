"""Two small domains of drawings, for the tests of several modules."""

import numpy as np
import pytest

from domain_adaptation import Options


def drawings(num, seed, shade):
    """Two classes: a bar that stands (0) or lies (1), of ink of about `shade`, as an .npz has it."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num) % 2
    images = np.zeros((num, 28, 28), np.uint8)
    for image, label in zip(images, labels, strict=True):
        length, width = rng.integers(14, 20), rng.integers(4, 8)
        height, width = (length, width) if label == 0 else (width, length)
        image[4 : 4 + height, 4 : 4 + width] = rng.integers(shade - 20, shade + 20, (height, width))
    return images, labels


@pytest.fixture
def domains(tmp_path):
    """Options for two such domains, of dark and of light ink, as the files that they are read from.

    Training labels of `relabel` are exchanged; `without` has no training image of the last class.
    """

    def options(workdir="run", relabel=None, without=None, **changes):
        arguments = {}
        for name, shade, seed in (("first", 100, 0), ("second", 220, 1)):
            images, labels = drawings(60, seed, shade)
            splits = {"train": slice(0, 40), "validation": slice(40, 48), "test": slice(48, 60)}
            arrays = {f"{kind}_{split}": array[rows].copy() for split, rows in splits.items()
                      for kind, array in (("x", images), ("y", labels))}  # fmt: skip
            if relabel == name:
                arrays["y_train"] = 1 - arrays["y_train"]
            if without == name:
                arrays |= {"x_train": arrays["x_train"][0::2], "y_train": arrays["y_train"][0::2]}
            np.savez(tmp_path / f"{name}.npz", **arrays)
            arguments[name] = f"npz:{tmp_path / name}.npz"
        settings = {"seeds": (0,), "seeds_without_semantics": (), "classifier_steps": 12, **arguments, **changes}
        return Options(workdir=str(tmp_path / workdir), **settings)

    return options
