"""Metrics of a whole set of pictures: beside real ones, training pictures, inputs and truths."""

from collections.abc import Callable, Collection
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh

from genjax.data import image_arrays
from genjax.evaluation import features, image_metrics, inputs, intervals, lpips, memorisation, whole_sets
from genjax.evaluation.features import Features
from genjax.evaluation.intervals import Interval

OF_TRAINING = ("authenticity", "train_test_gap")
OF_PICTURES = ("lpips_diversity", "lpips_content")
OF_PAIRS = ("l1", "psnr", "ssim", "lpips")
METRICS = (*whole_sets.NAMES, *OF_TRAINING, *OF_PICTURES, *OF_PAIRS)

NEAREST = 3
"""Nearest training pictures that are found for each picture."""


class Sets(NamedTuple):
    """Pictures and what they are compared with, [n, h, w, c]: uint8, or floats in [0, 1]. None where there is none."""

    pictures: np.ndarray
    real: np.ndarray
    train: np.ndarray | None = None  # real pictures that the model learned from
    inputs: np.ndarray | None = None  # what the pictures were translated from
    truth: np.ndarray | None = None  # what picture i should be


class Measured(NamedTuple):
    """Metrics of a set of pictures, with the numbers of pictures that they rest on."""

    num_pictures: int
    num_real: int
    metrics: dict[str, Interval]
    nearest: np.ndarray | None
    """[n, NEAREST], rows of the training pictures nearest to each picture; None without training pictures."""
    num_training: int = 0
    """Training pictures among which those were looked for."""


def compile_measure(
    network: Features, mesh: Mesh, metrics: Collection[str] = METRICS, seed: int = 0
) -> Callable[[Sets], Measured]:
    """Compiles a function that computes those of `metrics` that its sets and `network` have, in their order.

    LPIPS is measured with alexnet or vgg16 alone. Raises ValueError for too few pictures, and for features that are not
    finite.
    """
    extract = features.compile_extract(network, mesh)
    perceptual = _compile_lpips(network.name, mesh) if network.name in lpips.SHA256 else None

    def measure(sets: Sets) -> Measured:
        found: dict[str, Interval] = {}
        nearest = None
        asked = [name for name in metrics if name in whole_sets.NAMES]
        of_training = sets.train is not None and set(metrics) & set(OF_TRAINING)
        if asked or of_training:
            generated, real = extract(sets.pictures), extract(sets.real)
            found |= whole_sets.set_metrics(generated, real, asked, seed)
        if of_training and sets.train is not None:
            train = extract(sets.train)
            found["authenticity"] = memorisation.authenticity(generated, train)
            found["train_test_gap"] = memorisation.train_test_gap(generated, train, real)
            nearest = memorisation.nearest_training(generated, train, NEAREST).rows
        if perceptual is not None and "lpips_diversity" in metrics:
            found["lpips_diversity"] = image_metrics.pairwise_diversity(sets.pictures, perceptual, seed)
        if perceptual is not None and "lpips_content" in metrics and sets.inputs is not None:
            found["lpips_content"] = intervals.of_mean(perceptual(sets.pictures, sets.inputs))
        if sets.truth is not None and set(metrics) & set(OF_PAIRS):
            found |= image_metrics.paired(
                image_arrays.unit_floats(sets.pictures), image_arrays.unit_floats(sets.truth), perceptual
            )
        named = {name: found[name] for name in metrics if name in found}
        num_training = 0 if sets.train is None else len(sets.train)
        return Measured(len(sets.pictures), len(sets.real), named, nearest, num_training)

    return measure


def _compile_lpips(name: str, mesh: Mesh) -> image_metrics.Distance:
    distances = lpips.compile_distances(lpips.load(name), mesh)

    def enlarged(images: np.ndarray) -> np.ndarray:
        height, width = images.shape[1:3]
        return inputs.resized(images, (max(height, lpips.LEAST), max(width, lpips.LEAST)))

    def of_pairs(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return distances(*(inputs.with_channels(enlarged(images), 3) for images in (x, y)))

    return of_pairs
