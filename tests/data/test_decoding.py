"""Decoding once, in threads, into a cache; what sizes become; domains and their splits."""

import dataclasses
import errno
import logging
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genjax.config import DataConfig
from genjax.data import decoding
from genjax.data.decoding import LazyImages

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
def test_images_come_in_order_whatever_the_number_of_threads(config, threads):
    config = dataclasses.replace(config, decode_threads=threads)
    decoded = decoding.decode_all(NAMES, read, SHAPE, config, "these")
    assert decoded.dtype == np.uint8 and decoded.tobytes() == IMAGES.tobytes()


def test_a_second_load_decodes_nothing(config):
    first = decoding.decode_all(NAMES, read, SHAPE, config, ["these", 1])
    other = dataclasses.replace(config, batch_size=9, decode_threads=1, prefetch=1, holdout=0.2, flip=True)
    second = decoding.decode_all(NAMES, forbidden, SHAPE, other, ["these", 1])
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize(
    "changes, shape, identity",
    [
        ({}, SHAPE, ["these", 2]),
        ({}, (5, 4, 3), ["these", 1]),
        ({"image_size": (3, 4)}, SHAPE, ["these", 1]),  # with a crop margin of 1: other images are too small
        ({"resize": "stretch"}, SHAPE, ["these", 1]),
        ({"upscale": True}, SHAPE, ["these", 1]),
        ({"skip_corrupt": True}, SHAPE, ["these", 1]),
    ],
)
def test_other_images_shapes_and_treatments_are_decoded_for_themselves(config, changes, shape, identity):
    decoding.decode_all(NAMES, read, SHAPE, config, ["these", 1])
    calls = []
    changed = dataclasses.replace(config, decode_threads=1, **changes)
    decoded = decoding.decode_all(NAMES, lambda i: calls.append(i) or 0, shape, changed, identity)
    assert calls == list(range(NUM)) and decoded.shape == (NUM, *shape)
    assert decoding.decode_all(NAMES, forbidden, SHAPE, config, ["these", 1]).tobytes() == IMAGES.tobytes()


@pytest.mark.parametrize("threads", [1, 8])
def test_the_first_corrupt_image_is_named_with_the_remedy(config, threads):
    config = dataclasses.replace(config, decode_threads=threads)
    with pytest.raises(ValueError) as refusal:
        decoding.decode_all(NAMES, corrupt(5, 6, 20), SHAPE, config, "these")
    assert "cannot decode image-05: bytes 5 make no sense" in str(refusal.value)
    assert "--data.skip-corrupt" in str(refusal.value)
    assert cached(config) == []  # neither an array nor a partial one


def test_corrupt_images_are_left_out_and_logged_if_asked(config, caplog):
    config = dataclasses.replace(config, skip_corrupt=True)
    with caplog.at_level(logging.WARNING):
        decoded = decoding.decode_all(NAMES, corrupt(0, 7, NUM - 1), SHAPE, config, "these")
    np.testing.assert_array_equal(decoded, np.delete(IMAGES, [0, 7, NUM - 1], axis=0))
    for i in (0, 7, NUM - 1):
        assert f"left out {NAMES[i]}, which cannot be decoded: bytes {i} make no sense" in caplog.messages
    assert caplog.messages[-1] == f"left out 3 of {NUM} images" and len(caplog.messages) == 4
    np.testing.assert_array_equal(decoding.decode_all(NAMES, forbidden, SHAPE, config, "these"), decoded)
    with pytest.raises(ValueError, match="image-07"):  # a cache that lacks images is no use to a strict load
        decoding.decode_all(NAMES, corrupt(7), SHAPE, dataclasses.replace(config, skip_corrupt=False), "these")


def test_nothing_is_logged_when_all_is_well(config, caplog):
    with caplog.at_level(logging.WARNING):
        decoding.decode_all(NAMES, read, SHAPE, dataclasses.replace(config, skip_corrupt=True), "these")
    assert caplog.messages == []


def test_after_a_failure_the_mended_images_are_decoded(config):
    with pytest.raises(ValueError):
        decoding.decode_all(NAMES, corrupt(3), SHAPE, config, "these")
    assert decoding.decode_all(NAMES, read, SHAPE, config, "these").tobytes() == IMAGES.tobytes()
    assert len(cached(config)) == 1


def test_large_arrays_stay_on_the_disk(config, monkeypatch):
    small = decoding.decode_all(NAMES, read, SHAPE, config, "these")
    assert not isinstance(small, np.memmap)
    monkeypatch.setattr(decoding, "MEMORY_MAP_BYTES", IMAGES.nbytes - 1)
    large = decoding.decode_all(NAMES, forbidden, SHAPE, config, "these")
    assert isinstance(large, np.memmap) and not large.flags.writeable
    assert large.tobytes() == IMAGES.tobytes()


