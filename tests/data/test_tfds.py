"""Tiny datasets, prepared and read as TensorFlow Datasets does."""

import io
import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from genjax.data import image_arrays, labels, sources, tfds
from genjax.data.config import DataConfig
from genjax.data.splits import Splits


def config_of(source, tmp_path, channels=(3,), **options):
    cache_dir = str(tmp_path / "cache")
    options = {"image_size": (4, 4), "batch_size": 2, "cache_dir": cache_dir, **options}
    return DataConfig(source=str(source), channels=channels, **options)


@pytest.fixture
def load(tmp_path):
    """Splits of a source, with the cache in this test's own folder."""
    return lambda source, **options: sources.load(config_of(source, tmp_path, **options), 0)


def levels(splits):
    """The grey levels of each domain's images, in ascending order (TFDS shuffles), split by split."""
    return [[sorted(array[:, 0, 0, 0].tolist()) for array in source] for source in splits]


def refusal(load, source, **options):
    with pytest.raises(ValueError) as caught:
        load(source, **options)
    return str(caught.value)


@pytest.fixture(scope="module")
def prepare():
    """A function that writes a dataset below a folder, as TFDS itself does, and gives back its directory."""
    import tensorflow_datasets

    class Tiny(tensorflow_datasets.core.GeneratorBasedBuilder):
        VERSION = tensorflow_datasets.core.Version("1.0.0")
        levels: dict
        classes: int

        def _info(self):  # the class's own way to it reads metadata from a package directory
            features = tensorflow_datasets.features
            label = features.ClassLabel(num_classes=self.classes) if self.classes else np.int64
            described = features.FeaturesDict({"image": features.Image(shape=(None, None, 3)), "label": label})
            return tensorflow_datasets.core.DatasetInfo(builder=self, features=described)

        def _split_generators(self, dl_manager):
            return {name: self._generate_examples(values) for name, values in self.levels.items()}

        def _generate_examples(self, levels):
            for i, level in enumerate(levels):
                png = image_arrays.encode_png(np.full((4, 4 + i % 3, 3), level, np.uint8))
                yield i, {"image": io.BytesIO(png), "label": level % self.classes if self.classes else i}

    def write(folder, classes=0, **levels):
        """Images of the levels in each split; with classes, the label is the level's remainder."""
        Tiny.levels, Tiny.classes = levels, classes
        shutil.rmtree(folder, ignore_errors=True)
        builder = Tiny(data_dir=folder, file_format="array_record")
        builder.download_and_prepare()
        return builder.data_path

    return write


READ_ELSEWHERE = """
import json, sys
from genjax.data.config import DataConfig
from genjax.data import sources
settings = dict(image_size=(4, 4), channels=tuple(map(int, sys.argv[3:])), batch_size=2, decode_threads=1)
config = DataConfig(source=sys.argv[1], cache_dir=sys.argv[2], **settings)
print(json.dumps([sources.describe(sources.load(config, 0)), "tensorflow" in sys.modules]))
"""


@pytest.mark.parametrize("channels", [(3,), (1, 3)])
def test_load_reads_prepared_datasets_without_tensorflow(load, prepare, tmp_path, channels):
    source = f"tfds:{prepare(tmp_path / 'tfds', classes=2, train=range(20), test=[103, 101, 102])}"
    splits = load(source, channels=channels)
    train, validation, test = ([level for domain in split for level in domain] for split in levels(splits))
    assert sorted(test) == [101, 102, 103]
    assert sorted(train + validation) == list(range(20)) and len(validation) == 2
    assert all(len(np.unique(image)) == 1 for source in splits for array in source for image in array)
    # In a process of its own, for where TensorFlow is installed other tests may have imported it.
    command = [sys.executable, "-c", READ_ELSEWHERE, source, str(tmp_path / "other"), *map(str, channels)]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert json.loads(found) == [sources.describe(splits), False]


