"""Image files that are damaged, too large or of a kind that is not held are refused, with the reason."""

import io
import struct
import sys

import numpy as np
import pytest
from PIL import Image

from genjax.data import formats, pictures
from genjax.data.pictures import Picture
from picture_files import animated, assert_same, chunk, deep_codecs, noise, pillow, png, tiff


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


@pytest.mark.parametrize("size", [(1000, 1100), (10_000, 18_000)])
def test_read_limits_megapixels_by_ours_alone(read, size):
    """Pillow warns above 89 megapixels and raises above 179, for the whole process."""
    header = struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0)
    encoded = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(ValueError, match=f"its {size[0] * size[1] / 1e6:.1f} megapixels exceed --max-megapixels 1 "):
        pictures.decode(encoded, max_megapixels=1)
    assert formats.opened(io.BytesIO(encoded), 200).size == size


def test_read_names_the_package_for_heic(read, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ValueError, match=r"pip install 'genjax-images\[heic\]'"):
        read(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40), "photo.heic")
