"""Image files of every depth and layout: read as they are, written back without loss, refused when damaged."""

import importlib.util
import io
import struct
import sys
import zlib

import numpy as np
import pytest
from etils import epath
from PIL import Image, ImageCms, TiffImagePlugin

from genjax.data import formats, pictures
from genjax.data.pictures import Picture

PNG_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
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
HELD = {  # what each format holds and is read: type and number of planes
    ".png": [(dtype, planes) for dtype in (np.uint8, np.uint16) for planes in (1, 2, 3, 4)],
    ".tif": [
        (np.uint8, 1),
        (np.uint8, 2),
        (np.uint8, 3),
        (np.uint8, 4),
        (np.uint16, 1),
        (np.uint16, 3),
        (np.uint16, 4),
    ],
    ".webp": [(np.uint8, 3), (np.uint8, 4)],
    ".jpg": [(np.uint8, 1), (np.uint8, 3)],
}
deep_codecs = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("imagecodecs", "tifffile"))), reason="needs imagecodecs and tifffile"
)


def noise(dtype, planes, height=5, width=7):
    """Samples [h, w, planes] of every kind, the extremes among them."""
    array = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (height, width, planes), dtype, True)
    array[0, 0], array[0, -1] = 0, np.iinfo(dtype).max
    return array


def assert_same(image, planes):
    """Asserts that `image` holds exactly these planes, in their type."""
    expected = pictures.from_planes(planes)
    assert image.pixels.dtype == planes.dtype
    np.testing.assert_array_equal(image.pixels, expected.pixels)
    if expected.alpha is None:
        assert image.alpha is None
    else:
        assert image.alpha.dtype == planes.dtype
        np.testing.assert_array_equal(image.alpha, expected.alpha)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(planes, *chunks):
    """PNG bytes by the book, with nobody's encoder: unfiltered rows of 8 or 16 bits, `chunks` before the pixels."""
    height, width, num = planes.shape
    bits = planes.itemsize * 8
    header = struct.pack(">IIBBBBB", width, height, bits, PNG_COLOUR_TYPES[num], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(f">u{planes.itemsize}").tobytes() for row in planes)
    parts = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(planes, **options):
    """TIFF bytes by tifffile."""
    buffer = io.BytesIO()
    options = {"photometric": "rgb" if planes.shape[-1] > 2 else "minisblack", "planarconfig": "contig"} | options
    if planes.shape[-1] in (2, 4):
        options = {"extrasamples": ["unassalpha"]} | options
    if planes.shape[-1] == 1:
        planes, options["planarconfig"] = planes[..., 0], None
    if options["planarconfig"] == "separate":
        planes = np.moveaxis(planes, -1, 0)
    pytest.importorskip("tifffile").imwrite(buffer, planes, metadata=None, **options)
    return buffer.getvalue()


def pillow(image, kind, **options):
    """The bytes of a file that Pillow writes of an image, or of an array."""
    buffer = io.BytesIO()
    image = (
        image
        if isinstance(image, Image.Image)
        else Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)
    )
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


@pytest.fixture
def read(tmp_path):
    """Reads the bytes of a file."""

    def read_bytes(encoded, name="image.png"):
        (tmp_path / name).write_bytes(encoded)
        return pictures.read(tmp_path / name)

    return read_bytes


# Reading.


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


def palette_image():
    palette = noise(np.uint8, 3, 1, 5)[0]
    image = Image.fromarray(np.random.default_rng(1).integers(0, 5, (6, 6), dtype=np.uint8), "P")
    image.putpalette(palette.tobytes())
    return image, palette


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


# Refusals.


