"""Levels of images: measured, given, and warned of when most of the range is idle."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from genjax.data import conversion, sources
from genjax.data.config import DataConfig
from genjax.data.pictures import Picture

RAMP = np.arange(4096).reshape(64, 64, 1).astype(np.uint16)  # 12 bits in 16


def config(source="unused", channels=(1,), **changes):
    return DataConfig(source=source, image_size=(64, 64), channels=channels, batch_size=1, holdout=0, **changes)


def folder(path, images, suffix=".png"):
    path.mkdir(parents=True)
    for i, image in enumerate(images):
        Image.fromarray(image[..., 0]).save(path / f"{i}{suffix}")
    return path


@pytest.mark.parametrize("levels, kept", [("full", 17), ((0.0, 4095.0), 256), ((0.0, 2047.0), 256), ("auto", 256)])
@pytest.mark.parametrize("kind", ["folder", "npz"])
def test_load_keeps_levels_of_12_bits(tmp_path, kind, levels, kept):
    if kind == "folder":
        source = f"folder:{folder(tmp_path / 'in', [RAMP])}"
    else:
        np.savez(tmp_path / "in.npz", x_train=RAMP[None])
        source = f"npz:{tmp_path}/in.npz"
    images = sources.load(config(source, levels=levels, cache_dir=str(tmp_path)), 0).train[0]
    assert images.dtype == np.uint8 and len(np.unique(images)) == kept


@pytest.mark.parametrize("levels", ["auto", (0.0, 4095.0)])
def test_load_stores_16_bits_when_asked(tmp_path, levels):
    source = f"folder:{folder(tmp_path / 'in', [RAMP])}"
    images = sources.load(config(source, levels=levels, bits=16, cache_dir=str(tmp_path / "cache")), 0).train[0]
    assert images.dtype == np.uint16
    np.testing.assert_array_equal(images[0], np.rint(RAMP / 4095 * 65535).astype(np.uint16))


def test_measured_finds_levels_of_each_domain(tmp_path):
    for split in ("train", "test", "val"):  # test images do not count
        grow = 1 if split == "train" else 3
        folder(tmp_path / f"{split}A", [RAMP // 2 + 10, np.uint16(grow * RAMP)])
        folder(tmp_path / f"{split}B", [(RAMP // 32 + 5).astype(np.uint8)])
    found = sources.measured(config(f"folder:{tmp_path}", (1, 1), levels="auto"))
    assert found.levels == (0.0, 4095.0, 5.0, 132.0)
    assert found.levels_of(0) == (0.0, 4095.0) and found.levels_of(1) == (5.0, 132.0)
    assert sources.measured(found) is found
    both = config(channels=(1, 1), levels=(0.0, 9.0))
    assert both.levels_of(0) == both.levels_of(1) == (0.0, 9.0)


@pytest.mark.parametrize("channels, found", [(3, (40.0, 200.0)), (4, (0.0, 255.0))])
def test_measured_passes_over_hidden_colours(tmp_path, channels, found):
    picture = np.full((64, 64, 4), 40, np.uint8)
    picture[:32, :, :3], picture[..., 3] = 200, 255
    picture[:, :9] = 0  # black and transparent: on the ground where there is no alpha channel
    Image.fromarray(picture).save(tmp_path / "0.png")
    assert sources.measured(config(f"folder:{tmp_path}", (channels,), levels="auto")).levels == found


@pytest.mark.parametrize("images", [np.full((2, 64, 64), 7.0), np.full((2, 64, 64), np.nan)])
def test_measured_refuses_images_of_one_level(tmp_path, images):
    np.savez(tmp_path / "in.npz", x_train=images)
    with pytest.raises(ValueError, match="--data.levels auto finds levels (7 to 7|nan to nan) in .* LOW HIGH"):
        sources.measured(config(f"npz:{tmp_path}/in.npz", levels="auto"))


def test_measured_refuses_mixed_depths(tmp_path):
    folder(tmp_path / "in", [RAMP, RAMP.astype(np.uint8)])
    with pytest.raises(ValueError, match="auto needs images of one type, and .* has uint16 and uint8: convert them"):
        sources.measured(config(f"folder:{tmp_path}/in", levels="auto"))


def test_measured_names_all_damaged_images(tmp_path):
    folder(tmp_path / "in", [RAMP] * 5)
    for i in (1, 3):
        (tmp_path / "in" / f"{i}.png").write_bytes(b"damaged")
    given = config(f"folder:{tmp_path}/in", levels="auto")
    with pytest.raises(
        ValueError, match="2 of 5 images cannot be decoded:\n  .*1.png: it is no .*\n  .*3.png: "
    ) as said:
        sources.measured(given)
    assert "leave them out with --data.skip-corrupt" in str(said.value)
    assert sources.measured(dataclasses.replace(given, skip_corrupt=True)).levels == (0.0, 4095.0)


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_load_takes_floats_with_levels_alone(tmp_path, dtype):
    tifffile = pytest.importorskip("tifffile")
    hounsfield = (RAMP.astype(float) - 1024).astype(dtype)
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in" / "ct.tif", hounsfield[..., 0])
    given = config(f"folder:{tmp_path}/in", cache_dir=str(tmp_path / "cache"))
    with pytest.raises(ValueError, match="ct.tif: its samples are floating point.*give --data.levels LOW HIGH"):
        sources.load(given, 0)
    given = config(given.source, levels=(-1000.0, 400.0), cache_dir=given.cache_dir)
    expected = np.rint((hounsfield.astype(float) + 1000).clip(0, 1400) / 1400 * 255)
    np.testing.assert_array_equal(sources.load(given, 0).train[0][0], expected)


def test_from_floats_writes_levels_of_the_target():
    ct = config(channels=(1, 1), levels=(-1000.0, 400.0, 0.0, 4095.0))
    values = np.array([[0.0, 0.5, 1.0]])[..., None]
    made = [conversion.from_floats(values, Picture(np.zeros((1, 3, 1), dtype)), ct, domain).pixels
            for dtype in (np.uint8, np.float32) for domain in (1, 0)]  # fmt: skip
    assert [pixels.dtype.name for pixels in made] == ["uint16", "float32", "float32", "float32"]
    assert made[0].ravel().tolist() == [0, 2048, 4095] and made[1].ravel().tolist() == [-1000, -300, 400]


def test_to_samples_refuses_pictures_of_fewer_bits():
    shallow = Picture(np.zeros((4, 4, 1), np.uint8))
    with pytest.raises(ValueError, match="its samples end at 255, and --data.levels 0 4095 are those of deeper images"):
        conversion.to_samples(shallow, config(levels=(0.0, 4095.0)))
    assert conversion.to_samples(shallow, config(levels=(16.0, 235.0))).max() == 0


@pytest.mark.parametrize("high, warned", [(4095, True), (16000, True), (16500, False), (65535, False)])
def test_load_warns_if_most_levels_are_idle(tmp_path, caplog, high, warned):
    np.savez(tmp_path / "in.npz", x_train=np.rint(RAMP[None] * (high / 4095)).astype(np.uint16))
    sources.load(config(f"npz:{tmp_path}/in.npz"), 0)
    said = [message for message in caplog.messages if "consider --data.levels auto" in message]
    assert len(said) == warned
    caplog.clear()
    sources.load(config(f"npz:{tmp_path}/in.npz", levels="auto"), 0)
    assert not [message for message in caplog.messages if "levels" in message]
