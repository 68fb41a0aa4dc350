"""Decoding in threads, once into a cache, domain by domain."""

import dataclasses
import errno
import time
from pathlib import Path

import numpy as np
import pytest

from genjax.data import decoding, image_cache
from genjax.data.decoding import LazyImages
from genjax.data.pictures import Picture
from refused import refusal

NUM, SHAPE = 24, (4, 5, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (NUM, *SHAPE), dtype=np.uint8)
NAMES = [f"image-{i:02d}" for i in range(NUM)]


@pytest.fixture
def image_size():
    return 4, 5


def images(read=None, identity=("these", 1)):
    return decoding.Set(NAMES, read or slowly, list(identity), [], 3)


def slowly(i):
    time.sleep((NUM - i) * 2e-4)  # the first ones finish last
    return IMAGES[i]


def forbidden(i):
    raise AssertionError(f"image {i} was decoded again")


def decoded(config, read=None, identity=("these", 1)):
    entry = decoding.decode_all(images(read, identity), "train", config)
    assert entry.about["damaged"] == entry.about["small"] == {}
    return entry.pixels.reshape(-1, *SHAPE)


@pytest.mark.parametrize("threads", [1, 8])
def test_decode_all_keeps_the_order(config, threads):
    assert decoded(dataclasses.replace(config, decode_threads=threads)).tobytes() == IMAGES.tobytes()


def test_decode_all_decodes_once(config):
    first = decoded(config)
    other = dataclasses.replace(config, batch_size=9, decode_threads=1, prefetch=1, holdout=0.2, flip=True)
    assert decoded(other, forbidden).tobytes() == first.tobytes()


@pytest.mark.parametrize(
    "changes, identity",
    [
        ({}, ["these", 2]),
        ({"image_size": (3, 4)}, ["these", 1]),  # with a load_scale: other images are too small
        ({"resize": "stretch"}, ["these", 1]),
        ({"upscale": True}, ["these", 1]),
        ({"load_scale": (4 / 4, 5 / 5)}, ["these", 1]),
    ],
)
def test_decode_all_keys_the_cache_by_treatment(config, changes, identity):
    decoded(config)
    calls = []
    changed = dataclasses.replace(config, decode_threads=1, **changes)
    decoded(changed, lambda i: calls.append(i) or IMAGES[i], identity)
    assert calls == list(range(NUM))
    assert decoded(config, forbidden).tobytes() == IMAGES.tobytes()


def test_decode_all_makes_room_for_the_images(config, monkeypatch):
    called = []
    monkeypatch.setattr(image_cache, "load", lambda path, write, *numbers: called.append(numbers))
    for load in ((), (2.0,)):
        decoding.decode_all(images(), "train", dataclasses.replace(config, cache_gib=3, load_scale=load))
    assert called == [(3 * 2**30, IMAGES.nbytes), (3 * 2**30, 4 * IMAGES.nbytes)]


def test_decode_all_holds_few_images_in_memory(config):
    """Neither if some are damaged, as long as the file is not read back."""
    alive, most = set(), []

    class Counted(np.ndarray):
        def __del__(self):
            alive.discard(id(self))

    def read(i):
        if i % 5 == 0:
            raise OSError("damaged")
        image = np.full((4, 5, 3), i % 256, np.uint8).view(Counted)
        alive.add(id(image))
        most.append(len(alive))
        return image

    num, config = 400, dataclasses.replace(config, decode_threads=2)
    many = decoding.Set([str(i) for i in range(num)], read, ["many"], [], 3)
    entry = decoding.decode_all(many, "train", config)
    assert len(entry.about["damaged"]) == num / 5 and len(entry.about["sizes"]) == num * 4 / 5
    assert max(most) <= 10


@pytest.mark.parametrize("below", ["", "cache"])
def test_decode_all_names_an_unwritable_cache(config, tmp_path, below):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ValueError) as refusal:
        decoded(dataclasses.replace(config, cache_dir=str(tmp_path / "file" / below)))
    assert f"cannot write the image cache in {tmp_path / 'file' / below}" in str(refusal.value)
    assert "--data.cache-dir" in str(refusal.value)
    assert (tmp_path / "file").read_text() == "not a folder"


def test_decode_all_names_a_full_disk(config, monkeypatch):
    def full(file, images, config):
        file.write(b"12")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(decoding, "_decode_into", full)
    with pytest.raises(ValueError, match="cannot write the image cache .*No space left on device.*--data.cache-dir"):
        decoded(config)
    assert not list(Path(config.cache_dir).iterdir())


def test_decode_all_names_an_image_too_large_for_memory(config):
    def huge(i):
        raise MemoryError

    with pytest.raises(ValueError, match="no memory to decode image-0.: try fewer --data.decode-threads"):
        decoded(config, huge)


def lazy(name, opened=None, **num):
    """Images of one grey level each: 0, 1, ... in train, 100, 101, ... in validation, 200, 201, ... in test."""
    first = {"train": 0, "validation": 100, "test": 200}
    items = {split: list(range(first[split], first[split] + n)) for split, n in num.items()}

    def open_image(level):
        if opened is not None:
            opened.append((name, level))
        return Picture(np.full((16, 16, 1), level, np.uint8))

    return LazyImages(items, lambda level: f"{name}[{level}]", open_image, lambda level: [name, level], lambda _: [])


def levels(source):
    return [array[:][:, 0, 0, 0].tolist() for array in source]


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


@pytest.mark.parametrize(
    "changes, fresh",
    [
        ({}, ()),
        ({"batch_size": 9, "flip": True, "paired": True}, ()),
        ({"skip_corrupt": True}, ()),
        ({"load_scale": (6 / 4, 7 / 5)}, ("train", "validation", "test")),
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


def test_decode_refuses_small_images_even_if_corrupt_are_skipped(config):
    domain = lazy("a", train=40, validation=4, test=3)
    for skip in (False, True):
        small = dataclasses.replace(config, image_size=(16, 17), skip_corrupt=skip)
        said = refusal(ValueError, decoding.decode, [domain], small)
        assert said == (
            "47 of 47 pictures are 16x16, smaller than --data.image-size 16x17: give --data.image-size 16 16 "
            "(or --data.upscale); one is a[0]"
        )
        decoding.decode([domain], dataclasses.replace(small, image_size=(16, 16)))
        decoding.decode([domain], dataclasses.replace(small, upscale=True))