@pytest.mark.parametrize("below", ["", "cache"])
def test_a_cache_that_cannot_be_written_is_named(config, tmp_path, below):
    (tmp_path / "file").write_text("not a folder")
    config = dataclasses.replace(config, cache_dir=str(tmp_path / "file" / below))
    with pytest.raises(ValueError) as refusal:
        decoding.decode_all(NAMES, read, SHAPE, config, "these")
    assert f"cannot write the image cache in {tmp_path / 'file' / below}" in str(refusal.value)
    assert "--data.cache-dir" in str(refusal.value)
    assert (tmp_path / "file").read_text() == "not a folder"


def test_a_full_disk_is_named_before_anything_is_decoded_and_leaves_nothing_there(config, monkeypatch):
    def full(descriptor, offset, length):
        assert length > IMAGES.nbytes
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ValueError, match="cannot write the image cache .*No space left on device.*--data.cache-dir"):
        decoding.decode_all(NAMES, forbidden, SHAPE, config, "these")
    assert not list(Path(config.cache_dir).iterdir())


def test_a_damaged_cache_is_decoded_anew_and_that_is_said(tmp_path, caplog):
    config = DataConfig(source="x", image_size=(2, 2), channels=(1,), batch_size=1, cache_dir=str(tmp_path))
    read = lambda i: np.full((2, 2, 1), i, np.uint8)  # noqa: E731
    whole = decoding.decode_all(["a", "b"], read, (2, 2, 1), config, "id")
    (cached,) = tmp_path.glob("*.npy")
    for content in (b"", cached.read_bytes()[:-3], b"nonsense"):
        cached.write_bytes(content)
        with caplog.at_level(logging.WARNING):
            np.testing.assert_array_equal(decoding.decode_all(["a", "b"], read, (2, 2, 1), config, "id"), whole)
        assert str(cached) in caplog.text
        caplog.clear()


# Sizes.


def picture(height, width, mode="RGB", seed=0):
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def sized(config, *size, **changes):
    return dataclasses.replace(config, image_size=size, **changes)


