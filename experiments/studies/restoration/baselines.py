"""Restoration baselines without a network: images [n, h, w, c] in [0, 1] in and out.

All use the training images; the strength of the ridge is chosen on the validation images.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image

from genjax.data import image_arrays
from genjax.data.config import DataConfig
from genjax.vae.operators import Downsample

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


def as_trained(images: np.ndarray, data: DataConfig) -> np.ndarray:
    """Returns images in all turns and mirrors that training draws. [n, h, w, c] becomes [n * number, h, w, c]."""
    mirrored = [images, images[:, :, ::-1]] if data.flip else [images]
    return np.concatenate([np.rot90(each, k, (1, 2)) for each in mirrored for k in range(4 if data.turns else 1)])


def mean_fill(train: np.ndarray, images: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Fills missing pixels from the mean training image."""
    return np.where(missing, train.mean(axis=0), images)


def neighbours(train: np.ndarray, images: np.ndarray, missing: np.ndarray, num: int = 10) -> np.ndarray:
    """Fills missing pixels from the mean of the `num` training images nearest on the observed pixels."""
    flat, seen = train.reshape(len(train), -1), np.broadcast_to(~missing, images.shape).reshape(len(images), -1)
    x = images.reshape(len(images), -1) * seen
    distance = (x**2).sum(axis=1)[:, None] - 2 * x @ flat.T + seen.astype(float) @ (flat**2).T
    nearest = np.argpartition(distance, num, axis=1)[:, :num]
    return np.where(missing, train[nearest].mean(axis=1), images)


class Moments(NamedTuple):
    """Mean and covariance of training images, which ridge regression needs."""

    mean: np.ndarray
    """[L]"""
    covariance: np.ndarray
    """[L, L]"""


def image_moments(train: np.ndarray) -> Moments:
    """Computes the moments of flattened images."""
    flat = train.reshape(len(train), -1)
    return Moments(flat.mean(axis=0), np.cov(flat.T))


def ridge_fill(moments: Moments, images: np.ndarray, missing: np.ndarray, strength: float) -> np.ndarray:
    """Fills missing pixels by linear regression on the observed ones, with a penalty."""
    filled = images.copy()
    gone = np.broadcast_to(missing, images.shape).reshape(len(images), -1)
    for row, out in zip(filled.reshape(len(images), -1), gone, strict=True):
        known = moments.covariance[np.ix_(~out, ~out)] + strength * np.eye((~out).sum())
        weights = np.linalg.solve(known, row[~out] - moments.mean[~out])
        row[out] = moments.mean[out] + moments.covariance[np.ix_(out, ~out)] @ weights
    return filled.clip(0, 1)


def ridge_enlarge(moments: Moments, small: np.ndarray, measure: np.ndarray, strength: float) -> np.ndarray:
    """Estimates images [n, L] by linear regression on y = measure @ x [n, S], with a penalty."""
    gain = moments.covariance @ measure.T
    known = measure @ gain + strength * np.eye(len(measure))
    weights = np.linalg.solve(known, (small - moments.mean @ measure.T).T)
    return (moments.mean + (gain @ weights).T).clip(0, 1)


def enlarged(small: np.ndarray, factor: int, filter: Image.Resampling) -> np.ndarray:
    """Enlarges images by Pillow, channel by channel in floats, and clips them."""
    size = (small.shape[2] * factor, small.shape[1] * factor)
    planes = [
        [np.asarray(Image.fromarray(plane).resize(size, filter)) for plane in np.moveaxis(image, -1, 0)]
        for image in small.astype(np.float32)
    ]
    return np.moveaxis(np.array(planes), 1, -1).clip(0, 1)


def agreeing(images: np.ndarray, small: np.ndarray, operator: Downsample) -> np.ndarray:
    """Shifts each block of images [n, h, w, c] so that its mean agrees with `small`, and clips the result."""
    lacking = small - operator.apply(images)
    return (images + lacking.repeat(operator.factor, axis=1).repeat(operator.factor, axis=2)).clip(0, 1)


def binarized(images: np.ndarray, seed: int) -> np.ndarray:
    """Binarises uint8 images once: each pixel becomes 255 with probability intensity / 255, else 0."""
    generator = np.random.Generator(np.random.Philox(seed))
    return np.where(generator.uniform(size=images.shape) < image_arrays.unit_floats(images), 255, 0).astype(np.uint8)
