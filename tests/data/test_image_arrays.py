"""Range conversions, grids, PNG files."""

import io

import jax
import numpy as np
import pytest
from PIL import Image

from genjax.data import image_arrays

LEVELS = np.arange(256, dtype=np.uint8)


@pytest.mark.parametrize("function", [image_arrays.to_unit, jax.jit(image_arrays.to_unit)], ids=["numpy", "jit"])
def test_to_unit_keeps_every_level(function):
    unit = np.asarray(function(LEVELS))
    assert unit[0] == 0 and unit[255] == 1
    np.testing.assert_array_equal(image_arrays.to_uint8(unit), LEVELS)


def test_to_uint8_rounds_and_clips():
    floats = np.array([-1.0, 0.4 / 255, 0.6 / 255, 99.4 / 255, 99.6 / 255, 7.0], np.float32)
    assert image_arrays.to_uint8(floats).tolist() == [0, 0, 1, 99, 100, 255]
    np.testing.assert_array_equal(image_arrays.to_uint8(LEVELS), LEVELS)


@pytest.mark.parametrize(
    "array, got",
    [
        (np.zeros((5, 8, 8, 3), np.uint8), "uint8 [5, 8, 8, 3]"),
        (np.zeros((8, 9, 1), np.uint8), "uint8 [8, 9, 1]: a single one is image[None]"),
        (np.zeros((5, 8, 9, 1), np.float32), "float32 [5, 8, 9, 1]"),
    ],
)
def test_check_names_both_shapes(array, got):
    with pytest.raises(ValueError) as refusal:
        image_arrays.check(array, (8, 9, 1))
    assert str(refusal.value) == f"expected uint8 or uint16 images [n, 8, 9, 1], got {got}"


@pytest.mark.parametrize("channels, mode", [(1, "L"), (2, "L"), (3, "RGB"), (4, "RGB"), (7, "RGB")])
def test_encode_png_shows_three_channels_or_one(channels, mode):
    image = np.random.default_rng(0).integers(0, 256, (5, 4, channels), np.uint8)
    with Image.open(io.BytesIO(image_arrays.encode_png(image))) as opened:
        assert opened.mode == mode
        first = image[..., : len(mode)]
        np.testing.assert_array_equal(np.asarray(opened).reshape(first.shape), first)


def test_check_returns_valid_images():
    array = np.zeros((0, 8, 9, 1), np.uint8)
    assert image_arrays.check(array, [8, 9, 1]) is array


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_places_images_row_by_row(channels):
    batch = np.random.default_rng(0).integers(0, 160, (5, 4, 6, channels), dtype=np.uint8)
    canvas = image_arrays.grid(batch, columns=3, gap=1)
    assert canvas.shape == (2 * 5 + 1, 3 * 7 + 1, channels)
    np.testing.assert_array_equal(canvas[1:5, 1:7], batch[0])
    np.testing.assert_array_equal(canvas[1:5, 15:21], batch[2])
    np.testing.assert_array_equal(canvas[6:10, 1:7], batch[3])
    np.testing.assert_array_equal(canvas[6:10, 8:14], batch[4])
    # No pixel of the images is of the ground's level, so the rest being so means that nothing else was drawn.
    assert np.count_nonzero((canvas != 160).any(-1)) == 5 * 4 * 6


def test_grid_of_one_image_has_no_empty_cells():
    assert image_arrays.grid(np.zeros((1, 4, 6, 3), np.uint8), columns=8, gap=1).shape == (6, 8, 3)


@pytest.mark.parametrize("num", [1, 2, 7, 29, 30, 64])
def test_evenly_spaced_gives_no_image_twice(num):
    chosen = image_arrays.evenly_spaced(np.arange(30), num)
    assert len(set(chosen)) == len(chosen) == min(num, 30)
    assert chosen[0] == 0 and (num == 1 or chosen[-1] == 29)


@pytest.mark.parametrize("shape", [(5, 7, 1), (5, 7, 3)])
def test_write_png_replaces_whole_files(tmp_path, shape):
    path = tmp_path / "below" / "image.png"
    for seed in (0, 1):
        image = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
        image_arrays.write_png(path, image)
        np.testing.assert_array_equal(np.asarray(Image.open(path)).reshape(shape), image)
    assert [entry.name for entry in path.parent.iterdir()] == ["image.png"]


def test_enlarged_repeats_pixels_up_to_the_least_size():
    images = np.arange(12, dtype=np.uint8).reshape(2, 2, 3, 1)
    large = image_arrays.enlarged(images, least=7)
    assert (
        large.shape == (2, 6, 9, 1) and (large[:, ::3, ::3] == images).all() and (large[:, 2::3, 1::3] == images).all()
    )
    np.testing.assert_array_equal(image_arrays.enlarged(images, least=3), images)
