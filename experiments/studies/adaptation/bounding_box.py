"""Normalisation of drawings (light on dark) to one place and size, so that data sets do not differ in margins."""

import numpy as np
from PIL import Image

from genjax.data import image_arrays

THRESHOLD = 64
"""Least level of ink, in 0..255; fainter pixels may be blur."""


def box(image: np.ndarray) -> tuple[int, int, int, int]:
    """Finds left, top, right and bottom (exclusive) of the ink in uint8 [h, w, 1]; ValueError if there is none."""
    rows, columns = (np.flatnonzero((image[..., 0] >= THRESHOLD).any(axis=axis)) for axis in (1, 0))
    if len(rows) == 0:
        raise ValueError(f"an image has no ink to crop to: no pixel of it reaches {THRESHOLD} of 255")
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def normalise(images: np.ndarray, size: int, margin: int) -> np.ndarray:
    """Scales the bounding box of each drawing to the middle of a square with a margin.

    `images` are uint8 [n, h, w, 1], the result is [n, size, size, 1]. The longer side of the box becomes
    size - 2 * margin; the aspect ratio stays (bicubic, antialiased). The result does not depend on the place of a
    drawing in its image. Raises ValueError for other arrays, a margin that is too wide, or no ink.
    """
    image_arrays.check(images, (*images.shape[1:3], 1))
    room = size - 2 * margin
    if margin < 0 or room < 1:
        raise ValueError(f"a margin of {margin} on each side leaves no room in {size} pixels")
    canvases = np.zeros((len(images), size, size, 1), np.uint8)
    for canvas, image in zip(canvases, images, strict=True):
        left, top, right, bottom = box(image)
        longer = max(right - left, bottom - top)
        width, height = (max(1, round(side * room / longer)) for side in (right - left, bottom - top))
        drawn = Image.fromarray(image[top:bottom, left:right, 0]).resize((width, height), Image.Resampling.BICUBIC)
        y, x = (size - height) // 2, (size - width) // 2
        canvas[y : y + height, x : x + width, 0] = np.asarray(drawn)
    return canvases
