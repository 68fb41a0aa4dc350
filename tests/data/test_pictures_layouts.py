"""Image files of every depth, layout and orientation are read as they are."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from genjax.data import pictures
from picture_files import HELD, assert_same, chunk, deep_codecs, noise, palette_image, pillow, png, tiff

TURNS = {  # the upright image [h, w, ...] from the stored one, by EXIF 2.32, 4.6.4
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


@deep_codecs
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("planes", [1, 2, 3, 4])
def test_read_png_of_every_layout(read, dtype, planes):
    array = noise(dtype, planes)
    assert_same(read(png(array)), array)


@deep_codecs
@pytest.mark.parametrize("byteorder", "<>")
@pytest.mark.parametrize("compression", [None, "lzw", "zlib"])
@pytest.mark.parametrize("planarconfig", ["contig", "separate"])
@pytest.mark.parametrize(
    "dtype, planes", [(np.uint8, 1), (np.uint8, 3), (np.uint8, 4), (np.uint16, 1), (np.uint16, 3), (np.uint16, 4)]
)
def test_read_tiff_of_every_layout(read, byteorder, compression, planarconfig, dtype, planes):
    array = noise(dtype, planes)
    options = dict(compression=compression, predictor=bool(compression), planarconfig=planarconfig)
    assert_same(read(tiff(array, byteorder=byteorder, **options)), array)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_read_inverts_white_stored_as_0(read, dtype):
    array = noise(dtype, 1)
    assert_same(read(tiff(array, photometric="miniswhite")), np.iinfo(dtype).max - array)


@deep_codecs
def test_read_divides_by_multiplied_16_bit_alpha(read):
    straight = noise(np.uint16, 4)
    straight[..., 3] = np.where(straight[..., 3] < 20000, 0, straight[..., 3])
    multiplied = straight.copy()
    multiplied[..., :3] = np.rint(straight[..., :3] * (straight[..., 3:] / 65535))
    seen = straight[..., 3] > 0
    multiplied[~seen] = [500, 0, 9, 0]  # what no colour can have become, but a filter may leave
    image = read(tiff(multiplied, extrasamples=["assocalpha"]))
    assert not image.pixels[~seen].any()
    assert np.abs(image.pixels[seen].astype(int) - straight[..., :3][seen]).max() <= 2  # rounded at alpha >= 0.3
    np.testing.assert_array_equal(image.alpha, straight[..., 3])


@deep_codecs
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("planes", [2, 4, 5, 7])
def test_read_keeps_samples_that_are_no_alpha(read, dtype, planes):
    array = noise(dtype, planes)
    extra = ["unspecified"] * (planes - (1 if planes == 2 else 3))
    kind = "minisblack" if planes == 2 else "rgb"
    image = read(tiff(array, extrasamples=extra, photometric=kind))
    assert image.alpha is None and image.pixels.dtype == dtype
    np.testing.assert_array_equal(image.pixels, array)


@deep_codecs
@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.uint32, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("planes", [1, 3])
def test_read_makes_other_numbers_floats(read, dtype, planes):
    array = (np.arange(35 * planes).reshape(5, 7, planes) - (50 if np.dtype(dtype).kind != "u" else 0)).astype(dtype)
    image = read(tiff(array))
    assert image.alpha is None and image.pixels.dtype == np.float32
    np.testing.assert_array_equal(image.pixels, array.astype(np.float32))


@deep_codecs
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("planes", [1, 3])
def test_read_makes_a_transparent_colour_alpha(read, dtype, planes):
    array = noise(dtype, planes)
    array[2, 3] = array[4, 4]
    array[1, 1] = array[4, 4] ^ (1 if planes == 1 else np.array([0, 1, 0], dtype))  # differs, by the least there is
    opacity = np.where((array == array[4, 4]).all(-1, keepdims=True), 0, np.iinfo(dtype).max).astype(dtype)
    encoded = png(array, chunk(b"tRNS", struct.pack(f">{planes}H", *array[4, 4])))
    assert_same(read(encoded), np.concatenate([array, opacity], -1))


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("key", [None, 1])
def test_read_spreads_few_bits_over_8(read, bits, key):
    levels = np.arange(2**bits, dtype=np.uint8)
    row = np.packbits((levels[:, None] >> np.arange(bits)[::-1] & 1).ravel().astype(np.uint8)).tobytes()
    header = struct.pack(">IIBBBBB", len(levels), 1, bits, 0, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0" + row)), chunk(b"IEND", b"")]
    if key is not None:
        parts.insert(1, chunk(b"tRNS", struct.pack(">H", key)))
    planes = [levels * (255 // levels[-1])] + ([255 * (levels != key)] if key is not None else [])
    assert_same(read(b"\x89PNG\r\n\x1a\n" + b"".join(parts)), np.stack(planes, -1)[None].astype(np.uint8))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_read_makes_black_and_white_grey(read, kind):
    array = noise(np.uint8, 1) // 128 * 255
    assert_same(read(pillow(Image.fromarray(array[..., 0]).convert("1"), kind)), array)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_read_makes_palettes_colour(read, kind):
    image, palette = palette_image()
    assert_same(read(pillow(image, kind)), palette[np.asarray(image)])


@pytest.mark.parametrize("opacities", [[255, 0, 255, 255, 255], [0, 50, 100, 200, 255], [7, 0]], ids=str)
def test_read_keeps_transparency_of_palettes(read, opacities):
    image, palette = palette_image()
    alpha = np.full(5, 255, np.uint8)
    alpha[: len(opacities)] = opacities  # a short list means that the others are opaque
    rgba = np.concatenate([palette, alpha[:, None]], -1)
    assert_same(read(pillow(image, "PNG", transparency=bytes(opacities))), rgba[np.asarray(image)])


def test_read_makes_cmyk_colour(read):
    cmyk = np.zeros((16, 16, 4), np.uint8)
    cmyk[:, :8], cmyk[:, 8:] = (255, 0, 255, 0), (0, 0, 0, 128)  # green, grey
    image = read(pillow(Image.fromarray(cmyk, "CMYK"), "JPEG", quality=95), "image.jpg")
    assert image.pixels.dtype == np.uint8 and image.alpha is None
    expected = np.zeros((16, 16, 3), int)
    expected[:, :8], expected[:, 8:] = (0, 255, 0), 127
    assert np.abs(image.pixels - expected).max() < 8


@deep_codecs
@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("suffix, dtype, planes", [(s, *held) for s in (".png", ".tif", ".webp") for held in HELD[s]])
def test_read_turns_pictures_upright_once(tmp_path, read, orientation, suffix, dtype, planes):
    array = noise(dtype, planes)
    encoded = {
        ".png": lambda: png(array, chunk(b"eXIf", exif(orientation).tobytes().removeprefix(b"Exif\0\0"))),
        ".tif": lambda: tiff(array, compression="lzw", extratags=[(0x0112, "H", 1, orientation, True)]),
        ".webp": lambda: pillow(array, "WEBP", lossless=True, exact=True, exif=exif(orientation)),
    }[suffix]()
    image = read(encoded)
    assert_same(image, TURNS[orientation](array))
    path = tmp_path / f"turned{suffix}"
    pictures.write(path, image)
    with Image.open(path) as written:
        assert 0x0112 not in written.getexif()  # or it would be turned twice
    assert_same(pictures.read(path), TURNS[orientation](array))


@pytest.mark.parametrize("orientation", TURNS)
def test_read_turns_jpegs_upright(read, orientation):
    array = np.zeros((16, 32, 3), np.uint8)
    array[:8, :16] = 255
    image = read(pillow(array, "JPEG", quality=95, exif=exif(orientation)), "image.jpg")
    np.testing.assert_array_equal(image.pixels > 127, TURNS[orientation](array) > 127)


def test_read_ignores_previews_in_jpegs(read):
    photo, preview = np.full((16, 24, 3), 200, np.uint8), np.zeros((8, 12, 3), np.uint8)
    encoded = pillow(photo, "MPO", save_all=True, append_images=[Image.fromarray(preview)])
    with Image.open(io.BytesIO(encoded)) as opened:
        assert opened.format == "MPO" and opened.n_frames == 2
    assert_same(read(encoded, "image.jpg"), photo)