def test_load_refuses_to_hold_out_pairs(load, prepare, tmp_path):
    source = f"tfds:{prepare(tmp_path / 'tfds', classes=2, train=range(20), test=[100, 101])}"
    with pytest.raises(ValueError, match="--data.paired needs tfds:.* to have validation and test images of its own"):
        load(source, channels=(3, 3), paired=True)
    train, validation, _ = load(source, channels=(3, 3), paired=True, train_pairs=True)
    assert [len(images) for images in (*train, *validation)] == [9, 9, 1, 1]


def test_load_decodes_newly_prepared_datasets_again(load, prepare, tmp_path):
    sizes = set()
    for shift in (50, 100):
        directory = prepare(tmp_path / "tfds", train=range(shift, shift + 5))
        sizes.add(json.loads((directory / "dataset_info.json").read_text())["splits"][0]["numBytes"])
        (train,), (validation,), (test,) = levels(load(f"tfds:{directory}"))
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
def test_load_refuses_datasets_of_another_form(load, prepare, tmp_path, file, old, new, message, channels):
    directory = prepare(tmp_path / "tfds", classes=2, train=range(5))
    text = (directory / file).read_text()
    assert old in text
    (directory / file).write_text(text.replace(old, new, 1))
    said = refusal(load, f"tfds:{directory}", channels=channels)
    assert message in said and str(directory) in said


def test_load_names_unknown_datasets(load, tmp_path):
    for name in ("no_such_dataset", tmp_path / "no" / "such", tmp_path, "mnist:9.9.9"):
        said = refusal(load, f"tfds:{name}")
        assert said.startswith(f"{str(name)!r} is neither the directory of a prepared dataset nor a dataset that TFDS")
        assert len(said) < 400  # TFDS itself goes on to list 200 datasets


def test_load_tells_datasets_from_folders_of_that_name(load, monkeypatch, tmp_path):
    import tensorflow_datasets

    def builder(name, file_format):
        raise ValueError(f"built {name}")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tensorflow_datasets, "builder", builder)
    (tmp_path / "mnist").mkdir()
    assert refusal(load, "tfds:mnist").endswith("built mnist")


def test_load_names_tensorflow_if_needed(load, monkeypatch):
    import tensorflow_datasets

    def download_and_prepare():
        raise ImportError("No module named 'tensorflow'")

    stub = SimpleNamespace(download_and_prepare=download_and_prepare)
    monkeypatch.setattr(tensorflow_datasets, "builder", lambda name, file_format: stub)
    said = refusal(load, "tfds:mnist")
    assert "pip install tensorflow, or prepare it elsewhere and give tfds:DIRECTORY" in said


def test_load_names_split_and_row(load, prepare, tmp_path):
    directory = prepare(tmp_path / "tfds", train=range(5))  # two of 4x4, two of 4x5 and one of 4x6
    said = refusal(load, f"tfds:{directory}", image_size=(4, 5), decode_threads=1)
    assert f"one is tfds:{directory} train[" in said
    assert "2 of 5 pictures are 4x4, smaller than --data.image-size 4x5: remove them, or give --data.image-size" in said


# Two domains.


def test_load_takes_splits_as_two_domains(load, prepare, tmp_path):
    splits = {"trainA": range(6), "trainB": range(50, 70), "testA": [100, 101], "validationB": [110]}
    source = f"tfds:{prepare(tmp_path / 'tfds', **splits, train=range(200, 205))}"
    loaded = load(source, channels=(1, 3))
    assert [[array.shape[1:] for array in part] for part in loaded] == [[(4, 4, 1), (4, 4, 3)]] * 3
    (a, b), (a_validation, b_validation), (a_test, b_test) = levels(loaded)
    assert a_test == [100, 101] and b_validation == [110]
    assert sorted(a + a_validation) == list(range(6)) and len(a_validation) == 1
    assert sorted(b + b_test) == list(range(50, 70)) and len(b_test) == 2