def cuttable():
    """Files whose every beginning is either refused, or holds all pixels."""
    for kind in ("PNG", "TIFF", "WEBP", "BMP", "JPEG"):
        yield pytest.param(lambda kind=kind: pillow(noise(np.uint8, 3, 16, 16), kind), id=kind)
    yield pytest.param(lambda: pillow(noise(np.uint8, 3), "TIFF", compression="tiff_lzw"), id="TIFF-lzw")
    strips = lambda: tiff(noise(np.uint16, 3, 24, 8), compression="zlib", rowsperstrip=4)  # noqa: E731
    yield pytest.param(strips, id="colour-16-TIFF-strips", marks=deep_codecs)
    yield pytest.param(lambda: pillow(noise(np.uint16, 1), "PNG"), id="grey-16-PNG")
    yield pytest.param(lambda: png(noise(np.uint16, 3)), id="colour-16-PNG", marks=deep_codecs)
    yield pytest.param(lambda: png(noise(np.uint16, 2)), id="grey+alpha-16-PNG", marks=deep_codecs)
    yield pytest.param(
        lambda: tiff(noise(np.uint16, 5, 16, 16), extrasamples=["unspecified"] * 2),
        id="five-16-TIFF",
        marks=deep_codecs,
    )
    for compression in (None, "lzw", "zlib"):
        encode = lambda compression=compression: tiff(noise(np.uint16, 4), compression=compression)  # noqa: E731
        yield pytest.param(encode, id=f"colour-16-TIFF-{compression}", marks=deep_codecs)


