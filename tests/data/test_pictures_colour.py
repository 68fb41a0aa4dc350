"""Colours of files with an ICC profile become those of sRGB."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from genjax.data import pictures
from picture_files import HELD, assert_same, chunk, deep_codecs, noise, pillow, png

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