def test_load_takes_two_classes_as_domains(load, prepare, tmp_path):
    even, odd = [2, 4, 6, 8], [1, 3, 5, 7, 9, 11, 13]
    source = f"tfds:{prepare(tmp_path / 'tfds', classes=2, train=even + odd, test=[30, 32, 31])}"
    (a, b), (a_validation, b_validation), test = levels(load(source, channels=(3, 3)))
    assert test == [[30, 32], [31]]
    assert sorted(a + a_validation) == even and sorted(b + b_validation) == odd
    assert levels(load(source, channels=(3, 3), holdout=0))[:2] == [[even, odd], [even, odd]]
    (everything,), _, _ = levels(load(source, holdout=0))
    assert everything == sorted(even + odd)  # one domain takes both


def test_find_decodes_no_images_for_labels(load, prepare, tmp_path, monkeypatch):
    import tensorflow_datasets

    directory = prepare(tmp_path / "tfds", classes=2, train=range(12), test=range(100, 104))
    image, decoded = tensorflow_datasets.features.Image, []
    usual = image.decode_example_np
    monkeypatch.setattr(image, "decode_example_np", lambda self, x: decoded.append(0) or usual(self, x))
    found = tfds.find(str(directory), config_of(f"tfds:{directory}", tmp_path, (3, 3)))
    assert [{split: len(items) for split, items in domain.items.items()} for domain in found] == [
        {"train": 6, "test": 2},
        {"train": 6, "test": 2},
    ]
    assert decoded == []
    load(f"tfds:{directory}", channels=(3, 3))
    assert len(decoded) == 16
    load(f"tfds:{directory}", channels=(3, 3), batch_size=1)
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
def test_load_refuses_datasets_without_two_domains(load, prepare, tmp_path, classes, splits):
    directory = prepare(tmp_path / "tfds", classes=classes, **splits)
    said = refusal(load, f"tfds:{directory}", channels=(3, 3))
    found = f"it has the splits {sorted(splits)} and the features ['image', 'label']"
    assert said == f"tfds:{directory} needs {NEEDED}; {found}"


def test_load_refuses_two_domains_as_one(load, prepare, tmp_path):
    directory = prepare(tmp_path / "tfds", trainA=range(5), trainB=range(5))
    said = refusal(load, f"tfds:{directory}")
    assert f"tfds:{directory} needs a split train and a feature image; it has the splits ['trainA', 'trainB']" in said


def test_labels_follow_the_images(load, prepare, tmp_path):
    source = f"tfds:{prepare(tmp_path / 'tfds', classes=3, train=range(20), test=[103, 101, 102])}"
    found = labels.load(config_of(source, tmp_path))
    for (shown,), (classes,) in zip(load(source), found, strict=True):
        np.testing.assert_array_equal(shown[:, 0, 0, 0] % 3, classes)
    assert [len(classes) for (classes,) in found] == [18, 2, 3]


def test_load_names_an_empty_class(load, prepare, tmp_path):
    source = f"tfds:{prepare(tmp_path / 'tfds', classes=2, train=[2, 4, 6, 8], test=[1, 2])}"
    for holdout in (0.1, 0):
        assert f"{source} has no train images in domain B" in refusal(load, source, channels=(3, 3), holdout=holdout)


def test_load_needs_splits_for_pairs(load, prepare, tmp_path):
    splits = {"trainA": range(5), "trainB": range(9), "validationA": [1], "validationB": [2]}
    source = f"tfds:{prepare(tmp_path / 'tfds', **splits, testA=[3, 4])}"
    assert "validation and test images of its own" in refusal(load, source, channels=(3, 3), paired=True)
    source = f"tfds:{prepare(tmp_path / 'more', **splits, testA=[3, 4], testB=[5])}"
    assert "as many test images in either domain" in refusal(load, source, channels=(3, 3), paired=True)
    assert Splits(*levels(load(source, channels=(3, 3)))).test == [[3, 4], [5]]