@pytest.mark.filterwarnings("ignore")  # an error must be raised without the help of pytest's making one of a warning
@pytest.mark.parametrize("encode", list(cuttable()))
def test_read_refuses_truncated_files(read, encode):
    encoded = encode()
    whole = read(encoded)
    refused = 0
    for cut in range(0, len(encoded), max(1, len(encoded) // 150)):
        try:
            image = read(encoded[:cut])
        except ValueError as error:
            refused += 1
            assert str(error).startswith("cannot read ") and "image.png: " in str(error)
        else:  # only what comes after the pixels was cut
            assert_same(image, np.dstack([whole.pixels] if whole.alpha is None else [whole.pixels, whole.alpha]))
    assert refused > 0.7 * cut / max(1, len(encoded) // 150)


@pytest.mark.parametrize(
    "encode, reason",
    [
        (lambda: b"", "is no PNG, JPEG"),
        (lambda: b"hello" * 100, "is no PNG, JPEG"),
        (lambda: pillow(noise(np.uint8, 3), "TGA"), "is no PNG, JPEG"),
        (lambda: tiff(np.full((4, 4, 1), np.nan, np.float32)), "not all finite"),
        (lambda: tiff(np.full((4, 4, 1), 4095, np.uint16), bitspersample=12), "12 bits"),
        (lambda: tiff(noise(np.uint16, 4), photometric="separated", extrasamples=None), "16-bit SEPARATED"),
        (lambda: animated("WEBP"), "2 frames"),
        (lambda: animated("PNG"), "2 frames"),
        (lambda: animated("TIFF"), "2 frames"),
        (lambda: animated("GIF"), "2 frames"),
        (lambda: b"P6 1 1 65535\n" + bytes(6), "16-bit RGB is not supported in PPM files"),
        (lambda: pillow(Image.new("LAB", (4, 4)), "TIFF"), "mode LAB"),
    ],
    ids=("empty text tga nan 12-bit cmyk-16 webp-2 apng-2 tiff-2 gif-2 ppm-16 lab").split(),
)
def test_read_names_path_and_reason(read, tmp_path, encode, reason):
    with pytest.raises(ValueError) as refusal:
        read(encode(), "some.png")
    assert str(refusal.value).startswith(f"cannot read {tmp_path / 'some.png'}: ") and reason in str(refusal.value)
    assert "BytesIO" not in str(refusal.value)


def animated(kind):
    frames = [Image.fromarray(np.full((8, 8, 3), level, np.uint8)) for level in (10, 200)]
    return pillow(frames[0], kind, save_all=True, append_images=frames[1:])


def test_read_refuses_missing_files_and_folders(tmp_path):
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(ValueError, match="cannot read .*: "):
            pictures.read(path)


@pytest.mark.parametrize("missing", ["imagecodecs", "tifffile"])
def test_read_needs_codecs_for_16_bit_colour_only(tmp_path, read, monkeypatch, missing):
    deep = noise(np.uint16, 3)
    encoded = png(deep) if missing == "imagecodecs" else tiff(deep)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ValueError, match=r"cannot read .*pip install imagecodecs tifffile"):
        read(encoded)
    pictures.write(tmp_path / "out.png", Picture(deep))  # needs neither
    with pytest.raises(ValueError, match="pip install imagecodecs tifffile"):
        pictures.write(tmp_path / "out.tif", Picture(deep))
    assert not (tmp_path / "out.tif").exists()
    for array in (noise(np.uint8, 4), noise(np.uint16, 1)):
        assert_same(read(png(array)), array)


@pytest.mark.parametrize(
    "name, dtype, planes, reason",
    [
        ("a.jpg", np.uint8, 4, "JPEG files hold no alpha"),
        ("a.jpeg", np.uint16, 3, "JPEG files hold 8 bits, the image has 16"),
        ("a.bmp", np.uint8, 2, "BMP files hold no alpha"),
        ("a.bmp", np.uint16, 1, "BMP files hold 8 bits"),
        ("a.webp", np.uint16, 4, "WEBP files hold 8 bits"),
        ("a.tif", np.uint16, 2, "16-bit grey with alpha"),
        ("a.gif", np.uint8, 3, "its suffix is none of .bmp, .jfif, .jpe, .jpeg, .jpg, .png, .tif"),
        ("a", np.uint8, 3, "its suffix is none of"),
    ],
)
def test_write_refuses_what_formats_cannot_hold(tmp_path, name, dtype, planes, reason):
    with pytest.raises(ValueError) as refusal:
        pictures.write(tmp_path / name, pictures.from_planes(noise(dtype, planes)))
    assert str(refusal.value).startswith(f"cannot write {tmp_path / name}: ") and reason in str(refusal.value)
    assert not list(tmp_path.iterdir())


# Writing.


@deep_codecs
@pytest.mark.parametrize("suffix, dtype, planes", [(s, *held) for s in (".png", ".tif") for held in HELD[s]])
@pytest.mark.parametrize("size", [(5, 7), (1, 1), (3, 4), (4, 3), (1, 300), (300, 2)], ids=str)
@pytest.mark.parametrize("case", [str.lower, str.upper], ids=["lower", "upper"])
def test_write_png_and_tiff_without_loss(tmp_path, suffix, dtype, planes, size, case):
    array = noise(dtype, planes, *size)
    path = tmp_path / "below" / f"image{case(suffix)}"
    pictures.write(path, pictures.from_planes(array))
    assert_same(pictures.read(path), array)
    with Image.open(path) as opened:  # by another reader: the format, and the upper 8 bits
        assert opened.format == {".png": "PNG", ".tif": "TIFF"}[suffix] and opened.size == size[::-1]
        if planes >= 3:
            np.testing.assert_array_equal(np.asarray(opened), array if dtype == np.uint8 else array >> 8)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]  # nothing partial stays


@deep_codecs
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_write_compresses_tiff_and_marks_alpha(tmp_path, dtype):
    path = tmp_path / "image.tif"
    pictures.write(path, pictures.from_planes(np.full((64, 64, 4), 1000 % 256, dtype)))
    assert path.stat().st_size < 64 * 64 * 4 / 8
    with Image.open(path) as opened:
        assert opened.tag_v2[TiffImagePlugin.COMPRESSION] == 8  # Adobe's deflate, not libtiff's own 32946
        assert opened.tag_v2[TiffImagePlugin.PREDICTOR] == 2
        assert opened.tag_v2[TiffImagePlugin.EXTRASAMPLES] == (2,)  # not multiplied in


@pytest.mark.parametrize("planes", [3, 4])
def test_write_webp_without_loss(tmp_path, planes):
    array = noise(np.uint8, planes)
    if planes == 4:
        array[2:, :, 3] = 0
    pictures.write(tmp_path / "image.webp", pictures.from_planes(array))
    assert_same(pictures.read(tmp_path / "image.webp"), array)


@pytest.mark.parametrize("planes", [1, 3])
def test_write_bmp_without_loss(tmp_path, planes):
    array = noise(np.uint8, planes)
    pictures.write(tmp_path / "image.bmp", pictures.from_planes(array))
    assert_same(pictures.read(tmp_path / "image.bmp"), array)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg"])
def test_write_jpeg_at_full_colour_resolution(tmp_path, suffix):
    array = np.zeros((16, 16, 3), np.uint8)
    array[:, ::2], array[:, 1::2] = (180, 60, 60), (60, 60, 180)  # at 4:2:0 both would be the same purple
    path = tmp_path / f"image{suffix}"
    pictures.write(path, Picture(array))
    assert np.abs(pictures.read(path).pixels.astype(int) - array).max() < 12
    with Image.open(path) as opened:
        assert opened.format == "JPEG" and opened.layer[0][1:3] == (1, 1)
        assert sum(opened.quantization[0]) == sum(
            Image.open(io.BytesIO(pillow(array, "JPEG", quality=95))).quantization[0]
        )


def test_write_jpeg_keeps_grey(tmp_path):
    array = np.repeat(np.arange(0, 256, 8, np.uint8)[None, :, None], 16, 0)
    pictures.write(tmp_path / "image.jpg", Picture(array))
    image = pictures.read(tmp_path / "image.jpg")
    assert image.pixels.shape == array.shape and np.abs(image.pixels.astype(int) - array).max() < 4


def test_write_keeps_the_old_file_on_failure(tmp_path, monkeypatch):
    path = tmp_path / "image.png"
    pictures.write(path, Picture(noise(np.uint8, 3)))
    before = path.read_bytes()

    def fail(self, buffer, *_, **__):
        buffer.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        pictures.write(path, Picture(noise(np.uint8, 1)))
    assert path.read_bytes() == before


# ICC profiles.

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY = SRGB[:16] + b"GRAY" + SRGB[20:]  # damaged: three curves, and no grey one
CMYK = SRGB[:16] + b"CMYK" + SRGB[20:]
ADOBE = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), 2.2  # primaries and gamma of Adobe RGB (1998)
P3 = ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06)), 2.2


