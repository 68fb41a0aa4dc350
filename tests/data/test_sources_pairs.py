"""Sources of two domains, and the known pairs of --data.pairs beside them."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from genjax.data import sources
from genjax.data.config import DataConfig
from genjax.data.demo import satellite
from genjax.data.splits import Splits
from level_images import constant
from refused import refusal


def test_load_converts_channels_of_two_domains(load):
    grey, colour = load("gray-colour", (32, 32, 1, 3)), load("gray-colour", (32, 32, 3, 3))
    expected = satellite.gray_colour(32)
    for split in range(3):
        for array, same in zip(grey[split], expected[split], strict=True):
            np.testing.assert_array_equal(array, same)
        np.testing.assert_array_equal(colour[split][0], grey[split][0].repeat(3, -1))
        np.testing.assert_array_equal(colour[split][1], grey[split][1])
    assert [array.shape[1:] for array in load("gray-colour", (32, 32, 3, 1)).test] == [(32, 32, 3), (32, 32, 1)]


@pytest.mark.parametrize(
    "source, shape, message",
    [
        ("icons", (16, 16, 1), "icons has 2 domain(s), and --data.channels (1,) is for 1: give it a number for each"),
        ("digits", (8, 8, 1, 1), "digits has 1 domain(s), and --data.channels (1, 1) is for 2: give it a number for"),
        ("npz", (4, 4, 3, 3), "has 1 domain(s), and --data.channels (3, 3) is for 2"),
    ],
)
def test_load_compares_channels_with_domains(load, npz, source, shape, message):
    source = npz(x_train=constant(range(9))) if source == "npz" else source
    assert message in refusal(ValueError, load, source, shape)


@pytest.fixture
def pair_of(monkeypatch):
    """Makes `icons` a source of two domains with so many images each in train, validation and test."""

    def stub(*sizes):
        splits = Splits(*(tuple(constant([7] * 9)[:num, ..., None] for num in pair) for pair in sizes))
        monkeypatch.setitem(sources.READERS, "icons", sources.Reader(lambda config: splits))

    return stub


def test_load_names_an_empty_domain(load, pair_of):
    pair_of((3, 2), (1, 1), (1, 0))
    assert "icons has no test images in domain B" in refusal(ValueError, load, "icons", (4, 4, 1, 1))
    pair_of((0, 2), (1, 1), (1, 1))
    assert "icons has no train images in domain A" in refusal(ValueError, load, "icons", (4, 4, 1, 1))


def test_load_refuses_pairs_of_unequal_counts(load, pair_of):
    pair_of((3, 2), (1, 1), (4, 5))
    load("icons", (4, 4, 1, 1))
    said = refusal(ValueError, load, "icons", (4, 4, 1, 1), paired=True)
    assert said == "--data.paired needs as many test images in either domain, and icons has [4, 5]"
    pair_of((3, 2), (2, 1), (4, 4))
    assert "as many validation images" in refusal(ValueError, load, "icons", (4, 4, 1, 1), paired=True)
    pair_of((3, 2), (1, 1), (4, 4))
    assert [len(array) for array in load("icons", (4, 4, 1, 1), paired=True).train] == [3, 2]


def pairs_config(tmp_path, **options):
    options |= {"image_size": (4, 4), "channels": (1, 1), "cache_dir": str(tmp_path / "cache")}
    return DataConfig(source="icons", batch_size=2, **options)


@pytest.mark.parametrize("cache", ["disk", "none"])
def test_load_pairs_reads_side_by_side_pictures(tmp_path, cache, caplog):
    (tmp_path / "known").mkdir()
    for level in (10, 20, 30):
        halves = np.concatenate(list(constant([level, level + 100])), axis=1)
        Image.fromarray(halves).save(tmp_path / "known" / f"{level}.png")
    config = pairs_config(tmp_path, pairs=f"pairs:{tmp_path / 'known'}")
    # The unpaired images may come from anywhere: icons cannot be decoded on demand.
    a, b = sources.load_pairs(dataclasses.replace(config, source="folder:x", cache=cache), 0)
    assert "held out" not in caplog.text
    assert [images[:].ravel()[::16].tolist() for images in (a, b)] == [[10, 20, 30], [110, 120, 130]]  # none held out
    described = sources.describe(Splits((), (), ()), (a, b))["pairs"]
    assert [image["shape"] for image in described] == [[3, 4, 4, 1]] * 2
    assert "pairs" not in sources.describe(Splits((), (), ())) and sources.load_pairs(pairs_config(tmp_path), 0) == ()


def test_load_pairs_matches_names(tmp_path):
    for domain, names in (("trainA", "pq"), ("trainB", "pq")):
        (tmp_path / "known" / domain).mkdir(parents=True)
        for i, name in enumerate(names):
            level = 10 * i + 100 * (domain == "trainB")
            Image.fromarray(constant([level])[0]).save(tmp_path / "known" / domain / f"{name}.png")
    config = pairs_config(tmp_path, pairs=f"folder:{tmp_path / 'known'}", skip_corrupt=True)
    assert [images[:, 0, 0, 0].tolist() for images in sources.load_pairs(config, 0)] == [[0, 10], [100, 110]]
    (tmp_path / "known" / "trainB" / "q.png").rename(tmp_path / "known" / "trainB" / "r.png")
    with pytest.raises(ValueError, match=r"needs the same names in both train folders .*known, and 2 are in one of th"):
        sources.load_pairs(config, 0)


@pytest.mark.parametrize(
    ("pairs", "error", "said"),
    [
        (
            "pairs:{}/odd",
            ValueError,
            "2 of 2 images cannot be decoded(?s:.*)Repair or remove them, and their partners. A",
        ),
        ("pairs:{}/none", FileNotFoundError, "no such folder"),
        ("digits", ValueError, r"digits has 1 domain\(s\)"),
        ("nonsense", ValueError, "unknown data source 'nonsense'"),
    ],
)
def test_load_pairs_names_its_flag_and_counts_each_picture_once(tmp_path, pairs, error, said):
    (tmp_path / "odd").mkdir()
    Image.fromarray(np.zeros((4, 7), np.uint8)).save(tmp_path / "odd" / "1.png")
    pairs = pairs.format(tmp_path)
    with pytest.raises(error, match=f"^--data.pairs {pairs}: {said}"):
        sources.load_pairs(pairs_config(tmp_path, pairs=pairs), 0)


@pytest.mark.parametrize("levels", ["full", "auto"])
def test_load_pairs_reads_arrays_and_says_nothing_of_other_splits(tmp_path, npz, caplog, levels):
    source = npz(x_trainA=constant([0, 20, 255]), x_trainB=constant([0, 120, 255]))
    a, b = sources.load_pairs(pairs_config(tmp_path, pairs=source, levels=levels), 0)
    assert [images[:, 0, 0, 0].tolist() for images in (a, b)] == [[0, 20, 255], [0, 120, 255]]
    assert caplog.messages == []


def test_load_pairs_refuses_unpaired_domains(tmp_path):
    with pytest.raises(ValueError, match="--data.paired needs as many train images in either domain, and icons has"):
        sources.load_pairs(dataclasses.replace(pairs_config(tmp_path, pairs="icons"), image_size=(16, 16)), 0)
