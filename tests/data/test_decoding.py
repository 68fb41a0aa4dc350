"""Decoding once, in threads, into a cache; what sizes become; domains and their splits."""

import dataclasses
import errno
import io
import logging
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genjax.data import decoding, image_cache
from genjax.data.config import DataConfig
from genjax.data.decoding import LazyImages
from genjax.data.pictures import Picture

NUM, SHAPE = 24, (4, 5, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (NUM, *SHAPE), dtype=np.uint8)
NAMES = [f"image-{i:02d}" for i in range(NUM)]


@pytest.fixture
def config(tmp_path):
    cache_dir = str(tmp_path / "cache" / "below")
    return DataConfig(source="unused", image_size=(4, 5), channels=(3,), batch_size=2, cache_dir=cache_dir)


def read(i):
    time.sleep((NUM - i) * 2e-4)  # the first ones finish last
    return IMAGES[i]


def forbidden(i):
    raise AssertionError(f"image {i} was decoded again")


def corrupt(*bad):
    def read_or_fail(i):
        if i in bad:
            raise OSError(f"bytes {i} make no sense")
        return read(i)

    return read_or_fail


def cached(config):
    return sorted(path.name for path in Path(config.cache_dir).iterdir())


@pytest.mark.parametrize("threads", [1, 8])
def test_decode_all_keeps_the_order(config, threads):
    config = dataclasses.replace(config, decode_threads=threads)
    decoded = decoding.decode_all(NAMES, read, SHAPE, config, "these")
    assert decoded.dtype == np.uint8 and decoded.tobytes() == IMAGES.tobytes()


def test_decode_all_decodes_once(config):
    first = decoding.decode_all(NAMES, read, SHAPE, config, ["these", 1])
    other = dataclasses.replace(config, batch_size=9, decode_threads=1, prefetch=1, holdout=0.2, flip=True)
    second = decoding.decode_all(NAMES, forbidden, SHAPE, other, ["these", 1])
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize(
    "changes, shape, identity",
    [
        ({}, SHAPE, ["these", 2]),
        ({}, (5, 4, 3), ["these", 1]),
        ({"image_size": (3, 4)}, SHAPE, ["these", 1]),  # with a load_size: other images are too small
        ({"resize": "stretch"}, SHAPE, ["these", 1]),
        ({"upscale": True}, SHAPE, ["these", 1]),
        ({"skip_corrupt": True}, SHAPE, ["these", 1]),
    ],
)
def test_decode_all_keys_the_cache_by_treatment(config, changes, shape, identity):
    decoding.decode_all(NAMES, read, SHAPE, config, ["these", 1])
    calls = []
    changed = dataclasses.replace(config, decode_threads=1, **changes)
    decoded = decoding.decode_all(NAMES, lambda i: calls.append(i) or 0, shape, changed, identity)
    assert calls == list(range(NUM)) and decoded.shape == (NUM, *shape)
    assert decoding.decode_all(NAMES, forbidden, SHAPE, config, ["these", 1]).tobytes() == IMAGES.tobytes()


@pytest.mark.parametrize("threads", [1, 8])
def test_decode_all_names_the_first_corrupt_image(config, threads):
    config = dataclasses.replace(config, decode_threads=threads)
    with pytest.raises(ValueError) as refusal:
        decoding.decode_all(NAMES, corrupt(5, 6, 20), SHAPE, config, "these")
    assert "cannot decode image-05: bytes 5 make no sense" in str(refusal.value)
    assert "--data.skip-corrupt" in str(refusal.value)
    assert cached(config) == []  # neither an array nor a partial one


def test_decode_all_skips_corrupt_images_if_asked(config, caplog):
    config = dataclasses.replace(config, skip_corrupt=True)
    with caplog.at_level(logging.WARNING):
        decoded = decoding.decode_all(NAMES, corrupt(0, 7, NUM - 1), SHAPE, config, "these")
    np.testing.assert_array_equal(decoded, np.delete(IMAGES, [0, 7, NUM - 1], axis=0))
    for i in (0, 7, NUM - 1):
        assert f"left out {NAMES[i]}, which cannot be decoded: bytes {i} make no sense" in caplog.messages
    assert caplog.messages[-1].startswith(f"left out 3 of {NUM} images; remove ") and len(caplog.messages) == 4
    np.testing.assert_array_equal(decoding.decode_all(NAMES, forbidden, SHAPE, config, "these"), decoded)
    assert caplog.messages[4:] == caplog.messages[3:4]  # said again
    with pytest.raises(ValueError, match="image-07"):  # a cache that lacks images is no use to a strict load
        decoding.decode_all(NAMES, corrupt(7), SHAPE, dataclasses.replace(config, skip_corrupt=False), "these")


