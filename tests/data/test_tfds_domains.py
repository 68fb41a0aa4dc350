"""Two domains in one dataset of TensorFlow Datasets: as splits, as classes, as pairs."""

import dataclasses

import pytest

from genjax.data import sources, tfds
from genjax.data.config import DataConfig
from genjax.data.splits import Splits
from refused import refusal
from tfds_datasets import levels, prepare


def test_load_refuses_to_hold_out_pairs(load, tmp_path):
    source = f"tfds:{prepare(tmp_path / 'tfds', classes=2, train=range(20), test=[100, 101])}"
    with pytest.raises(ValueError, match="--data.paired needs tfds:.* to have validation and test images of its own"):
        load(source, (4, 4, 3, 3), paired=True)
    train, validation, _ = load(source, (4, 4, 3, 3), paired=True, train_pairs=True)
    assert [len(images) for images in (*train, *validation)] == [9, 9, 1, 1]


def test_load_takes_splits_as_two_domains(load, tmp_path):
    splits = {"trainA": range(6), "trainB": range(50, 70), "testA": [100, 101], "validationB": [110]}
    source = f"tfds:{prepare(tmp_path / 'tfds', **splits, train=range(200, 205))}"
    loaded = load(source, (4, 4, 1, 3))
    assert [[array.shape[1:] for array in part] for part in loaded] == [[(4, 4, 1), (4, 4, 3)]] * 3
    (a, b), (a_validation, b_validation), (a_test, b_test) = levels(loaded)
    assert a_test == [100, 101] and b_validation == [110]
    assert sorted(a + a_validation) == list(range(6)) and len(a_validation) == 1
    assert sorted(b + b_test) == list(range(50, 70)) and len(b_test) == 2


def test_load_takes_two_classes_as_domains(load, tmp_path):
    even, odd = [2, 4, 6, 8], [1, 3, 5, 7, 9, 11, 13]
    source = f"tfds:{prepare(tmp_path / 'tfds', classes=2, train=even + odd, test=[30, 32, 31])}"
    (a, b), (a_validation, b_validation), test = levels(load(source, (4, 4, 3, 3)))
    assert test == [[30, 32], [31]]
    assert sorted(a + a_validation) == even and sorted(b + b_validation) == odd
    assert levels(load(source, (4, 4, 3, 3), holdout=0))[:2] == [[even, odd], [even, odd]]
    (everything,), _, _ = levels(load(source, (4, 4, 3), holdout=0))
    assert everything == sorted(even + odd)  # one domain takes both


def test_find_decodes_no_images_for_labels(tmp_path, monkeypatch):
    import tensorflow_datasets

    directory = prepare(tmp_path / "tfds", classes=2, train=range(12), test=range(100, 104))
    image, decoded = tensorflow_datasets.features.Image, []
    usual = image.decode_example_np
    monkeypatch.setattr(image, "decode_example_np", lambda self, x: decoded.append(0) or usual(self, x))
    settings = {"image_size": (4, 4), "channels": (3, 3), "batch_size": 2, "cache_dir": str(tmp_path / "cache")}
    config = DataConfig(source=f"tfds:{directory}", **settings)
    found = tfds.find(str(directory), config)
    assert [{split: len(items) for split, items in domain.items.items()} for domain in found] == [
        {"train": 6, "test": 2},
        {"train": 6, "test": 2},
    ]
    assert decoded == []
    sources.load(config, 0)
    assert len(decoded) == 16
    sources.load(dataclasses.replace(config, batch_size=1), 0)
    assert len(decoded) == 16


NEEDED = "the splits trainA and trainB, or a split train with a feature label of two classes, and a feature image"


@pytest.mark.parametrize(
    "classes, splits",
    [
        (0, {"train": range(5)}),  # a label that is any number
        (1, {"train": range(5)}),
        (3, {"train": range(9)}),
        (2, {"test": range(5)}),
        (2, {"trainA": range(5), "testB": range(5)}),
        (2, {"trainB": range(5)}),
    ],
)
def test_load_refuses_datasets_without_two_domains(load, tmp_path, classes, splits):
    directory = prepare(tmp_path / "tfds", classes=classes, **splits)
    said = refusal(ValueError, load, f"tfds:{directory}", (4, 4, 3, 3))
    found = f"it has the splits {sorted(splits)} and the features ['image', 'label']"
    assert said == f"tfds:{directory} needs {NEEDED}; {found}"


def test_load_refuses_two_domains_as_one(load, tmp_path):
    directory = prepare(tmp_path / "tfds", trainA=range(5), trainB=range(5))
    said = refusal(ValueError, load, f"tfds:{directory}", (4, 4, 3))
    assert f"tfds:{directory} needs a split train and a feature image; it has the splits ['trainA', 'trainB']" in said


def test_load_names_an_empty_class(load, tmp_path):
    source = f"tfds:{prepare(tmp_path / 'tfds', classes=2, train=[2, 4, 6, 8], test=[1, 2])}"
    for holdout in (0.1, 0):
        said = refusal(ValueError, load, source, (4, 4, 3, 3), holdout=holdout)
        assert f"{source} has no train images in domain B" in said


def test_load_needs_splits_for_pairs(load, tmp_path):
    splits = {"trainA": range(5), "trainB": range(9), "validationA": [1], "validationB": [2]}
    source = f"tfds:{prepare(tmp_path / 'tfds', **splits, testA=[3, 4])}"
    assert "validation and test images of its own" in refusal(ValueError, load, source, (4, 4, 3, 3), paired=True)
    source = f"tfds:{prepare(tmp_path / 'more', **splits, testA=[3, 4], testB=[5])}"
    assert "as many test images in either domain" in refusal(ValueError, load, source, (4, 4, 3, 3), paired=True)
    assert Splits(*levels(load(source, (4, 4, 3, 3)))).test == [[3, 4], [5]]
