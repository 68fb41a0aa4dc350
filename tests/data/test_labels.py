"""Classes of images, in the order of the images."""

import numpy as np
import pytest

from genjax.data import labels, sources
from genjax.data.config import DataConfig
from genjax.data.splits import Splits


def config_of(source, size=4, channels=(1,), **options):
    return DataConfig(source=source, image_size=(size, size), channels=channels, batch_size=1, **options)


def flat(splits):
    """Images and labels of one domain side by side, split by split."""
    return [array.reshape(len(array), -1) for (array,) in splits]


@pytest.mark.parametrize(("source", "size", "counts"), [("mnist5k", 28, (400, 50, 50)), ("digits", 8, None)])
def test_load_matches_the_demo_images(source, size, counts):
    """The mean image of each class in train names most test images: in another order it would name a tenth."""
    config = config_of(source, size)
    shown, classes = sources.load(config, 0), labels.load(config)
    labels.check(classes, shown)
    images, found = flat(shown), [array for (array,) in classes]
    if counts:
        assert [np.bincount(array).tolist() for array in found] == [[count] * 10 for count in counts]
    means = np.stack([images[0][found[0] == digit].mean(axis=0) for digit in range(10)])
    for rows, truth in zip(images, found, strict=True):
        nearest = ((means**2).sum(axis=1) - 2 * rows.astype(float) @ means.T).argmin(axis=1)
        assert np.mean(nearest == truth) > 0.78


def levels_of(values):
    """Images whose grey level is their label plus 40."""
    return np.array(values, np.uint8)[:, None, None] * np.ones((1, 4, 4), np.uint8) + np.uint8(40)


@pytest.mark.parametrize("holdout", [0.0, 0.2])
@pytest.mark.parametrize("own_test", [False, True])
def test_load_of_npz_follows_the_images(npz, holdout, own_test):
    values = np.random.default_rng(0).integers(0, 10, 50)
    contents = {"x_train": levels_of(values), "y_train": values}
    if own_test:
        contents |= {"x_test": levels_of([7, 3, 3]), "y_test": np.array([7, 3, 3], np.uint8)}
    config = config_of(npz(**contents), holdout=holdout)
    images, found = sources.load(config, 0), labels.load(config)
    for (shown,), (classes,) in zip(images, found, strict=True):
        assert classes.dtype == np.int32
        np.testing.assert_array_equal(shown[:, 0, 0, 0] - 40, classes)
    assert max(array.max() for (array,) in found) == 9
    if own_test:
        assert found.test[0].tolist() == [7, 3, 3]


def test_load_of_npz_takes_two_domains(npz):
    a, b = np.arange(20) % 7, np.arange(30) % 5
    contents = {"x_trainA": levels_of(a), "y_trainA": a, "x_trainB": levels_of(b), "y_trainB": b}
    contents |= {"x_testB": levels_of([4, 1]), "y_testB": np.array([4, 1])}
    config = config_of(npz(**contents), channels=(1, 1))
    images, found = sources.load(config, 0), labels.load(config)
    assert [[len(array) for array in source] for source in images] == [[16, 27], [2, 3], [2, 2]]
    for shown, classes in zip(images, found, strict=True):
        for pixels, of_domain in zip(shown, classes, strict=True):
            np.testing.assert_array_equal(pixels[:, 0, 0, 0] - 40, of_domain)
    assert found.test[1].tolist() == [4, 1]
    with pytest.raises(ValueError, match=r"has no array x_trainA \(it has x_trainB\)"):
        sources.load(config_of(npz(x_trainB=levels_of(a)), channels=(1, 1)), 0)
    with pytest.raises(ValueError, match=r"has 2 domain\(s\), and --data.channels \(1,\) is for 1"):
        sources.load(config_of(npz(x_trainA=levels_of(a), x_trainB=levels_of(b))), 0)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({}, "has no labels y_train for its x_train (it has x_train)"),
        ({"y_train": np.arange(9)}, "y_train in {path} is int64 [9], not an integer for each of 10 images"),
        ({"y_train": np.zeros(10)}, "y_train in {path} is float64 [10], not an integer for each of 10 images"),
    ],
)
def test_load_of_npz_names_other_labels(npz, contents, message):
    source = npz(x_train=levels_of(range(10)), **contents)
    with pytest.raises(ValueError) as caught:
        labels.load(config_of(source))
    assert message.format(path=source.removeprefix("npz:")) in str(caught.value)


def test_load_refuses_sources_without_labels():
    with pytest.raises(ValueError, match="folder:x has no labels: give mnist5k, digits, faces, .*npz:PATH, tfds:NAME"):
        labels.load(config_of("folder:x"))
    with pytest.raises(ValueError, match="skip-corrupt"):
        labels.load(config_of("digits", skip_corrupt=True))


def test_check_counts_labels():
    three, two = Splits((np.zeros(3, int),), (np.zeros(3, int),), (np.zeros(3, int),)), np.zeros(2, int)
    labels.check(three, three)
    with pytest.raises(
        ValueError, match=r"there are \[\[3\], \[3\], \[2\]\] labels for \[\[3\], \[3\], \[3\]\] images"
    ):
        labels.check(three._replace(test=(two,)), three)