def test_decode_all_logs_nothing_if_all_decode(config, caplog):
    with caplog.at_level(logging.WARNING):
        decoding.decode_all(NAMES, read, SHAPE, dataclasses.replace(config, skip_corrupt=True), "these")
    assert caplog.messages == []


def test_decode_all_decodes_again_after_a_failure(config):
    with pytest.raises(ValueError):
        decoding.decode_all(NAMES, corrupt(3), SHAPE, config, "these")
    assert decoding.decode_all(NAMES, read, SHAPE, config, "these").tobytes() == IMAGES.tobytes()
    assert len(cached(config)) == 1


def test_decode_all_limits_the_size_of_the_cache(config, monkeypatch):
    rooms = []
    monkeypatch.setattr(image_cache, "load", lambda path, shape, dtype, write, room: rooms.append(room) or IMAGES)
    decoding.decode_all(NAMES, read, SHAPE, dataclasses.replace(config, cache_gib=3), "these")
    assert rooms == [3 * 2**30 - IMAGES.nbytes]  # for all others


def test_decode_all_maps_large_arrays(config, monkeypatch):
    small = decoding.decode_all(NAMES, read, SHAPE, config, "these")
    assert not isinstance(small, np.memmap)
    monkeypatch.setattr(image_cache, "MEMORY_MAP_BYTES", IMAGES.nbytes - 1)
    large = decoding.decode_all(NAMES, forbidden, SHAPE, config, "these")
    assert isinstance(large, np.memmap) and not large.flags.writeable
    assert large.tobytes() == IMAGES.tobytes()


@pytest.mark.parametrize("below", ["", "cache"])
def test_decode_all_names_an_unwritable_cache(config, tmp_path, below):
    (tmp_path / "file").write_text("not a folder")
    config = dataclasses.replace(config, cache_dir=str(tmp_path / "file" / below))
    with pytest.raises(ValueError) as refusal:
        decoding.decode_all(NAMES, read, SHAPE, config, "these")
    assert f"cannot write the image cache in {tmp_path / 'file' / below}" in str(refusal.value)
    assert "--data.cache-dir" in str(refusal.value)
    assert (tmp_path / "file").read_text() == "not a folder"


def test_decode_all_names_a_full_disk(config, monkeypatch):
    def full(descriptor, offset, length):
        assert length > IMAGES.nbytes
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ValueError, match="cannot write the image cache .*No space left on device.*--data.cache-dir"):
        decoding.decode_all(NAMES, forbidden, SHAPE, config, "these")
    assert not list(Path(config.cache_dir).iterdir())


def test_decode_all_replaces_a_damaged_cache(tmp_path, caplog):
    config = DataConfig(source="x", image_size=(2, 2), channels=(1,), batch_size=1, cache_dir=str(tmp_path))
    read = lambda i: np.full((2, 2, 1), i, np.uint8)  # noqa: E731
    whole = decoding.decode_all(["a", "b"], read, (2, 2, 1), config, "id")
    (cached,) = tmp_path.glob("*.npy")
    other = io.BytesIO()
    np.save(other, np.zeros((2, 2, 1, 1), np.uint8))
    for content in (b"", cached.read_bytes()[:-3], b"nonsense", other.getvalue()):
        cached.write_bytes(content)
        with caplog.at_level(logging.WARNING):
            np.testing.assert_array_equal(decoding.decode_all(["a", "b"], read, (2, 2, 1), config, "id"), whole)
        assert str(cached) in caplog.text
        caplog.clear()


# Sizes.


