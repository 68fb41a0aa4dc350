"""Drawn faces in colour whose parts are named factors, from the artwork of python-avatars."""

import io
from collections.abc import Sequence
from importlib import metadata

import numpy as np
from PIL import Image

from genjax.data import decoding, demo
from genjax.data.config import DataConfig
from genjax.data.decoding import LazyImages
from genjax.data.imports import optional_module
from genjax.data.pictures import Picture
from genjax.data.splits import Splits

# Values of each factor, by the names that python-avatars uses. The first value is 0 in the labels.
FACTORS = {
    "hair": ("no_hair", "short_flat", "short_waved", "short_curly", "bun", "bob", "curly", "fro", "long_not_too_long",
             "straight_strand"),
    "hair_colour": ("BLACK", "BROWN_DARK", "AUBURN", "BLONDE_GOLDEN", "RED", "SILVER_GRAY", "PASTEL_PINK"),
    "skin": ("PALE", "LIGHT", "BROWN", "DARK_BROWN", "BLACK"),
    "glasses": ("", "prescription_02", "round", "sunglasses"),
    "hat": ("", "hat", "turban", "winter_hat_1", "winter_hat_3"),
    "beard": ("", "beard_light", "beard_medium", "moustache_magnum"),
    "mouth": ("smile", "twinkle", "serious", "sad", "disbelief", "tongue"),
    "eyes": ("default", "happy", "closed", "surprised", "side", "squint"),
    "clothes": ("shirt_crew_neck", "shirt_v_neck", "hoodie", "overall", "collar_sweater", "blazer_shirt"),
    "clothes_colour": ("BLUE_02", "BLUE_03", "GRAY_02", "PASTEL_GREEN", "PASTEL_YELLOW", "PINK", "RED"),
}  # fmt: skip
NAMES = tuple(FACTORS)
"""Columns of the labels."""
HAIR, HAIR_COLOUR, GLASSES, HAT, BEARD = (NAMES.index(name) for name in NAMES[:2] + ("glasses", "hat", "beard"))

OFTEN = {"glasses": 3, "hat": 12, "beard": 4}  # the first value is so many times as likely as each other value
ADDED = FACTORS["glasses"].index("prescription_02")  # dark frames, through which the eyes are seen

DEFAULT_COUNT, LEAST, MOST = 5000, 20, 1_000_000
FRAME = "20 8 224 224"  # the square of the drawing that is shown: left, top, width, height
GROUND = "#ffffff"


def faces(config: DataConfig) -> Splits:
    """Draws faces: uint8 [n, size, size, 3], 8/10, 1/10 and 1/10 of the N in `faces:N`, or of 5,000.

    The artwork is Pablo Stanley's Avataaars, from python-avatars (MIT). No two faces have the same factors. Face i does
    not depend on N, and stays in its split.
    """
    return decoding.decode(listed(config), config)


def labels(config: DataConfig) -> Splits:
    """Loads the factors of each face as int32 [n, 10]: an index into the values of FACTORS in each column.

    Hair is 0, none, under a hat; its colour is 0 where there is neither hair nor beard.
    """
    return Splits(**{split: tuple(tables) for split, tables in _tables(config).items()})


def _tables(config: DataConfig) -> dict[str, list[np.ndarray]]:
    """Chooses the faces of each split and domain, as rows of factors; of two domains the second wears glasses."""
    name, pairs = config.source.partition(":")[0], config.source.startswith("faces-glasses-pairs")
    count = DEFAULT_COUNT if pairs else demo.count_in(config.source, MOST, LEAST, DEFAULT_COUNT)
    table = _distinct(count, bare=name != "faces")
    tenth = np.arange(len(table)) % 10
    splits = {"train": table[tenth < 8], "validation": table[tenth == 8], "test": table[tenth == 9]}
    if name == "faces":
        return {split: [rows] for split, rows in splits.items()}
    found = {split: [rows, _with(rows, GLASSES, ADDED)] for split, rows in splits.items()}
    if pairs:
        num = demo.count_in(config.source, len(splits["train"]))
        return found | {"train": [rows[:num] for rows in found["train"]]}
    # Every second face: no face trains in both domains, so pairs are seen in validation and test alone.
    return found | {"train": [rows[domain::2] for domain, rows in enumerate(found["train"])]}


