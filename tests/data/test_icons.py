"""Icons, outlined and filled: one role each, and what copying the input scores."""

import itertools

import numpy as np
import pytest

from genjax.data.config import DataConfig
from genjax.data.demo import icons as icons_module
from genjax.data.splits import Splits

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def icons():
    return icons_module.icons(32)


@pytest.fixture(scope="module")
def names():
    """Icons' names by the bytes of their outline, and by those of their filled form."""
    pairs = icons_module._icon_pairs(32)
    return tuple(
        {form(pair).tobytes(): pair.name for pair in pairs} for form in (lambda p: p.outline, lambda p: p.filled)
    )


def names_in(splits, names):
    """The names of the icons in each array, in order."""
    return [[names[i][image.tobytes()] for image in array] for source in splits for i, array in enumerate(source)]


def ink(images):
    return images < 128


def copying(splits):
    """Mean absolute error, of 1, and pooled intersection over union of the ink when the input is the answer."""
    first, second = splits.test
    both, either = (ink(first) & ink(second)).sum(), (ink(first) | ink(second)).sum()
    return np.abs(first / 255 - second / 255).mean(), both / either


def test_icons_have_the_documented_counts(icons):
    counts = np.array([len(array) for source in icons for array in source])
    assert np.abs(counts - [1180, 1172, 148, 148, 435, 435]).max() <= 25  # a font's patch version may add some
    assert all(array.dtype == np.uint8 and array.shape[1:] == (32, 32, 1) for source in icons for array in source)
    larger = icons_module.icons(45)
    assert [array.shape[1:] for source in larger for array in source] == [(45, 45, 1)] * 6


def test_icons_have_one_role_each(icons, names):
    train_a, train_b, validation_a, validation_b, test_a, test_b = names_in(icons, names)
    assert validation_a == validation_b and test_a == test_b
    used = [set(part) for part in (train_a, train_b, validation_a, test_a)]
    assert all(one.isdisjoint(other) for one, other in itertools.combinations(used, 2))
    assert set.union(*used) == set(names[0].values())
    for part in (train_a, train_b, validation_a, test_a):
        assert part == sorted(part)
    assert len(set.union(*used)) < len(names[0]) - 20  # both fonts have icons of these names


def test_icon_pairs_are_the_icons_that_train(icons, names):
    def drawn(source):
        return icons_module.icon_pairs(DataConfig(source=source, image_size=(32, 32), channels=(1, 1), batch_size=1))

    all_of_them, few = drawn("icons-pairs"), drawn("icons-pairs:5")
    first, second = names_in(Splits(all_of_them.train, (), ()), names)
    assert first == second and len(first) == 2352
    trained = names_in(Splits(icons.train, (), ()), names)
    assert sorted(first) == sorted(sum(trained, []))
    assert sum(name in trained[0] for name in first[:100]) in range(30, 70)  # of no alphabetical order
    for domain in range(2):
        np.testing.assert_array_equal(few.train[domain], all_of_them.train[domain][:5])
        np.testing.assert_array_equal(few.test[domain], icons.test[domain])
        np.testing.assert_array_equal(few.validation[domain], icons.validation[domain])
    with pytest.raises(ValueError, match="icons-pairs:2353 needs a number from 1 to 2352: give icons-pairs:2352"):
        drawn("icons-pairs:2353")


def test_icons_are_distinct_and_not_blank(icons, names):
    # With a name for every drawing and none lost, no two outlines and no two filled forms are equal.
    assert len(names[0]) == len(names[1]) == sum(len(source[0]) for source in icons) + len(icons.train[1])
    assert all(array.min(axis=(1, 2, 3)).max() < 255 for source in icons for array in source)


def test_icons_are_black_on_white_and_antialiased(icons):
    for array in (array for source in icons for array in source):
        border = np.ones((32, 32), bool)
        border[1:-1, 1:-1] = False
        assert array[:, border].min() == 255
        assert 0.1 < ink(array).mean() < 0.4
        assert 0.05 < ((array > 0) & (array < 255)).mean() < 0.5
        assert array.min() == 0


def test_icons_filled_cover_their_outlines(icons):
    outline, filled = (ink(array) for array in icons.test)
    covered = (outline & filled).sum() / outline.sum()
    assert covered > 0.75
    for axis, step in itertools.product((1, 2), (-1, 1)):  # and no shift covers it better
        assert (outline & np.roll(filled, step, axis)).sum() / outline.sum() < covered - 0.05
    assert ink(icons.test[1]).sum() > 1.4 * ink(icons.test[0]).sum()


def test_icons_copying_scores_as_documented(icons):
    error, overlap = copying(icons)
    assert abs(error - 0.171) < 0.01 and abs(overlap - 0.460) < 0.02


@pytest.mark.parametrize("size", [0, 15])
def test_icons_refuses_small_sizes(size):
    with pytest.raises(ValueError, match=f"icons of {size} x {size} pixels .* 16 pixels or more"):
        icons_module.icons(size)
