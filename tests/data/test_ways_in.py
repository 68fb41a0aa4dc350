"""One picture, the same values: in training, sampling, restoring and translating."""

import types

import numpy as np
import pytest
from etils import epath
from PIL import Image

import translate
from genjax.data import folders, pictures, sources
from genjax.data.config import DataConfig
from genjax.data.pictures import Picture
from genjax.vae import restored_files

imagecodecs = pytest.importorskip("imagecodecs")
pytest.importorskip("tifffile")
SIZE = (9, 7)
RNG = np.random.default_rng(0)


def noise(channels, dtype=np.uint8):
    return RNG.integers(0, np.iinfo(dtype).max, (*SIZE, channels), dtype, endpoint=True)


def palette():
    image = Image.fromarray(noise(1)[..., 0] % 5).convert("P")
    image.putpalette(bytes(range(10, 25)))
    return image


def adobe_rgb():
    places = [0.64, 0.33, 1.0, 0.21, 0.71, 1.0, 0.15, 0.06, 1.0]
    return imagecodecs.cms_profile("rgb", whitepoint=[0.3127, 0.3290, 1.0], primaries=places, gamma=2.2)


def write(path, content):
    path.parent.mkdir()
    if isinstance(content, Image.Image):
        content.save(path, transparency=2)
    else:
        pictures.write(path, content)


FILES = {
    "grey.png": Picture(noise(1)),
    "colour.png": Picture(noise(3)),
    "clear.png": Picture(noise(3), noise(1)[..., 0]),
    "clear grey.png": Picture(noise(1), noise(1)[..., 0]),
    "palette.png": palette(),
    "deep.png": Picture(noise(3, np.uint16)),
    "deep grey.tif": Picture(noise(1, np.uint16)),
    "clear deep.png": Picture(noise(3, np.uint16), noise(1, np.uint16)[..., 0]),
    "adobe.png": Picture(noise(3), None, adobe_rgb()),
    "deep adobe.tif": Picture(noise(3, np.uint16), None, adobe_rgb()),
}


def values_by_way(path, data):
    """The values in [0, 1] [h, w, c] that each way in passes to a model."""
    trained = sources.load(data, 0).train[0][0]
    sampled = folders.read_images([path], data)[0]
    restored = restored_files.read([str(path)], SIZE, data).pixels[0]
    options = types.SimpleNamespace(direction="a2b", alpha="ground", smooth="none")
    files, page = translate.files_of(data, options), folders.Page(epath.Path(path), None)
    image, translated = files.read(page)
    files.write(page, epath.Path(path.parent.parent / "out" / path.name), image, translated)
    top = np.iinfo(data.dtype).max
    return {"trained": trained / top, "sampled": sampled / top, "restored": restored, "translated": translated}


def data_of(path, channels, tmp_path, **changes):
    source = {"source": f"folder:{path.parent}", "image_size": SIZE, "channels": (channels,), "batch_size": 1}
    return DataConfig(**source | {"holdout": 0, "cache_dir": str(tmp_path / "cache")} | changes)


@pytest.mark.parametrize("ground", ["white", "black", "grey"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", FILES)
def test_all_ways_in_see_the_same_values(tmp_path, monkeypatch, name, bits, ground):
    monkeypatch.setitem(translate.DOMAINS, "a2b", (0, 0))  # one domain for all ways in
    path = tmp_path / "in" / name
    write(path, FILES[name])
    found = values_by_way(path, data_of(path, 3, tmp_path, bits=bits, ground=ground))
    np.testing.assert_array_equal(found["trained"], found["sampled"])
    np.testing.assert_array_equal(found["restored"], found["translated"])
    # Training in 8 bits rounds deeper pictures, to half a level.
    tolerance = 0.51 / 255 if bits == 8 and "deep" in name else 1e-7
    np.testing.assert_allclose(found["trained"], found["translated"], atol=tolerance)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["grey.png", "colour.png", "clear.png", "adobe.png"])
def test_16_bit_copies_are_seen_alike(tmp_path, monkeypatch, name, channels):
    picture = pictures.Picture(*FILES[name])
    copy = picture._replace(
        pixels=picture.pixels.astype(np.uint16) * np.uint16(257),
        alpha=None if picture.alpha is None else picture.alpha.astype(np.uint16) * np.uint16(257),
    )
    seen = []
    for i, version in enumerate((picture, copy)):
        path = tmp_path / str(i) / "image.png"
        pictures.write(path, version)
        for bits in (8, 16):
            data = data_of(path, channels, tmp_path, bits=bits)
            seen.append(sources.load(data, 0).train[0][0] / np.iinfo(data.dtype).max)
    assert max(np.abs(values - seen[0]).max() for values in seen) <= 1.01 / 255


def test_sources_lay_a_ring_on_the_ground(tmp_path, monkeypatch):
    """A black ring on transparent ground has the ink of the same ring laid on white, for every way in."""
    monkeypatch.setitem(translate.DOMAINS, "a2b", (0, 0))
    rows, columns = np.indices(SIZE)
    ring = np.hypot(rows - 4, columns - 3).astype(int) == 2
    black = np.zeros((*SIZE, 3), np.uint8)
    path = tmp_path / "in" / "ring.png"
    pictures.write(path, Picture(black, np.where(ring, 255, 0).astype(np.uint8)))
    for ground, share in {"white": 1.0, "black": 0.0, "grey": 128 / 255}.items():
        found = values_by_way(path, data_of(path, 3, tmp_path, ground=ground))
        for values in found.values():
            np.testing.assert_allclose(values, np.where(ring[..., None], 0, share) + np.zeros(3), atol=1e-7)
        (written,) = (tmp_path / "out").iterdir()
        assert pictures.read(written).alpha is None  # laid on the ground too
        written.unlink()


def test_decoding_takes_levels_of_12_bits(tmp_path, monkeypatch):
    monkeypatch.setitem(translate.DOMAINS, "a2b", (0, 0))
    ramp = np.linspace(0, 4095, 63).round().astype(np.uint16).reshape(*SIZE, 1)
    path = tmp_path / "in" / "ramp.png"
    pictures.write(path, Picture(ramp))
    data = data_of(path, 1, tmp_path, levels="auto")
    measured = sources.measured(data)
    assert measured.levels == (0.0, 4095.0)
    found = values_by_way(path, measured)
    for values in found.values():
        np.testing.assert_allclose(values, ramp / 4095, atol=0.51 / 255)
    (written,) = (tmp_path / "out").iterdir()
    back = pictures.read(written).pixels
    assert back.dtype == np.uint16 and np.abs(back.astype(int) - ramp).max() <= 1  # in the levels of the file