def _distinct(count: int, bare: bool) -> np.ndarray:
    """Draws the factors of `count` different faces, int32 [count, 10], without glasses if `bare`."""
    # Raw words of Philox: the same in every NumPy version. One face in thousands repeats; twice as many is plenty.
    words = np.random.Philox(np.random.SeedSequence(0)).random_raw(2 * count * len(NAMES)).reshape(-1, len(NAMES))
    extra = np.array([OFTEN.get(name, 1) - 1 for name in NAMES], np.uint64)
    sizes = np.array([len(values) for values in FACTORS.values()], np.uint64) + extra
    table = np.maximum((words % sizes).astype(np.int32) - extra.astype(np.int32), 0)
    if bare:
        table = _with(table, GLASSES, 0)
    # Before repeats are removed: what nobody sees must not tell two faces apart.
    table[table[:, HAT] > 0, HAIR] = 0
    table[(table[:, HAIR] == 0) & (table[:, BEARD] == 0), HAIR_COLOUR] = 0
    # Of equal faces the first one drawn, so that face i is the same for any count.
    first = np.unique(table, axis=0, return_index=True)[1]
    return table[np.sort(first)[:count]]


def _with(table: np.ndarray, column: int, value: int) -> np.ndarray:
    changed = table.copy()
    changed[:, column] = value
    return changed


def listed(config: DataConfig) -> list[LazyImages]:
    """Lists the faces of each domain, not drawn yet; ValueError as for `faces`."""
    tables = _tables(config)
    for package in ("python_avatars", "resvg_py"):
        optional_module(package, f"source {config.source}", demo.INSTALL)
    size = max(config.image_size)
    if size < 16:
        raise ValueError(f"faces of {size} x {size} pixels cannot be told apart: draw them with 16 pixels or more")
    versions = [FRAME, GROUND, *(metadata.version(package) for package in ("python-avatars", "resvg-py"))]
    return [
        LazyImages(
            items={split: [tuple(row) for row in domains[domain].tolist()] for split, domains in tables.items()},
            name=lambda face: f"the face {named(face)}",
            open=lambda face: Picture(render(face, size)),
            identity=lambda face: ["faces", size, named(face), versions],
        )
        for domain in range(len(tables["train"]))
    ]


def named(face: Sequence[int]) -> dict[str, str]:
    """Names the values of a face's factors: a row of the labels."""
    return {name: values[value] for (name, values), value in zip(FACTORS.items(), face, strict=True)}


def render(face: Sequence[int], size: int) -> np.ndarray:
    """Draws a face, a row of the labels: uint8 [size, size, 3], antialiased, on white."""
    import python_avatars as avatars
    import resvg_py

    parts = named(face)
    colour = avatars.ClothingColor[parts["clothes_colour"]]
    hair_colour = avatars.HairColor[parts["hair_colour"]]
    svg = avatars.Avatar(
        top=avatars.HatType(parts["hat"]) if parts["hat"] else avatars.HairType(parts["hair"]),
        hat_color=colour,
        hair_color=hair_colour,
        facial_hair=avatars.FacialHairType(parts["beard"]),
        facial_hair_color=hair_colour,
        skin_color=avatars.SkinColor[parts["skin"]],
        accessory=avatars.AccessoryType(parts["glasses"]),
        mouth=avatars.MouthType(parts["mouth"]),
        eyes=avatars.EyeType(parts["eyes"]),
        clothing=avatars.ClothingType(parts["clothes"]),  # without it python-avatars would take one at random
        clothing_color=colour,
    ).render()
    svg = svg.replace('width="264px" height="280px" viewBox="0 0 264 280"', f'viewBox="{FRAME}"', 1)
    # Without fonts, which no face has: loading those of the system takes longer than drawing.
    encoded = resvg_py.svg_to_bytes(svg, width=size, height=size, background=GROUND, skip_system_fonts=True)
    with Image.open(io.BytesIO(bytes(encoded))) as image:
        return np.asarray(image.convert("RGB"))
