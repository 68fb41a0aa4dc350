"""Prepared datasets of TensorFlow Datasets: what is read, and which errors name what is wrong."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from genjax.data import labels, sources
from genjax.data.config import DataConfig
from refused import refusal
from tfds_datasets import levels, prepare

READ_ELSEWHERE = """
import json, sys
from genjax.data.config import DataConfig
from genjax.data import sources
settings = dict(image_size=(4, 4), channels=tuple(map(int, sys.argv[3:])), batch_size=2, decode_threads=1)
config = DataConfig(source=sys.argv[1], cache_dir=sys.argv[2], **settings)
print(json.dumps([sources.describe(sources.load(config, 0)), "tensorflow" in sys.modules]))
"""


@pytest.mark.parametrize("channels", [(3,), (1, 3)])
def test_load_reads_prepared_datasets_without_tensorflow(load, tmp_path, channels):
    source = f"tfds:{prepare(tmp_path / 'tfds', classes=2, train=range(20), test=[103, 101, 102])}"
    splits = load(source, (4, 4, *channels))
    train, validation, test = ([level for domain in split for level in domain] for split in levels(splits))
    assert sorted(test) == [101, 102, 103]
    assert sorted(train + validation) == list(range(20)) and len(validation) == 2
    assert all(len(np.unique(image)) == 1 for source in splits for array in source for image in array)
    # In a process of its own, for where TensorFlow is installed other tests may have imported it.
    command = [sys.executable, "-c", READ_ELSEWHERE, source, str(tmp_path / "other"), *map(str, channels)]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert json.loads(found) == [sources.describe(splits), False]


def test_load_decodes_newly_prepared_datasets_again(load, tmp_path):
    sizes = set()
    for shift in (50, 100):
        directory = prepare(tmp_path / "tfds", train=range(shift, shift + 5))
        sizes.add(json.loads((directory / "dataset_info.json").read_text())["splits"][0]["numBytes"])
        (train,), (validation,), (test,) = levels(load(f"tfds:{directory}", (4, 4, 3)))
        assert sorted(train + validation + test) == list(range(shift, shift + 5))
    assert len(sizes) == 1  # so neither the path nor the size gave it away


@pytest.mark.parametrize(
    "file, old, new, message",
    [
        ("dataset_info.json", '"name": "train"', '"name": "learn"', "it has the splits ['learn']"),
        ("features.json", '"image"', '"photo"', "the features ['label', 'photo']"),
        ("dataset_info.json", "array_record", "tfrecord", "prepare it with file_format='array_record'"),
    ],
)
@pytest.mark.parametrize("channels", [(3,), (3, 3)])
def test_load_refuses_datasets_of_another_form(load, tmp_path, file, old, new, message, channels):
    directory = prepare(tmp_path / "tfds", classes=2, train=range(5))
    text = (directory / file).read_text()
    assert old in text
    (directory / file).write_text(text.replace(old, new, 1))
    said = refusal(ValueError, load, f"tfds:{directory}", (4, 4, *channels))
    assert message in said and str(directory) in said


def test_load_names_unknown_datasets(load, tmp_path):
    for name in ("no_such_dataset", tmp_path / "no" / "such", tmp_path, "mnist:9.9.9"):
        said = refusal(ValueError, load, f"tfds:{name}", (4, 4, 3))
        assert said.startswith(f"{str(name)!r} is neither the directory of a prepared dataset nor a dataset that TFDS")
        assert len(said) < 400  # TFDS itself goes on to list 200 datasets


def test_load_tells_datasets_from_folders_of_that_name(load, monkeypatch, tmp_path):
    import tensorflow_datasets

    def builder(name, file_format):
        raise ValueError(f"built {name}")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tensorflow_datasets, "builder", builder)
    (tmp_path / "mnist").mkdir()
    assert refusal(ValueError, load, "tfds:mnist", (4, 4, 3)).endswith("built mnist")


def test_load_names_tensorflow_if_needed(load, monkeypatch):
    import tensorflow_datasets

    def download_and_prepare():
        raise ImportError("No module named 'tensorflow'")

    stub = SimpleNamespace(download_and_prepare=download_and_prepare)
    monkeypatch.setattr(tensorflow_datasets, "builder", lambda name, file_format: stub)
    said = refusal(ValueError, load, "tfds:mnist", (4, 4, 3))
    assert "pip install tensorflow, or prepare it elsewhere and give tfds:DIRECTORY" in said


def test_load_names_split_and_row(load, tmp_path):
    directory = prepare(tmp_path / "tfds", train=range(5))  # two of 4x4, two of 4x5 and one of 4x6
    said = refusal(ValueError, load, f"tfds:{directory}", (4, 5, 3), decode_threads=1)
    assert f"one is tfds:{directory} train[" in said
    assert "2 of 5 pictures are 4x4, smaller than --data.image-size 4x5: remove them, or give --data.image-size" in said


def test_labels_follow_the_images(load, tmp_path):
    source = f"tfds:{prepare(tmp_path / 'tfds', classes=3, train=range(20), test=[103, 101, 102])}"
    settings = {"image_size": (4, 4), "channels": (3,), "batch_size": 2, "cache_dir": str(tmp_path / "cache")}
    found = labels.load(DataConfig(source=source, **settings))
    for (shown,), (classes,) in zip(load(source, (4, 4, 3)), found, strict=True):
        np.testing.assert_array_equal(shown[:, 0, 0, 0] % 3, classes)
    assert [len(classes) for (classes,) in found] == [18, 2, 3]