def picture(height, width):
    return Picture(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def sized(config, *size, **changes):
    return dataclasses.replace(config, image_size=size, **changes)


@pytest.mark.parametrize("height, width, box", [(12, 20, (0, 4, 12, 16)), (20, 12, (4, 0, 16, 12))])
def test_convert_covers_or_stretches(config, height, width, box):
    pixels, (top, left, bottom, right) = picture(height, width).pixels, box
    for size in (12, 6):
        covered = decoding.convert(Picture(pixels), (size, size, 3), sized(config, size, size), 0)
        inside = Image.fromarray(pixels[top:bottom, left:right]).resize((size, size), Image.Resampling.BICUBIC)
        if size == 12:
            np.testing.assert_array_equal(covered, np.asarray(inside))
        else:  # the filter sees a pixel or two across the edge of the crop, and rounds in between
            difference = covered[2:-2, 2:-2].astype(int) - np.asarray(inside)[2:-2, 2:-2]
            assert np.abs(difference).max() <= 1
    stretched = decoding.convert(Picture(pixels), (12, 12, 3), sized(config, 12, 12, resize="stretch"), 0)
    assert not np.array_equal(stretched, pixels[top:bottom, left:right])


@pytest.mark.parametrize("resize", ["cover", "stretch"])
@pytest.mark.parametrize("height, width", [(7, 10), (8, 9), (1, 1), (7, 900)])
def test_convert_enlarges_only_if_asked(config, resize, height, width):
    wanted, image = sized(config, 8, 10, resize=resize), picture(height, width)
    with pytest.raises(ValueError) as refusal:
        decoding.convert(image, (8, 10, 3), wanted, 0)
    numbers = f"its {height}x{width} pixels are fewer than the 8x10 of --data.image-size"
    assert str(refusal.value) == f"{numbers}; --data.upscale enlarges it"
    enlarged = decoding.convert(image, (8, 10, 3), dataclasses.replace(wanted, upscale=True), 0)
    assert enlarged.shape == (8, 10, 3) and enlarged.dtype == np.uint8


def test_convert_compares_with_image_size_not_load_size(config):
    larger = sized(config, 8, 10, load_size=(12, 14))
    assert decoding.convert(picture(8, 10), larger.stored_shape("train", 0), larger, 0).shape == (12, 14, 3)
    with pytest.raises(ValueError, match="its 8x9 pixels are fewer than the 8x10"):
        decoding.convert(picture(8, 9), larger.stored_shape("train", 0), larger, 0)


# Domains.


def lazy(name, opened=None, **num):
    """Images of one grey level each: 0, 1, ... in train, 100, 101, ... in validation, 200, 201, ... in test."""
    first = {"train": 0, "validation": 100, "test": 200}
    items = {split: list(range(first[split], first[split] + n)) for split, n in num.items()}

    def open_image(level):
        if opened is not None:
            opened.append((name, level))
        return Picture(np.full((16, 16, 1), level, np.uint8))

    return LazyImages(items, lambda level: f"{name}[{level}]", open_image, lambda level: [name, level])


def levels(source):
    return [array[:, 0, 0, 0].tolist() for array in source]


@pytest.fixture
def two(config):
    return dataclasses.replace(config, channels=(1, 3))


def test_decode_treats_each_domain_by_itself(two):
    splits = decoding.decode([lazy("a", train=20, test=3), lazy("b", train=30, validation=2)], two)
    (a, b), (a_validation, b_validation), (a_test, b_test) = (levels(source) for source in splits)
    assert sorted(a + a_validation) == list(range(20)) and len(a_validation) == 2 and a_test == [200, 201, 202]
    assert sorted(b + b_test) == list(range(30)) and len(b_test) == 3 and b_validation == [100, 101]
    for source in splits:
        assert [array.shape[1:] for array in source] == [(4, 5, 1), (4, 5, 3)]


def test_decode_applies_load_size_to_training_only(two):
    domains = [lazy("a", train=9, test=3), lazy("b", train=8, validation=2)]
    splits = decoding.decode(domains, dataclasses.replace(two, load_size=(7, 8)))
    assert [array.shape[1:] for array in splits.train] == [(7, 8, 1), (7, 8, 3)]
    for source in (splits.validation, splits.test):
        assert [array.shape[1:] for array in source] == [(4, 5, 1), (4, 5, 3)]
    plain = decoding.decode(domains, two)
    assert [levels(source) for source in plain] == [levels(source) for source in splits]


@pytest.mark.parametrize(
    "changes, fresh",
    [
        ({}, ()),
        ({"batch_size": 9, "flip": True, "paired": True}, ()),
        ({"load_size": (6, 7)}, ("train",)),
        ({"resize": "stretch"}, ("train", "validation", "test")),
        ({"upscale": True}, ("train", "validation", "test")),
        ({"image_size": (5, 4)}, ("train", "validation", "test")),
    ],
)
def test_decode_uses_the_cache_if_treated_alike(two, changes, fresh):
    num, opened = {"train": 3, "validation": 1, "test": 2}, []
    domains = [lazy(name, opened, **num) for name in "ab"]
    first = decoding.decode(domains, two)
    assert len(opened) == 2 * sum(num.values())
    opened.clear()
    again = decoding.decode(domains, dataclasses.replace(two, **changes))
    assert len(opened) == 2 * sum(num[split] for split in fresh)
    assert [levels(source) for source in again] == [levels(source) for source in first]


def test_decode_names_a_corrupt_image(two):
    def fail(item):
        raise OSError("no sense")

    domains = [lazy("a", train=4), lazy("b", train=4)._replace(open=fail)]
    with pytest.raises(ValueError, match=r"cannot decode b\[\d\]: no sense. .*--data.skip-corrupt"):
        decoding.decode(domains, two)


def test_decode_names_an_image_too_small(config):
    with pytest.raises(ValueError) as refusal:
        decoding.decode([lazy("a", train=4)], dataclasses.replace(config, image_size=(16, 17)))
    assert "a[" in str(refusal.value) and "its 16x16 pixels are fewer than the 16x17 of" in str(refusal.value)
