"""Drawings brought to one place and size."""

import numpy as np
import pytest

from studies.adaptation import bounding_box

RNG = np.random.default_rng(0)


def on_canvas(drawing, top, left, size=(30, 40)):
    canvas = np.zeros((*size, 1), np.uint8)
    height, width = drawing.shape
    canvas[top : top + height, left : left + width, 0] = drawing
    return canvas


DRAWING = RNG.integers(100, 256, (12, 7), np.uint8)


def test_normalise_ignores_place_and_margin():
    places = [on_canvas(DRAWING, top, left) for top, left in ((0, 0), (18, 33), (5, 11), (18, 0))]
    (first, *others) = bounding_box.normalise(np.stack(places), 16, 2)
    assert all(np.array_equal(first, other) for other in others)
    np.testing.assert_array_equal(bounding_box.normalise(DRAWING[None, ..., None], 16, 2)[0], first)


def test_normalise_keeps_the_aspect():
    wide = np.full((5, 20), 255, np.uint8)
    for drawing, expected in ((wide, (2, 6, 14, 9)), (wide.T, (6, 2, 9, 14)), (wide[:1, :1], (2, 2, 14, 14))):
        (image,) = bounding_box.normalise(on_canvas(drawing, 3, 4)[None], 16, 2)
        assert bounding_box.box(image) == expected
        assert image.max() == 255 and image[0].max() == 0


def test_normalise_ignores_size():
    smooth = np.hypot(*np.mgrid[-6:6:24j, -3:3:12j])
    small = (255 * np.exp(-((smooth - 3) ** 2))).astype(np.uint8)
    large = small.repeat(2, axis=0).repeat(2, axis=1)
    a, b = (bounding_box.normalise(on_canvas(x, 0, 0, (50, 50))[None], 16, 1).astype(int) for x in (small, large))
    assert np.abs(a - b).mean() < 8


def test_box_ignores_faint_blur():
    blurred = on_canvas(DRAWING, 5, 5)
    blurred[3:20, 3:14] = np.maximum(blurred[3:20, 3:14], bounding_box.THRESHOLD - 1)
    assert bounding_box.box(blurred) == bounding_box.box(on_canvas(DRAWING, 5, 5)) == (5, 5, 12, 17)


def test_normalise_refuses_bad_input():
    with pytest.raises(ValueError, match="no ink to crop to: no pixel of it reaches 64 of 255"):
        bounding_box.normalise(np.full((1, 8, 8, 1), 63, np.uint8), 16, 1)
    with pytest.raises(ValueError, match="a margin of 8 on each side leaves no room in 16 pixels"):
        bounding_box.normalise(np.full((1, 8, 8, 1), 99, np.uint8), 16, 8)
    with pytest.raises(ValueError, match="expected uint8 or uint16 images"):
        bounding_box.normalise(np.full((1, 8, 8, 3), 99, np.uint8), 16, 1)
