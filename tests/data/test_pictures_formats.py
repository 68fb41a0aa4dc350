"""Which suffixes and formats are read and written, and the pages of a file."""

import io

import numpy as np
import pytest
from etils import epath
from PIL import Image

from genjax.data import pictures
from genjax.data.pictures import Picture
from picture_files import animated, assert_same, deep_codecs, noise, palette_image, pillow


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


def assert_same_picture(found, image):
    for a, b in zip(found[:2], image[:2], strict=True):
        np.testing.assert_array_equal(a, b)


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
