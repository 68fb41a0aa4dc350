"""Masks of where translation may act: measured without pairs, and loaded."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from genjax.cyclegan import keep_mask


def levels(seed, num=300):
    """Aligned images of noise around one picture, of which each pixel has a distribution of its own."""
    picture = np.random.default_rng(0).integers(60, 200, (12, 10, 3))
    return (picture + np.random.default_rng(seed).integers(-40, 41, (num, 12, 10, 3))).astype(np.uint8)


def test_measure_finds_what_differs_and_nothing_else():
    a, b = levels(1), levels(2, 340)
    assert not keep_mask.measure(a, b).any()
    b[:, 3:6, 4:8, 1] += 25  # in one channel
    b[:, 9, 2] = b[:, 9, 2, ::-1]  # the same mean level, in other channels
    found = keep_mask.measure(a, b)
    expected = np.zeros((12, 10, 1), np.uint8)
    expected[3:6, 4:8] = expected[9, 2] = 255
    np.testing.assert_array_equal(found, expected)
    # A wider spread of the same mean differs too.
    wide = levels(3)
    wide[:, 0, 0] = np.random.default_rng(4).choice([40, 220], (300, 1))
    assert keep_mask.measure(a, wide)[0, 0] == 255


def test_measure_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"images of \[12, 10, 3\] and \[12, 10, 1\] have no pixels in common"):
        keep_mask.measure(levels(0), levels(1)[..., :1])


def test_load_scales_and_checks_the_mask(make_cyclegan, tmp_path):
    path = tmp_path / "mask.png"
    drawn = np.zeros((8, 8), np.uint8)
    drawn[:, 4:] = 255
    Image.fromarray(drawn).save(path)
    config = make_cyclegan(loss={"keep": 2.0}, keep_mask=str(path), data={"channels": (3, 3)})
    known, held = keep_mask.load(config)
    assert held["keep_mask"].shape == (16, 16, 1)
    np.testing.assert_array_equal(held["keep_mask"][:, [0, 5, 10, 15], 0], [[0, 0, 255, 255]] * 16)
    again, same = keep_mask.load(known)
    assert again == known and (same["keep_mask"] == held["keep_mask"]).all()
    Image.fromarray(255 - drawn).save(path)
    with pytest.raises(ValueError, match=f"{path} is not the mask of this run: .*Restore it, or give no --keep-mask-s"):
        keep_mask.load(known)
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        keep_mask.load(dataclasses.replace(config, keep_mask=str(tmp_path / "none.png")))
    assert keep_mask.load(make_cyclegan()) == (make_cyclegan(), {})
