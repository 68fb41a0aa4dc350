"""Icons as outlines and filled, drawn from two fonts that QtAwesome ships."""

import hashlib
import json
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from genjax.data import demo
from genjax.data.config import DataConfig
from genjax.data.splits import Splits


def icons(size: int) -> Splits:
    """Draws icons as outlines (A) and filled (B): uint8 [n, size, size, 1], black (0) on white (255), antialiased.

    There are 2,935 pairs from two fonts in QtAwesome, both Apache-2.0: Material Design Icons 6 and Remix Icon 2. Train
    has 1,180 outlines and 1,172 filled forms of other icons; row i of validation (148) and of test (435) shows one icon
    twice. Icons of one name are in one split, whatever their font. About 60 of Remix Icon's pairs are equal.
    """
    if size < 16:
        raise ValueError(f"icons of {size} x {size} pixels cannot be told apart: draw them with 16 pixels or more")
    pairs = _icon_pairs(size)
    outlines, filled = (np.stack([pair[i] for pair in pairs])[..., None] for i in (1, 2))
    return demo.by_role(outlines, filled, np.array([_icon_role(pair.name) for pair in pairs]))


def icon_pairs(config: DataConfig) -> Splits:
    """Draws the icons that train in `icons`, each as an outline and filled: 2,352 pairs, or N by `icons-pairs:N`.

    N pairs are among the first of more pairs. Validation and test are those of `icons`.
    """
    pairs = _icon_pairs(max(config.image_size))
    # Not by the hash that gives an icon its role: the first half of them would be outlines in `icons`.
    trained = (pair for pair in pairs if _icon_role(pair.name) in "AB")
    known = sorted(trained, key=lambda pair: _hash(f"pair {pair.name}"))
    chosen = {"train": known[: demo.count_in(config.source, len(known))]}
    for split, role in (("validation", "V"), ("test", "T")):
        chosen[split] = [pair for pair in pairs if _icon_role(pair.name) == role]
    return Splits(**{
        split: tuple(np.stack([pair[i] for pair in of])[..., None] for i in (1, 2)) for split, of in chosen.items()
    })  # fmt: skip


class IconPair(NamedTuple):
    """One icon drawn twice: uint8 [size, size] each."""

    name: str
    outline: np.ndarray
    filled: np.ndarray


# Charmap and font of any minor version (a major one would be another data set), then the endings of the names of
# outlines and of filled icons.
ICON_FONTS = (
    ("materialdesignicons6-webfont-charmap-6.*.json", "materialdesignicons6-webfont-6.*.ttf", "-outline", ""),
    ("remixicon-charmap-2.*.json", "remixicon-2.*.ttf", "-line", "-fill"),
)


def _icon_pairs(size: int) -> list[IconPair]:
    """Draws all pairs, sorted by name and font, without blank icons and outlines that occur under another name."""
    pairs: list[IconPair] = []
    for charmap, font_file, outline, filled in ICON_FONTS:
        codes = json.loads(demo.data_file("icons", "qtawesome", f"fonts/{charmap}").read_text())
        # 7/8 of the size leaves a margin, from 28 pixels up. BASIC layout, so that libraqm, if installed, is not used.
        path = demo.data_file("icons", "qtawesome", f"fonts/{font_file}")
        font = ImageFont.truetype(path, size * 7 // 8, layout_engine=ImageFont.Layout.BASIC)
        for name in (code.removesuffix(outline) for code in codes if code.endswith(outline)):
            if name + filled in codes:
                pairs.append(
                    IconPair(name, *(_glyph(font, codes[name + ending], size) for ending in (outline, filled)))
                )
    pairs.sort(key=lambda pair: pair.name)  # stable: one name's fonts stay in their order
    # A heart is also a suit of cards, a zero also an O: as two icons, one could be in train and the other in test.
    distinct = {pair.outline.tobytes(): pair for pair in reversed(pairs)}
    return [
        pair
        for pair in pairs
        if distinct[pair.outline.tobytes()] is pair and pair.outline.min() < 255 and pair.filled.min() < 255
    ]


def _glyph(font: ImageFont.FreeTypeFont, code: str, size: int) -> np.ndarray:
    """Draws the glyph of a hexadecimal code point: uint8 [size, size]."""
    # The anchor "mm" centres the em square, not the ink, so that the two forms of an icon are aligned.
    canvas = Image.new("L", (size, size), 255)
    ImageDraw.Draw(canvas).text((size / 2, size / 2), chr(int(code, 16)), fill=0, font=font, anchor="mm")
    return np.asarray(canvas)


def _icon_role(name: str) -> str:
    """Gives a name its role: T 15%, V 5%, A and B 40%."""
    percentile = _hash(name) * 100 >> 64
    return "T" if percentile < 15 else "V" if percentile < 20 else "A" if percentile < 60 else "B"


def _hash(name: str) -> int:
    """Hashes a name to 64 bits: a new version of a font moves no icon to another split."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