@pytest.mark.parametrize("shape", [(4, 6, 3), (4, 6, 1), (6, 4, 3), (9, 6, 3)])
def test_stretch_is_pillows_bicubic_resize(config, shape):
    image, (height, width, channels) = picture(12, 17), shape
    stretched = decoding.convert(image, shape, sized(config, height, width, resize="stretch"))
    expected = image.convert("L" if channels == 1 else "RGB").resize((width, height), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(stretched, np.asarray(expected).reshape(shape))


@pytest.mark.parametrize("height, width, box", [(12, 20, (0, 4, 12, 16)), (20, 12, (4, 0, 16, 12))])
def test_cover_leaves_out_what_is_beyond_the_aspect_on_either_side(config, height, width, box):
    pixels, (top, left, bottom, right) = np.array(picture(height, width)), box
    for size in (12, 6):
        covered = decoding.convert(Image.fromarray(pixels), (size, size, 3), sized(config, size, size))
        inside = Image.fromarray(pixels[top:bottom, left:right]).resize((size, size), Image.Resampling.BICUBIC)
        if size == 12:
            np.testing.assert_array_equal(covered, np.asarray(inside))
        else:  # the filter sees a pixel or two across the edge of the crop, and rounds in between
            difference = covered[2:-2, 2:-2].astype(int) - np.asarray(inside)[2:-2, 2:-2]
            assert np.abs(difference).max() <= 1
    stretched = decoding.convert(Image.fromarray(pixels), (12, 12, 3), sized(config, 12, 12, resize="stretch"))
    assert not np.array_equal(stretched, pixels[top:bottom, left:right])


@pytest.mark.parametrize("resize", ["cover", "stretch"])
@pytest.mark.parametrize("height, width", [(7, 10), (8, 9), (1, 1), (7, 900)])
def test_images_smaller_than_the_models_are_enlarged_only_if_asked(config, resize, height, width):
    wanted, image = sized(config, 8, 10, resize=resize), picture(height, width)
    with pytest.raises(ValueError) as refusal:
        decoding.convert(image, (8, 10, 3), wanted)
    numbers = f"its {height}x{width} pixels are fewer than the 8x10 of --data.image-size"
    assert str(refusal.value) == f"{numbers}; --data.upscale enlarges it"
    enlarged = decoding.convert(image, (8, 10, 3), dataclasses.replace(wanted, upscale=True))
    assert enlarged.shape == (8, 10, 3) and enlarged.dtype == np.uint8


def test_the_size_that_counts_is_that_of_the_upright_image_and_without_the_crop_margin(config):
    turned = picture(10, 8)
    turned.getexif()[0x0112] = 6  # a quarter turn: 8 tall, 10 wide
    assert decoding.convert(turned, (8, 10, 3), sized(config, 8, 10)).shape == (8, 10, 3)
    with pytest.raises(ValueError, match="its 8x10 pixels are fewer than the 10x8"):
        decoding.convert(turned, (10, 8, 3), sized(config, 10, 8))
    margin = sized(config, 8, 10, crop_margin=4)
    assert decoding.convert(picture(8, 10), margin.stored_shape("train", 0), margin).shape == (12, 14, 3)
    with pytest.raises(ValueError, match="its 8x9 pixels are fewer than the 8x10"):
        decoding.convert(picture(8, 9), margin.stored_shape("train", 0), margin)


# Domains.


def stored(name, opened=None, **num):
    """Images of one grey level each: 0, 1, ... in train, 100, 101, ... in validation, 200, 201, ... in test."""
    first = {"train": 0, "validation": 100, "test": 200}
    items = {split: list(range(first[split], first[split] + n)) for split, n in num.items()}

    def open_image(level):
        if opened is not None:
            opened.append((name, level))
        return Image.fromarray(np.full((16, 16), level, np.uint8))

    return LazyImages(items, lambda level: f"{name}[{level}]", open_image, lambda level: [name, level])


def levels(source):
    return [array[:, 0, 0, 0].tolist() for array in source]


@pytest.fixture
def two(config):
    return dataclasses.replace(config, channels=(1, 3))


def test_each_domain_has_its_own_sizes_and_channels_and_what_it_lacks_is_held_out_of_it(two):
    splits = decoding.decode([stored("a", train=20, test=3), stored("b", train=30, validation=2)], two)
    (a, b), (a_validation, b_validation), (a_test, b_test) = (levels(source) for source in splits)
    assert sorted(a + a_validation) == list(range(20)) and len(a_validation) == 2 and a_test == [200, 201, 202]
    assert sorted(b + b_test) == list(range(30)) and len(b_test) == 3 and b_validation == [100, 101]
    for source in splits:
        assert [array.shape[1:] for array in source] == [(4, 5, 1), (4, 5, 3)]


def test_a_crop_margin_is_added_to_training_images_alone(two):
    domains = [stored("a", train=9, test=3), stored("b", train=8, validation=2)]
    splits = decoding.decode(domains, dataclasses.replace(two, crop_margin=3))
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
        ({"crop_margin": 2}, ("train",)),
        ({"resize": "stretch"}, ("train", "validation", "test")),
        ({"upscale": True}, ("train", "validation", "test")),
        ({"image_size": (5, 4)}, ("train", "validation", "test")),
    ],
)
def test_what_was_decoded_is_used_again_if_it_was_treated_alike(two, changes, fresh):
    num, opened = {"train": 3, "validation": 1, "test": 2}, []
    domains = [stored(name, opened, **num) for name in "ab"]
    first = decoding.decode(domains, two)
    assert len(opened) == 2 * sum(num.values())
    opened.clear()
    again = decoding.decode(domains, dataclasses.replace(two, **changes))
    assert len(opened) == 2 * sum(num[split] for split in fresh)
    assert [levels(source) for source in again] == [levels(source) for source in first]


def test_a_corrupt_image_is_named_whichever_domain_it_is_in(two):
    def fail(item):
        raise OSError("no sense")

    domains = [stored("a", train=4), stored("b", train=4)._replace(open=fail)]
    with pytest.raises(ValueError, match=r"cannot decode b\[\d\]: no sense. .*--data.skip-corrupt"):
        decoding.decode(domains, two)


def test_an_image_that_is_too_small_is_named(config):
    with pytest.raises(ValueError) as refusal:
        decoding.decode([stored("a", train=4)], dataclasses.replace(config, image_size=(16, 17)))
    assert "a[" in str(refusal.value) and "its 16x16 pixels are fewer than the 16x17 of" in str(refusal.value)


@pytest.mark.parametrize("missing", ["validation", "test"])
@pytest.mark.parametrize("domain", [0, 1])
def test_pairs_need_validation_and_test_images_of_their_own(two, missing, domain):
    num = {"train": 9, "validation": 1, "test": 1}
    domains = [stored("a", **num), stored("b", **num)]
    paired = dataclasses.replace(two, paired=True, source="folder:/x")
    assert levels(decoding.decode(domains, paired).test) == [[200], [200]]
    domains[domain] = domains[domain]._replace(items={k: v for k, v in domains[domain].items.items() if k != missing})
    with pytest.raises(ValueError) as refusal:
        decoding.decode(domains, paired)
    assert "--data.paired needs folder:/x to have validation and test images of its own" in str(refusal.value)
    decoding.decode(domains, two)
