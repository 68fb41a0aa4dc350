"""Decoding in threads, once into a cache or on demand; one report of what is wrong; domains and their splits."""

import dataclasses
import errno
import functools
import json
import time
from pathlib import Path

import numpy as np
import pytest

from genjax.data import batches, decoding, image_cache
from genjax.data.config import DataConfig
from genjax.data.decoding import LazyImages
from genjax.data.pictures import Picture
from genjax.keys import Stream

NUM, SHAPE = 24, (4, 5, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (NUM, *SHAPE), dtype=np.uint8)
NAMES = [f"image-{i:02d}" for i in range(NUM)]


@pytest.fixture
def config(tmp_path):
    cache_dir = str(tmp_path / "cache" / "below")
    return DataConfig(source="unused", image_size=(4, 5), channels=(3,), batch_size=2, cache_dir=cache_dir)


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


def cached(config):
    return sorted(path.name for path in Path(config.cache_dir).iterdir())


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


# Domains.


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


# Scale, and decoding on demand. Each picture has its own size and pixels.


def pictures_of(opened=None, bad=(), **num):
    def open_image(item):
        if opened is not None:
            opened.append(item)
        if item in bad:
            raise OSError(f"bytes of {item} make no sense")
        rng = np.random.default_rng(sum(map(ord, item)))
        return Picture(rng.integers(0, 256, (*rng.integers(8, 20, 2), 3), np.uint8))

    items = {split: [f"{split}{i}" for i in range(n)] for split, n in num.items()}
    return LazyImages(items, str, open_image, lambda item: [item], lambda item: [item, 7])


NUMBERS = {"train": 11, "validation": 3, "test": 2}
SCALES = [
    {},
    {"resize": "stretch"},
    {"load_scale": (7 / 4, 8 / 5)},
    {"load_scale": (7 / 4, 8 / 5), "resize": "stretch"},
    {"resize": "width"},
    {"resize": "none"},
]


@pytest.mark.parametrize("changes", SCALES, ids=str)
def test_decode_on_demand_gives_the_bits_of_the_cache(config, changes, monkeypatch):
    config = dataclasses.replace(config, source="folder:x", **changes)
    opened = []
    on_demand = decoding.decode([pictures_of(opened, **NUMBERS)], dataclasses.replace(config, cache="none"))
    assert opened == [] and not Path(config.cache_dir).exists()
    cache = decoding.decode([pictures_of(**NUMBERS)], config)
    monkeypatch.setattr(image_cache, "MEMORY_MAP_BYTES", 0)
    mapped = decoding.decode([pictures_of(**NUMBERS)], config)
    for step in range(4):
        expected = batches.load(cache.train, 5, step, 6, slice(None)).images[0]
        assert expected.shape == (6, 4, 5, 3)
        for splits in (on_demand, mapped):
            np.testing.assert_array_equal(batches.load(splits.train, 5, step, 6, slice(None)).images[0], expected)
    for split in ("validation", "test"):
        for splits in (on_demand, mapped):
            found = [batch.images[0] for batch in batches.eval_batches(getattr(splits, split), 2, slice(None))]
            np.testing.assert_array_equal(np.concatenate(found)[: NUMBERS[split]], getattr(cache, split)[0])


@pytest.mark.parametrize("changes", SCALES[2:], ids=str)
def test_decode_evaluates_at_the_scale_of_training(config, changes):
    """The centre of a training picture is what the same picture gives as a validation image."""
    config, same = dataclasses.replace(config, **changes), pictures_of(**NUMBERS).items["train"]
    everywhere = pictures_of()._replace(items=dict.fromkeys(NUMBERS, same))
    splits = decoding.decode([everywhere], config)
    np.testing.assert_array_equal(splits.train[0][:], splits.validation[0])
    np.testing.assert_array_equal(splits.train[0][:], splits.test[0])


def test_decode_on_demand_reads_the_rows_of_a_process(config):
    opened = []
    config = dataclasses.replace(config, source="folder:x", cache="none")
    train = decoding.decode([pictures_of(opened, **NUMBERS)], config).train
    batches.load(train, 0, 0, 8, slice(4, 6))
    rows = batches.indices(0, Stream.SHUFFLE_FIRST, 0, 8, 11)[4:6]
    assert sorted(opened) == sorted(f"train{row}" for row in rows)


def test_decode_on_demand_records_the_files(config):
    config = dataclasses.replace(config, source="folder:x", cache="none")

    def described(**changes):
        return decoding.decode([pictures_of(**NUMBERS)._replace(**changes)], config).train[0].describe()

    assert described() == described(identity=lambda item: [item, "another time"]) and set(described()) == {
        "files_sha256"
    }
    assert described() != described(content=lambda item: [item, 8])