def profile(primaries, gamma):
    """A profile with the white of sRGB, by imagecodecs."""
    codecs = pytest.importorskip("imagecodecs")
    if primaries is None:
        return codecs.cms_profile("gray", whitepoint=[0.3457, 0.3585, 1.0], gamma=gamma)
    places = [number for place in primaries for number in (*place, 1.0)]
    return codecs.cms_profile("rgb", whitepoint=[0.3127, 0.3290, 1.0], primaries=places, gamma=gamma)


def by_the_book(levels, primaries, gamma):
    """sRGB in [0, 1] of colours [n, 3] in [0, 1], by chromaticities and curves alone (IEC 61966-2-1)."""

    def to_xyz(places):
        x, y = np.array(places).T
        columns = np.stack([x / y, np.ones(3), (1 - x - y) / y])
        white = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
        return columns * np.linalg.solve(columns, white)

    srgb = to_xyz([(0.64, 0.33), (0.30, 0.60), (0.15, 0.06)])
    linear = (levels**gamma @ (np.linalg.inv(srgb) @ to_xyz(primaries)).T).clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("space", [ADOBE, P3], ids=["adobe", "p3"])
def test_read_converts_colours_to_srgb(read, dtype, space):
    array, top = noise(dtype, 3, 32, 32), np.iinfo(dtype).max
    encoded = png(array, chunk(b"iCCP", b"x\0\0" + zlib.compress(profile(*space))))
    image = read(encoded)
    assert image.pixels.dtype == dtype and ImageCms.ImageCmsProfile(io.BytesIO(image.icc))
    expected = by_the_book(array.reshape(-1, 3) / top, *space).reshape(array.shape)
    assert np.abs(image.pixels / top - expected).max() < 1.6 / 255
    assert np.abs(image.pixels / top - array / top).max() > 20 / 255


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_read_converts_grey_to_the_curve_of_srgb(read, dtype):
    top = np.iinfo(dtype).max
    array = np.arange(0, top + 1, top // 255).astype(dtype).reshape(16, 16, 1)
    image = read(png(array, chunk(b"iCCP", b"x\0\0" + zlib.compress(profile(None, 1.8)))))
    assert image.pixels.dtype == dtype and image.pixels.shape == array.shape and image.icc is None
    linear = (array / top) ** 1.8
    expected = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(image.pixels / top - expected).max() < 0.6 / 255


@deep_codecs
@pytest.mark.parametrize("suffix, dtype, planes", [(suffix, *held) for suffix in HELD for held in HELD[suffix]])
def test_write_keeps_the_profile_of_srgb(tmp_path, suffix, dtype, planes):
    path, array = tmp_path / f"image{suffix}", noise(dtype, planes)
    profile = SRGB if planes > 2 else None
    pictures.write(path, pictures.from_planes(array)._replace(icc=profile))
    image = pictures.read(path)
    assert image.icc == profile
    if suffix != ".jpg":
        assert_same(image, array)  # bit for bit, as most photographs are tagged so
    with Image.open(path) as opened:
        assert opened.info.get("icc_profile") == profile


def test_read_converts_cmyk_by_its_profile(read, monkeypatch):
    seen = []
    monkeypatch.setattr(
        pictures.icc, "to_srgb", lambda pixels, icc: (seen.append((pixels.shape, icc)), (pixels, None))[1]
    )
    read(pillow(Image.new("CMYK", (8, 6)), "JPEG", icc_profile=CMYK))
    assert seen[0] == ((6, 8, 4), CMYK)


def test_read_ignores_damaged_profiles_with_one_warning(read, caplog):
    array = noise(np.uint8, 3)
    for damaged in (SRGB[:100], SRGB[:200] + bytes(len(SRGB) - 200)):
        caplog.clear()
        images = [read(png(array, chunk(b"iCCP", b"x\0\0" + zlib.compress(damaged)))) for _ in range(3)]
        for image in images:
            assert_same(image, array)
            assert image.icc is None
        assert len(caplog.records) == 1 and "a colour profile is damaged" in caplog.text


def test_read_drops_profiles_of_other_channels(read):
    cmyk = pillow(Image.new("CMYK", (8, 8)), "JPEG", icc_profile=CMYK)
    assert read(cmyk).icc is None
    assert read(pillow(noise(np.uint8, 3), "PNG", icc_profile=GREY)).icc is None
    assert read(pillow(noise(np.uint8, 3), "PNG")).icc is None


# Pages and sizes.


@pytest.mark.parametrize("kind", ["WEBP", "PNG", "TIFF", "GIF"])
def test_read_takes_each_page(read, tmp_path, kind):
    encoded = animated(kind)
    levels = [int(pictures.decode(encoded, page).pixels[0, 0, 0]) for page in (0, 1)]
    assert np.abs(np.array(levels) - [10, 200]).max() <= 3  # GIF has a palette, WebP is lossy
    (tmp_path / "pages").write_bytes(encoded)
    assert pictures.count_pages(epath.Path(tmp_path / "pages")) == 2
    (tmp_path / "pages").write_bytes(b"damaged")
    assert pictures.count_pages(epath.Path(tmp_path / "pages")) == 1


@deep_codecs
@pytest.mark.parametrize("planes", [3, 5])  # Pillow opens the first kind alone
def test_read_takes_each_page_of_deep_tiff(read, tmp_path, planes):
    deep = noise(np.uint16, planes)
    buffer = io.BytesIO()
    with pytest.importorskip("tifffile").TiffWriter(buffer) as writer:
        for page in (deep, deep[::-1]):
            writer.write(page, photometric="rgb", metadata=None)
    np.testing.assert_array_equal(pictures.decode(buffer.getvalue(), 1).pixels, deep[::-1])
    with pytest.raises(ValueError, match="it holds 2 frames or pages, not one: a training with --data.pages all"):
        read(buffer.getvalue())
    (tmp_path / "pages").write_bytes(buffer.getvalue())
    assert pictures.count_pages(epath.Path(tmp_path / "pages")) == 2


@pytest.mark.parametrize("size", [(1000, 1100), (10_000, 18_000)])
def test_read_limits_megapixels_by_ours_alone(read, size):
    """Pillow warns above 89 megapixels and raises above 179, for the whole process."""
    header = struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0)
    encoded = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(ValueError, match=f"its {size[0] * size[1] / 1e6:.1f} megapixels exceed --max-megapixels 1 "):
        pictures.decode(encoded, max_megapixels=1)
    assert formats.opened(io.BytesIO(encoded), 200).size == size


