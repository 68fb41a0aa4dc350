"""Domains for adaptation, the cheap rivals of translation, and what all are judged by: arrays in, arrays out."""

import math
import re
from typing import NamedTuple

import numpy as np

from genjax import classifier
from genjax.classifier import Classifier
from genjax.config import DataConfig
from genjax.data import ink, labels, sources
from genjax.data.splits import Splits

DRAWN = 28
"""Height and width, MNIST's, that images are brought to before their ink is measured; smaller ones are enlarged."""
SIZE, MARGIN = 16, 1
"""What classifiers and CycleGANs see: the longer side of the ink has 14 of 16 pixels."""


class Domain(NamedTuple):
    """A set of images, uint8 [n, 16, 16, 1], and their labels, int32 [n], in three splits."""

    name: str
    images: Splits
    labels: Splits


def load(source: str) -> Domain:
    """The domain of a data string, its ink at one place and size; ValueError or FileNotFoundError as from `sources`."""
    data = DataConfig(source=source, image_size=(DRAWN, DRAWN), channels=(1,), batch_size=1, upscale=True)
    found, classes = sources.load(data, seed=0), labels.load(data)
    labels.check(classes, found)
    drawn = (tuple(ink.normalise(images, SIZE, MARGIN) for images in split) for split in found)
    return Domain(re.sub(r"[^\w.]+", "-", source).strip("-"), Splits(*drawn), classes)


def match_moments(images: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """uint8 `images` of the source [n, h, w, c], brought to the mean and covariance of the target's pixels.

    (x - mean_s) C_s^(-1/2) C_t^(1/2) + mean_t for pixels in 0..255, both covariances with the identity added, as CORAL
    has it for features (Sun, Feng and Saenko 2016, algorithm 1); then rounded and clipped. `source` and `target` are
    the training images, which need no labels.
    """
    (mean_s, root_s), (mean_t, root_t) = (_moments(rows) for rows in (source, target))
    flat = images.reshape(len(images), -1).astype(np.float64)
    matched = (flat - mean_s) @ np.linalg.solve(root_s, root_t) + mean_t
    return np.rint(matched).clip(0, 255).astype(np.uint8).reshape(images.shape)


def _moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [p], and the symmetric square root of the covariance plus the identity [p, p]."""
    flat = images.reshape(len(images), -1).astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(flat, rowvar=False) + np.eye(flat.shape[1]))
    return flat.mean(axis=0), (vectors * np.sqrt(values)) @ vectors.T


def pseudo_labels(source: Classifier, images: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """The rows of `images` of which a classifier is as sure as `threshold`, and its labels for them (Lee 2013)."""
    probabilities = classifier.probabilities(source, images)
    sure = np.flatnonzero(probabilities.max(axis=1) >= threshold)
    return sure, probabilities.argmax(axis=1)[sure].astype(np.int32)


def gap_closed(source_only: float, adapted: float, oracle: float) -> float:
    """The share of the way from source only to the oracle that an adaptation has come; not a number without a way."""
    return (adapted - source_only) / (oracle - source_only) if oracle > source_only else math.nan


def standard_error(share: float, num: int) -> float:
    """Of a share of `num` independent images: sqrt(p (1 - p) / n)."""
    return math.sqrt(share * (1 - share) / num)
