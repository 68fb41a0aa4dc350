"""Pictures as a model sees them: on their ground, within their levels, in its channels, at its size."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from genjax.data import conversion, pictures
from genjax.data.config import DataConfig
from genjax.data.pictures import Picture

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LEVELS = np.arange(256, dtype=np.uint8)


def encode(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def config(channels=3, **changes):
    """A configuration of images with these channels."""
    return DataConfig(**{"source": "unused", "image_size": (8, 8), "channels": (channels,), "batch_size": 1} | changes)


def to_uint8(encoded, shape):
    return stored(pictures.decode(encoded), shape)


def to_floats(picture, channels):
    return conversion.to_floats(picture, config(channels))


def from_floats(values, like):
    return conversion.from_floats(values, like, config())


def stored(picture, shape, **changes):
    samples = conversion.to_samples(picture, config(shape[-1], **changes))
    assert samples.shape == tuple(shape)
    return samples


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_to_samples_rounds_16_bits_to_8(kind):
    deep = (LEVELS.astype(np.uint16) * 257).reshape(16, 16)
    np.testing.assert_array_equal(to_uint8(encode(Image.fromarray(deep), kind), (16, 16, 1)).ravel(), LEVELS)
    colour = to_uint8(encode(Image.fromarray(deep), kind), (16, 16, 3))
    np.testing.assert_array_equal(colour, np.repeat(LEVELS.reshape(16, 16, 1), 3, -1))


def test_to_samples_of_16_bit_grey_looks_right():
    deep = (LEVELS.astype(np.uint16) * 257).reshape(16, 16)
    negative = encode(Image.fromarray(65535 - deep), "TIFF", tiffinfo={262: 0})
    np.testing.assert_array_equal(to_uint8(negative, (16, 16, 1)).ravel(), LEVELS)
    clear = encode(Image.fromarray(deep), transparency=10 * 257)
    expected = np.where(LEVELS == 10, 255, LEVELS)
    np.testing.assert_array_equal(to_uint8(clear, (16, 16, 1)).ravel(), expected)


def test_to_samples_converts_between_grey_and_colour():
    colour = np.full((4, 4, 3), (200, 100, 50), np.uint8)
    grey = to_uint8(encode(Image.fromarray(colour)), (4, 4, 1))
    assert set(grey.ravel()) == {round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)}
    np.testing.assert_array_equal(to_uint8(encode(Image.fromarray(grey[..., 0])), (4, 4, 3)), grey.repeat(3, -1))


def test_to_samples_lays_transparency_on_white():
    """As on a page: an icon that is black where it is opaque would else be black all over."""
    alpha = np.array([[255, 0], [0, 51]], np.uint8)
    black = np.zeros((2, 2), np.uint8)
    laid = np.array([[0, 255], [255, 204]])
    grey = Image.merge("LA", [Image.fromarray(black), Image.fromarray(alpha)])
    colour = Image.fromarray(np.stack([black, black, black, alpha], axis=-1))
    for image in (grey, colour):
        for channels in (1, 3):
            decoded = to_uint8(encode(image), (2, 2, channels))
            np.testing.assert_array_equal(decoded, laid[..., None].repeat(channels, -1))
    palette = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8)).convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    decoded = to_uint8(encode(palette, transparency=1), (2, 2, 3))
    np.testing.assert_array_equal(decoded[[0, 0, 1, 1], [0, 1, 0, 1], 1], [20, 255, 255, 20])


@pytest.mark.parametrize("channels", [1, 3])
def test_to_samples_rounds_16_bit_colour(channels):
    deep = np.random.default_rng(0).integers(0, 65536, (9, 7, channels), dtype=np.uint16)
    expected = np.rint(deep / 257).astype(np.uint8)
    np.testing.assert_array_equal(stored(Picture(deep), deep.shape), expected)
    clear = np.zeros((9, 7), np.uint16)
    clear[2:] = 65535
    laid = stored(Picture(deep, clear), deep.shape)
    assert (laid[:2] == 255).all()
    np.testing.assert_array_equal(laid[2:], expected[2:])


# Floats.


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_from_floats_restores_every_level(dtype, channels):
    levels = np.arange(np.iinfo(dtype).max + 1).astype(dtype).reshape(16, -1, 1).repeat(channels, -1)
    image = Picture(levels, None, SRGB if channels == 3 else None)
    values = to_floats(image, channels)
    assert values.dtype == np.float32 and values.min() == 0 and values.max() == 1
    back = from_floats(values, image)
    assert back.pixels.dtype == dtype and back.icc == image.icc
    np.testing.assert_array_equal(back.pixels, levels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_from_floats_clips_and_rounds(dtype):
    top = np.iinfo(dtype).max
    values = np.array([[-1, 0.4 / top, 0.6 / top, (top - 0.6) / top, (top - 0.4) / top, 2]])[..., None]
    image = from_floats(values, Picture(np.zeros((1, 6, 3), dtype)))
    assert image.pixels.dtype == dtype and image.pixels.shape == (1, 6, 1) and image.alpha is None
    assert image.pixels.ravel().tolist() == [0, 0, 1, top - 1, top, top]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_to_floats_repeats_grey_exactly(dtype):
    grey = np.arange(np.iinfo(dtype).max + 1).astype(dtype).reshape(16, -1, 1)
    colour = to_floats(Picture(grey), 3)
    assert colour.shape == (16, grey.shape[1], 3) and colour.dtype == np.float32
    np.testing.assert_array_equal(colour, to_floats(Picture(grey), 1).repeat(3, -1))
    luma = to_floats(from_floats(colour, Picture(grey)), 1)
    assert luma.shape == grey.shape and luma.dtype == np.float32 and luma.max() == 1
    np.testing.assert_array_equal(from_floats(luma, Picture(grey)).pixels, grey)


def test_to_floats_uses_the_luma_of_pillow():
    colour = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    by_pillow = np.asarray(Image.fromarray(colour).convert("L"))
    luma = to_floats(Picture(colour), 1)
    assert luma.shape == (64, 64, 1)
    np.testing.assert_array_equal(luma[..., 0] * 255, by_pillow)
    # Its weights are those of 16 bits, and it rounds to a level.
    assert np.abs(to_floats(Picture(colour.astype(np.uint16) * 257), 1) - luma).max() < 0.51 / 255
