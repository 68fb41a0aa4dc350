"""Arrays of .npz files, the splits that are held out of them, and pixels that are drawn once."""

import logging

import numpy as np
import pytest
from PIL import Image

from genjax.data.splits import Splits, hold_out
from level_images import arrays, constant, levels, rows
from refused import refusal


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
    said = refusal(ValueError, load, npz(**arrays), resize="none", **options)
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
    said = refusal(ValueError, load, source)
    assert message in said and source.removeprefix("npz:") in said


def test_load_npz_refuses_no_training_images(load, npz):
    assert "has no train images" in refusal(ValueError, load, npz(x_train=constant([1])[:0]), holdout=0)


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
        assert f"{path} is not a readable .npz file" in refusal(ValueError, load, source)
    assert f"{tmp_path} is not a readable .npz file" in refusal(ValueError, load, f"npz:{tmp_path}")
    assert refusal(FileNotFoundError, load, f"npz:{path}x") == f"no such file: {path}x"


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