# Suffixes.


def test_written_suffixes_can_be_written(tmp_path):
    assert {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff"} <= pictures.WRITTEN_SUFFIXES < pictures.SUFFIXES
    for suffix in pictures.WRITTEN_SUFFIXES:
        pictures.write(tmp_path / f"image{suffix}", Picture(noise(np.uint8, 3)))
        assert pictures.read(tmp_path / f"image{suffix}").pixels.shape == (5, 7, 3)
        with Image.open(tmp_path / f"image{suffix}") as opened:
            assert opened.format == {".jp": "JPEG", ".jf": "JPEG", ".ti": "TIFF", ".we": "WEBP"}.get(
                suffix[:3], suffix[1:].upper()
            )


@pytest.mark.parametrize("suffix", sorted(pictures.SUFFIXES - pictures.WRITTEN_SUFFIXES))
def test_read_takes_suffixes_not_written(read, tmp_path, suffix):
    grey = noise(np.uint8, 1, 16, 16) // 128 * 255
    if suffix in (".heic", ".heif"):
        buffer = io.BytesIO()
        heif = pytest.importorskip("pillow_heif")
        heif.from_bytes("RGB", (16, 16), grey.repeat(3, -1).tobytes()).save(buffer, quality=-1)
        encoded = buffer.getvalue()
    else:
        kind = {".gif": "GIF", ".avif": "AVIF", ".jp2": "JPEG2000", ".j2k": "JPEG2000"}.get(suffix, "PPM")
        encoded = pillow(grey, kind, **({"quality": 100, "subsampling": "4:4:4"} if kind == "AVIF" else {}))
    image = read(encoded, f"image{suffix.upper()}")
    assert np.abs(image.pixels.astype(int) - grey).max() <= (8 if suffix in (".avif", ".heic", ".heif") else 0)
    with pytest.raises(ValueError, match="cannot write .*: its suffix is none of .bmp"):
        pictures.write(tmp_path / f"image{suffix}", Picture(grey))


def test_read_names_the_package_for_heic(read, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ValueError, match=r"pip install 'genjax-images\[heic\]'"):
        read(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40), "photo.heic")


