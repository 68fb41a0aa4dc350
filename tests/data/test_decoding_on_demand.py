"""Scale, decoding on demand, and one report of all that is wrong; each picture has its own size and pixels."""

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
import pytest

from genjax.data import batches, decoding, image_cache
from genjax.data.decoding import LazyImages
from genjax.data.pictures import Picture
from genjax.keys import Stream
from refused import refusal

NUMBERS = {"train": 11, "validation": 3, "test": 2}
SCALES = [
    {},
    {"resize": "stretch"},
    {"load_scale": (7 / 4, 8 / 5)},
    {"load_scale": (7 / 4, 8 / 5), "resize": "stretch"},
    {"resize": "width"},
    {"resize": "none"},
]


@pytest.fixture
def image_size():
    return 4, 5


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


def test_decode_tells_small_and_damaged_images_together(config):
    domain = pictures_of(bad=["train3"], **NUMBERS)
    small, damaged = refusal(
        ValueError, decoding.decode, [domain], dataclasses.replace(config, image_size=(90, 90))
    ).split("\n", 1)
    assert small.startswith("15 of 16 pictures are smaller (one is ") and damaged.startswith("1 of 16 images cannot be")
