"""Light ink on a dark ground, brought to one place and size, so that no margin tells two sets of drawings apart."""

import numpy as np
from PIL import Image

from genjax.data import image_arrays

THRESHOLD = 64
"""Of 255: pixels from here on are ink, and what is fainter may be the blur around it."""


def box(image: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right and bottom (exclusive) of the ink of a uint8 image [h, w, 1]; ValueError if there is none."""
    rows, columns = (np.flatnonzero((image[..., 0] >= THRESHOLD).any(axis=axis)) for axis in (1, 0))
    if len(rows) == 0:
        raise ValueError(f"an image has no ink to crop to: no pixel of it reaches {THRESHOLD} of 255")
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def normalise(images: np.ndarray, size: int, margin: int) -> np.ndarray:
    """uint8 [n, h, w, 1], grey on black, to [n, size, size, 1]: the box of the ink, its longer side at size - 2 margin.

    The aspect stays, and the box is put in the middle (bicubic, antialiased). Where a drawing lies on its image, and
    what margin it has there, changes nothing. ValueError for another form, a margin without room, or an empty image.
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