@pytest.mark.parametrize(
    "name, dtype, planes, added",
    [
        ("a.jpg", np.uint8, 3, ""), ("a.jpg", np.uint8, 4, ".png"), ("a.JPG", np.uint16, 3, ".png"),
        ("a.webp", np.uint16, 1, ".png"), ("a.gif", np.uint8, 3, ".png"), ("a.tif", np.uint16, 2, ".png"),
        ("a.png", np.uint8, 5, ".tif"), ("a.png", np.float32, 1, ".tif"), ("a.tif", np.float32, 3, ""),
    ],
)  # fmt: skip
@deep_codecs
def test_written_as_names_a_format_that_holds_it(tmp_path, name, dtype, planes, added):
    array = np.arange(35 * planes).reshape(5, 7, planes).astype(dtype)
    image = pictures.from_planes(array) if dtype != np.float32 and planes < 5 else Picture(array)
    path = pictures.written_as(epath.Path(tmp_path / name), image)
    assert path.name == name + added
    pictures.write(path, image)
    if not name.endswith("g") or added:
        assert_same_picture(pictures.read(path), image)


def assert_same_picture(found, image):
    for a, b in zip(found[:2], image[:2], strict=True):
        np.testing.assert_array_equal(a, b)


def test_read_keeps_transparency_of_gifs(read):
    image, palette = palette_image()
    alpha = np.where(np.arange(5) == 2, 0, 255).astype(np.uint8)
    rgba = np.concatenate([palette, alpha[:, None]], -1)[np.asarray(image)]
    found = read(pillow(image, "GIF", transparency=2))
    np.testing.assert_array_equal(found.alpha, rgba[..., 3])
    np.testing.assert_array_equal(found.pixels[found.alpha > 0], rgba[rgba[..., 3] > 0, :3])


def test_read_keeps_16_bits_of_pgm(read):
    deep = noise(np.uint16, 1)
    assert_same(read(b"P5 7 5 65535\n" + deep.astype(">u2").tobytes()), deep)
    ten_bits = b"P5 2 1 1023\n" + np.array([0, 1023], ">u2").tobytes()
    assert read(ten_bits).pixels.ravel().tolist() == [0, 65535]
    assert_same(read(b"P6 1 1 255\n" + bytes([1, 2, 3])), np.uint8([[[1, 2, 3]]]))
