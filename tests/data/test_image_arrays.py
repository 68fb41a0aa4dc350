"""Range conversions, grids, PNG, and decoding to one shape."""

import io

import jax
import numpy as np
import pytest
from PIL import Image

from genjax.data import image_arrays

LEVELS = np.arange(256, dtype=np.uint8)


def encode(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("function", [image_arrays.to_unit, jax.jit(image_arrays.to_unit)], ids=["numpy", "jit"])
def test_every_grey_level_survives_the_unit_range(function):
    unit = np.asarray(function(LEVELS))
    assert unit[0] == 0 and unit[255] == 1
    np.testing.assert_array_equal(image_arrays.to_uint8(unit), LEVELS)


def test_to_uint8_rounds_to_the_nearest_level_and_clips():
    floats = np.array([-1.0, 0.4 / 255, 0.6 / 255, 99.4 / 255, 99.6 / 255, 7.0], np.float32)
    assert image_arrays.to_uint8(floats).tolist() == [0, 0, 1, 99, 100, 255]


@pytest.mark.parametrize(
    "array, got",
    [
        (np.zeros((5, 8, 8, 3), np.uint8), "uint8 [5, 8, 8, 3]"),
        (np.zeros((8, 9, 1), np.uint8), "uint8 [8, 9, 1]"),
        (np.zeros((5, 8, 9, 1), np.float32), "float32 [5, 8, 9, 1]"),
    ],
)
def test_check_names_both_shapes(array, got):
    with pytest.raises(ValueError) as refusal:
        image_arrays.check(array, (8, 9, 1))
    assert str(refusal.value) == f"expected uint8 images [n, 8, 9, 1], got {got}"


def test_check_hands_back_what_is_right():
    array = np.zeros((0, 8, 9, 1), np.uint8)
    assert image_arrays.check(array, [8, 9, 1]) is array


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_is_white_but_for_image_i_at_row_i_over_columns(channels):
    batch = np.random.default_rng(0).integers(0, 160, (5, 4, 6, channels), dtype=np.uint8)
    canvas = image_arrays.grid(batch, columns=3, gap=1)
    assert canvas.shape == (2 * 5 + 1, 3 * 7 + 1, channels)
    np.testing.assert_array_equal(canvas[1:5, 1:7], batch[0])
    np.testing.assert_array_equal(canvas[1:5, 15:21], batch[2])
    np.testing.assert_array_equal(canvas[6:10, 1:7], batch[3])
    np.testing.assert_array_equal(canvas[6:10, 8:14], batch[4])
    # No pixel of the images is of the ground's level, so the rest being so means that nothing else was drawn.
    assert np.count_nonzero((canvas != 160).any(-1)) == 5 * 4 * 6


@pytest.mark.parametrize("shape", [(5, 7, 1), (5, 7, 3)])
def test_png_files_hold_the_pixels_and_are_replaced_whole(tmp_path, shape):
    path = tmp_path / "below" / "image.png"
    for seed in (0, 1):
        image = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
        image_arrays.write_png(path, image)
        np.testing.assert_array_equal(np.asarray(Image.open(path)).reshape(shape), image)
        np.testing.assert_array_equal(image_arrays.decode(path.read_bytes(), shape), image)
    assert [entry.name for entry in path.parent.iterdir()] == ["image.png"]


def test_a_wide_image_keeps_its_aspect_and_its_centre():
    pixels = np.zeros((8, 20, 3), np.uint8)
    pixels[:, :6], pixels[:, 6:14], pixels[:, 14:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    np.testing.assert_array_equal(image_arrays.decode(encode(Image.fromarray(pixels)), (8, 8, 3)), pixels[:, 6:14])


def test_a_tall_image_is_scaled_to_cover_and_cropped_at_the_centre():
    pixels = np.zeros((64, 16), np.uint8)
    pixels[24:40, 8:] = 200  # the centre square, at half the size: columns 0..3 black, 4..7 grey
    pixels[:24] = pixels[40:] = 77
    small = image_arrays.decode(encode(Image.fromarray(pixels)), (8, 8, 1))[..., 0].astype(int)
    # Bicubic weights reach two target pixels, so rows and columns farther from an edge than that are exact.
    np.testing.assert_array_equal(small[2:6, [0, 1, 6, 7]], [[0, 0, 200, 200]] * 4)
    assert np.all(np.diff(small[2:6, 2:6], axis=1) >= 0)


def test_downscaling_is_antialiased():
    checkers = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    small = image_arrays.decode(encode(Image.fromarray(checkers)), (8, 8, 1)).astype(int)
    assert np.abs(small - 127.5).max() < 4  # without a filter each pixel would be 0 or 255


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_all_of_16_bit_grey_is_brought_to_8_bits(kind):
    deep = (LEVELS.astype(np.uint16) * 257).reshape(16, 16)
    np.testing.assert_array_equal(image_arrays.decode(encode(Image.fromarray(deep), kind), (16, 16, 1)).ravel(), LEVELS)
    colour = image_arrays.decode(encode(Image.fromarray(deep), kind), (16, 16, 3))
    np.testing.assert_array_equal(colour, np.repeat(LEVELS.reshape(16, 16, 1), 3, -1))


def test_16_bit_grey_with_white_as_0_or_a_clear_level_is_read_as_it_looks():
    deep = (LEVELS.astype(np.uint16) * 257).reshape(16, 16)
    negative = encode(Image.fromarray(65535 - deep), "TIFF", tiffinfo={262: 0})
    np.testing.assert_array_equal(image_arrays.decode(negative, (16, 16, 1)).ravel(), LEVELS)
    clear = encode(Image.fromarray(deep), transparency=10 * 257)
    expected = np.where(LEVELS == 10, 255, LEVELS)
    np.testing.assert_array_equal(image_arrays.decode(clear, (16, 16, 1)).ravel(), expected)


def test_12_bits_are_refused_and_not_made_black():
    tifffile = pytest.importorskip("tifffile", reason="only tifffile writes 12 bits")
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.full((4, 4), 4095, np.uint16), bitspersample=12, photometric="minisblack")
    with pytest.raises(ValueError, match="of 12 or 32 bits"):
        image_arrays.decode(buffer.getvalue(), (4, 4, 1))


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_samples_of_other_kinds_are_refused_and_not_made_black(dtype):
    with pytest.raises(ValueError, match="its samples are signed, floating point, or of 12 or 32 bits"):
        image_arrays.decode(encode(Image.fromarray(np.ones((4, 4), dtype)), "TIFF"), (4, 4, 1))


@pytest.mark.parametrize(
    "orientation, turned",
    [
        (1, lambda image: image),
        (2, lambda image: image[:, ::-1]),
        (3, lambda image: image[::-1, ::-1]),
        (4, lambda image: image[::-1]),
        (6, lambda image: np.rot90(image, -1)),
        (8, lambda image: np.rot90(image)),
    ],
)
def test_exif_orientation_is_applied(orientation, turned):
    stored = np.random.default_rng(0).integers(0, 256, (4, 6), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = turned(stored)
    decoded = image_arrays.decode(encode(Image.fromarray(stored), exif=exif), (*upright.shape, 1))
    np.testing.assert_array_equal(decoded[..., 0], upright)


def test_colour_becomes_grey_by_luma_and_grey_becomes_colour():
    colour = np.full((4, 4, 3), (200, 100, 50), np.uint8)
    grey = image_arrays.decode(encode(Image.fromarray(colour)), (4, 4, 1))
    assert set(grey.ravel()) == {round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)}
    np.testing.assert_array_equal(
        image_arrays.decode(encode(Image.fromarray(grey[..., 0])), (4, 4, 3)), grey.repeat(3, -1)
    )


@pytest.mark.parametrize("cut", [0, 10, 300])
def test_truncated_files_raise(cut):
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    with pytest.raises((OSError, SyntaxError)):
        image_arrays.decode(encode(Image.fromarray(noise))[:cut], (32, 32, 3))


@pytest.mark.parametrize("shape", [(4, 6, 3), (4, 6, 1), (6, 4, 3), (20, 30, 3)])
def test_stretch_is_pillows_bicubic_resize_and_keeps_no_aspect(shape):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 17, 3), dtype=np.uint8))
    height, width, channels = shape
    expected = image.convert("L" if channels == 1 else "RGB").resize((width, height), Image.Resampling.BICUBIC)
    stretched = image_arrays.fit(image, shape, "stretch")
    assert stretched.dtype == np.uint8
    np.testing.assert_array_equal(stretched, np.asarray(expected).reshape(shape))
    assert not np.array_equal(stretched, image_arrays.fit(image, shape, "cover"))
    np.testing.assert_array_equal(image_arrays.fit(image, shape), image_arrays.fit(image, shape, "cover"))


