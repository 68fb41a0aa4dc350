"""Pictures are written without loss, or with as little as the format allows."""

import io

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from genjax.data import pictures
from genjax.data.pictures import Picture
from picture_files import HELD, assert_same, deep_codecs, noise, pillow


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