# One report of all that is wrong.


def test_decode_tells_all_damaged_images_at_once(config):
    bad = ["train3", "test1", *(f"train{i}" for i in range(20, 26))]
    domain = pictures_of(bad=bad, train=30, validation=3, test=2)
    said = refusal(ValueError, decoding.decode, [domain], config)
    assert "8 of 35 images cannot be decoded:\n  train3: bytes of train3 make no sense\n  train20: " in said
    assert (
        "\n  and 3 more\nRepair or remove them, or leave them out with --data.skip-corrupt. All are named in " in said
    )
    abouts = [Path(word.rstrip(";")) for word in said.split() if ".json" in word]
    named = [line for path in abouts for line in json.loads(path.read_text())["damaged"].values()]
    assert sorted(named) == sorted(f"{name}: bytes of {name} make no sense" for name in bad)


def test_decode_remembers_damaged_images(config, caplog):
    opened, domain = [], functools.partial(pictures_of, bad=["train3", "test1"], **NUMBERS)
    first = refusal(ValueError, decoding.decode, [domain()], config)
    assert refusal(ValueError, decoding.decode, [domain(opened)], config) == first  # without decoding again
    splits = decoding.decode([domain(opened)], dataclasses.replace(config, skip_corrupt=True))
    assert opened == []
    assert [len(source[0]) for source in splits] == [10, 3, 1]
    whole = decoding.decode([pictures_of(**NUMBERS)._replace(identity=lambda item: [item, "whole"])], config)
    np.testing.assert_array_equal(splits.train[0], np.delete(whole.train[0], 3, axis=0))
    (warning,) = caplog.messages
    assert (
        warning.startswith("2 of 16 images cannot be decoded:\n  train3: bytes of") and "They are left out" in warning
    )


def test_decode_tries_again_after_the_remedy(config, monkeypatch):
    refusal(ValueError, decoding.decode, [pictures_of(bad=["train3"], **NUMBERS)], config)
    decoding.decode([pictures_of(**NUMBERS)], dataclasses.replace(config, max_megapixels=300))
    refusal(ValueError, decoding.decode, [pictures_of(**NUMBERS)], config)  # remembered
    monkeypatch.setattr(decoding, "READERS", (*decoding.READERS, "json"))  # as a package installed now
    decoding.decode([pictures_of(**NUMBERS)], config)


def test_decode_on_demand_checks_all_images_if_asked(config, caplog):
    domain, opened = functools.partial(pictures_of, bad=["train3", "test1"], **NUMBERS), []
    config = dataclasses.replace(config, source="folder:x", skip_corrupt=True)
    cache = decoding.decode([domain()], config)
    on_demand = decoding.decode([domain(opened)], dataclasses.replace(config, cache="none"))
    assert len(opened) == 16 and caplog.messages[0].split("\n")[:3] == caplog.messages[1].split("\n")[:3]
    for found, expected in zip(on_demand, cache, strict=True):
        np.testing.assert_array_equal(found[0][:], expected[0][:])
    sizes = [path.stat().st_size for path in Path(config.cache_dir).glob("*.npy")]
    assert sizes.count(min(sizes)) == 3  # of three the pixels are not kept


def test_decode_on_demand_names_a_damaged_image(config):
    config = dataclasses.replace(config, source="folder:x", cache="none")
    train = decoding.decode([pictures_of(bad=["train3"], **NUMBERS)], config).train[0]
    said = refusal(ValueError, train.__getitem__, [1, 3])
    assert said.startswith("cannot decode train3: bytes of train3 make no sense. Repair it, or start another run with")
    large = dataclasses.replace(config, image_size=(90, 90))
    said = refusal(ValueError, decoding.decode([pictures_of(**NUMBERS)], large).train[0].__getitem__, 0)
    assert said.startswith("cannot use train0: 1 of 1 pictures are ") and "give --data.image-size " in said
    assert "Repair" not in said and "skip-corrupt" not in said


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


def test_decode_tells_small_and_damaged_images_together(config):
    domain = pictures_of(bad=["train3"], **NUMBERS)
    small, damaged = refusal(
        ValueError, decoding.decode, [domain], dataclasses.replace(config, image_size=(90, 90))
    ).split("\n", 1)
    assert small.startswith("15 of 16 pictures are smaller (one is ") and damaged.startswith("1 of 16 images cannot be")


def refusal(error, function, *args):
    with pytest.raises(error) as caught:
        function(*args)
    return str(caught.value)
