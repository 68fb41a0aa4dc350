"""Bytes of picture files of every depth and layout, by the book, by tifffile or by Pillow."""

import importlib.util
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from genjax.data import pictures

PNG_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
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


def palette_image():
    palette = noise(np.uint8, 3, 1, 5)[0]
    image = Image.fromarray(np.random.default_rng(1).integers(0, 5, (6, 6), dtype=np.uint8), "P")
    image.putpalette(palette.tobytes())
    return image, palette


def animated(kind):
    frames = [Image.fromarray(np.full((8, 8, 3), level, np.uint8)) for level in (10, 200)]
    return pillow(frames[0], kind, save_all=True, append_images=frames[1:])
