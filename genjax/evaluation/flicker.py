"""Flicker of videos: how much successive frames differ, beside what the motion of the scene explains.

Frames are floats [h, w, c] in [0, 1]. The motion is that of the frames before translation, by TV-L1 (Zach et al. 2007)
of scikit-image. What it carries along is compared with the next frame: the warping error of Lai et al. 2018 (Learning
blind video temporal consistency, section 4.2), here as the root of the mean square.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from genjax.data.imports import optional_module
from genjax.evaluation.image_metrics import luminance

INSTALL = "'genjax-images[video]'"


class Motion(NamedTuple):
    """Motion from each pixel of a frame to its place in another one."""

    flow: np.ndarray  # [2, h, w], rows and columns
    shown: np.ndarray  # bool [h, w]: the other frame shows the pixel too


class Flicker(NamedTuple):
    """Root mean square differences of successive frames, in [0, 1]; NaN without a pair of frames."""

    outputs: float
    inputs: float
    num_pairs: int


def check_installed() -> None:
    """Raises ValueError with the remedy if scikit-image is missing."""
    optional_module("skimage.registration", "the motion of a video", INSTALL)


def motions(frame: np.ndarray, other: np.ndarray) -> tuple[Motion, Motion]:
    """Estimates the motion from `frame` to `other`, and that from `other` to `frame`.

    A pixel is hidden in the other frame if it leaves that frame, or if the motion back does not return to it (Sundaram
    et al. 2010, equation 5).
    """
    registration = optional_module("skimage.registration", "the motion of a video", INSTALL)
    here, there = (luminance(image[None])[0].astype(np.float32) for image in (frame, other))
    forth, back = registration.optical_flow_tvl1(here, there), registration.optical_flow_tvl1(there, here)
    return Motion(forth, _shown(forth, back)), Motion(back, _shown(back, forth))


def carried(other: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Moves an image [h, w, c] to the place of the frame that `flow` [2, h, w] leads from; bilinear."""
    places = _grid(flow) + flow  # [2, h, w]
    planes = [ndimage.map_coordinates(plane, places, order=1, mode="nearest") for plane in np.moveaxis(other, -1, 0)]
    return np.stack(planes, axis=-1)


def squared_change(frame: np.ndarray, before: np.ndarray, moved: Motion) -> float:
    """Computes the mean square of frame - before over pixels that both show; NaN if there is none."""
    error = np.mean((frame.astype(np.float64) - carried(before, moved.flow)) ** 2, axis=-1)
    return float(error[moved.shown].mean()) if moved.shown.any() else math.nan


def measure(frames: Iterable[tuple[np.ndarray, np.ndarray] | None]) -> Flicker:
    """Measures the flicker of a video from its frames in order: (input, output), or None for one that is lost.

    Two frames are held at a time.
    """
    changes, before = [], None
    for pair in frames:
        if pair and before:
            moved, _ = motions(pair[0], before[0])
            changes.append([squared_change(now, then, moved) for now, then in zip(pair, before, strict=True)])
        before = pair  # None too: no pair spans a lost frame
    found = np.array([each for each in changes if np.isfinite(each).all()]).reshape(-1, 2)
    if not len(found):
        return Flicker(math.nan, math.nan, 0)
    inputs, outputs = np.sqrt(found.mean(axis=0))
    return Flicker(float(outputs), float(inputs), len(found))


def _grid(flow: np.ndarray) -> np.ndarray:
    return np.stack(np.meshgrid(*map(np.arange, flow.shape[1:]), indexing="ij"))


def _shown(flow: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Finds the pixels of a frame that the other one shows: bool [h, w]. The motions between both are [2, h, w]."""
    rows, columns = _grid(flow) + flow
    inside = (rows > -0.5) & (rows < flow.shape[1] - 0.5) & (columns > -0.5) & (columns < flow.shape[2] - 0.5)
    # The motion back, read where the motion there ends: both sum to 0 if a pixel comes back.
    returned = np.moveaxis(carried(np.moveaxis(back, 0, -1), flow), -1, 0)
    squares = np.sum(flow**2 + returned**2, axis=0)
    return inside & (np.sum((flow + returned) ** 2, axis=0) < 0.01 * squares + 0.5)
