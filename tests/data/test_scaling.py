"""Scales of pictures: what each --data.resize does, and that evaluation has the scale that was trained on."""

import dataclasses

import numpy as np
import pytest
from PIL import Image, ImageOps

from genjax.data import scaling
from genjax.data.config import DataConfig

BICUBIC = Image.Resampling.BICUBIC


def config_of(size, **changes):
    return DataConfig(source="unused", image_size=size, channels=(3,), batch_size=1, **changes)


def noise(height, width, channels=3, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (height, width, channels), dtype, endpoint=True)


def test_to_scale_covers_wide_pictures():
    pixels = np.zeros((8, 20, 3), np.uint8)
    pixels[:, :6], pixels[:, 6:14], pixels[:, 14:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    np.testing.assert_array_equal(scaling.to_scale(pixels, config_of((8, 8))), pixels[:, 6:14])


def test_to_scale_covers_tall_pictures():
    pixels = np.zeros((64, 16, 1), np.uint8)
    pixels[24:40, 8:] = 200  # the centre square, at half the size: columns 0..3 black, 4..7 grey
    pixels[:24] = pixels[40:] = 77
    small = scaling.to_scale(pixels, config_of((8, 8)))[..., 0].astype(int)
    # Bicubic weights reach two target pixels, so rows and columns farther from an edge than that are exact.
    np.testing.assert_array_equal(small[2:6, [0, 1, 6, 7]], [[0, 0, 200, 200]] * 4)
    assert np.all(np.diff(small[2:6, 2:6], axis=1) >= 0)


@pytest.mark.parametrize("size, channels", [((6, 4), 3), ((6, 5), 1), ((5, 9), 3), ((20, 30), 3)])
def test_to_scale_keeps_bytes_without_load_scale(size, channels):
    """Digests depend on them: those of Pillow's `fit` and `resize`."""
    pixels = noise(12, 17, channels)
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    expected = {
        "cover": ImageOps.fit(image, size[::-1], BICUBIC),
        "stretch": image.resize(size[::-1], BICUBIC),
    }
    for resize, wanted in expected.items():
        config = config_of(size, resize=resize)
        scaled = scaling.to_scale(pixels, config)
        assert scaled.dtype == np.uint8
        np.testing.assert_array_equal(scaled, np.asarray(wanted).reshape(*size, channels))
        np.testing.assert_array_equal(scaling.evaluated(pixels, config), scaled)


def test_to_scale_is_antialiased():
    checkers = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)[..., None]
    small = scaling.to_scale(checkers, config_of((8, 8))).astype(int)
    assert np.abs(small - 127.5).max() < 4  # without a filter each pixel would be 0 or 255


@pytest.mark.parametrize("resize", ["cover", "stretch", "width", "none"])
def test_to_scale_keeps_pictures_of_right_size(resize):
    np.testing.assert_array_equal(scaling.to_scale(noise(5, 7), config_of((5, 7), resize=resize)), noise(5, 7))


@pytest.mark.parametrize(
    "changes, wide, tall",
    [
        ({"load_scale": (10 / 8, 10 / 8)}, (10, 20), (20, 10)),
        ({"load_scale": (12 / 8, 16 / 8)}, (12, 24), (32, 16)),
        ({"load_scale": (8 / 8, 8 / 8)}, (8, 16), (16, 8)),
        ({"load_scale": (12 / 8, 16 / 8), "resize": "stretch"}, (12, 16), (12, 16)),
        ({"resize": "width"}, (8, 16), (16, 8)),  # the wide one, 4x8, would not cover a square
        ({"load_scale": (8 / 8, 20 / 8), "resize": "width"}, (10, 20), (40, 20)),
        ({"resize": "none"}, (32, 64), (64, 32)),
    ],
)
def test_to_scale_leaves_room_for_crops(changes, wide, tall):
    config = config_of((8, 8), **changes)
    for size, expected in (((32, 64), wide), ((64, 32), tall)):
        pixels = noise(*size)
        scaled = scaling.to_scale(pixels, config)
        resized = Image.fromarray(pixels).resize(expected[::-1], BICUBIC)
        np.testing.assert_array_equal(scaled, np.asarray(resized))
        top, left = ((part - 8) // 2 for part in expected)
        np.testing.assert_array_equal(scaling.evaluated(pixels, config), scaled[top : top + 8, left : left + 8])


@pytest.mark.parametrize("resize", ["cover", "width", "none"])
@pytest.mark.parametrize("height, width", [(1, 1), (3, 500), (500, 3), (97, 89), (11, 13)])
def test_to_scale_covers_image_size(resize, height, width):
    for load in ((), (13 / 11, 17 / 13)):
        if resize != "none" or not load:
            config = config_of((11, 13), resize=resize, load_scale=load, upscale=True)
            scaled = scaling.to_scale(noise(height, width), config)
            assert scaled.shape[0] >= 11 and scaled.shape[1] >= 13
            assert scaling.evaluated(noise(height, width), config).shape == (11, 13, 3)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_to_scale_treats_16_bits_and_planes_alike(channels):
    deep = noise(24, 20, channels, np.uint16)
    scaled = scaling.to_scale(deep, config_of((8, 8)))
    assert scaled.dtype == np.uint16 and scaled.shape == (8, 8, channels)
    each = [scaling.to_scale(deep[..., i : i + 1], config_of((8, 8))) for i in range(channels)]
    np.testing.assert_array_equal(scaled, np.concatenate(each, -1))
    shallow = scaling.to_scale((deep // 257).astype(np.uint8), config_of((8, 8)))
    assert np.abs(scaled / 257 - shallow).max() < 2.5  # rounded after each of two passes, and before


@pytest.mark.parametrize("resize", ["cover", "stretch", "width", "none"])
@pytest.mark.parametrize("height, width", [(7, 10), (8, 9), (1, 1), (7, 900)])
def test_check_large_enough_compares_with_image_size(resize, height, width):
    load = {} if resize == "none" else {"load_scale": (12 / 8, 14 / 10)}
    config = config_of((8, 10), resize=resize, **load)
    scaling.check_large_enough(noise(8, 10), config)
    with pytest.raises(scaling.TooSmallError) as refusal:
        scaling.check_large_enough(noise(height, width), config)
    assert refusal.value.size == (height, width)
    scaling.check_large_enough(noise(height, width), dataclasses.replace(config, upscale=True))


def test_too_small_proposes_a_size_that_fits():
    config, alike = config_of((64, 64)), [(48, 48)] * 300
    remedy = "(or --data.upscale)"
    assert scaling.too_small(alike, 300, config) == (
        f"300 of 300 pictures are 48x48, smaller than --data.image-size 64x64: give --data.image-size 48 48 {remedy}"
    )
    assert scaling.too_small([(20, 300), (60, 50)], 9, config) == (
        "2 of 9 pictures are smaller (one is 60x50) than --data.image-size 64x64: "
        f"remove them, or give --data.image-size 20 50 {remedy}"
    )