def test_what_is_transparent_is_laid_on_white():
    """As on a page: an icon that is black where it is opaque would else be black all over."""
    alpha = np.array([[255, 0], [0, 51]], np.uint8)
    black = np.zeros((2, 2), np.uint8)
    laid = np.array([[0, 255], [255, 204]])
    grey = Image.merge("LA", [Image.fromarray(black), Image.fromarray(alpha)])
    colour = Image.fromarray(np.stack([black, black, black, alpha], axis=-1))
    for image in (grey, colour):
        for channels in (1, 3):
            decoded = image_arrays.decode(encode(image), (2, 2, channels))
            np.testing.assert_array_equal(decoded, laid[..., None].repeat(channels, -1))
    palette = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8)).convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    decoded = image_arrays.decode(encode(palette, transparency=1), (2, 2, 3))
    np.testing.assert_array_equal(decoded[[0, 0, 1, 1], [0, 1, 0, 1], 1], [20, 255, 255, 20])


@pytest.mark.parametrize("resize", ["cover", "stretch"])
def test_an_image_of_the_right_size_is_only_converted(resize):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(image_arrays.fit(Image.fromarray(pixels), (5, 7, 3), resize), pixels)


def test_stretch_turns_an_image_upright_first_and_knows_16_bits():
    deep = np.repeat(np.uint16([[40 * 257], [200 * 257]]), 8, axis=1).repeat(4, axis=0)  # 8x8: dark above light
    turned = Image.fromarray(deep)
    turned.getexif()[0x0112] = 6  # a quarter turn to the right: dark on the right
    stretched = image_arrays.fit(turned, (4, 16, 1), "stretch")[..., 0]
    assert set(stretched[:, :4].ravel()) == {200} and set(stretched[:, -4:].ravel()) == {40}
