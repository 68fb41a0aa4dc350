"""Masks, named or painted in an editor: bool arrays, True where a pixel is missing."""

import re
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array

from genjax import keys
from genjax.data import conversion, scaling
from genjax.data.config import DataConfig
from genjax.data.pictures import Picture

NAMES = "half-left, half-right, half-top, half-bottom, square, random-SHARE (as random-0.5), rectangles"


def named(name: str, key: Array, position: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Makes the masks [n, height, width] called `name` for images at `position` [n], random ones from `key`.

    half-...: that half is missing. square: a central rectangle with half of the height and width is missing.
    random-SHARE: that share of the pixels is missing, rounded to whole pixels. rectangles: three rectangles with sides
    of a quarter to half of the image's are missing. Raises ValueError for another name, and for a share that hides no
    pixels or all.
    """
    (height, width), num = size, len(position)
    rows, columns = np.arange(height)[:, None], np.arange(width)[None]
    share = re.fullmatch(r"random-(\d*\.?\d+)", name)
    if share:
        count = round(float(share[1]) * height * width)
        if not 0 < count < height * width:
            raise ValueError(f"mask {name} hides {count} of {height * width} pixels: give a share between 0 and 1")
        return _random(key, position, count, size)
    if name == "rectangles":
        return _rectangles(key, position, size)
    fixed = {
        "half-left": columns < width // 2,
        "half-right": columns >= width - width // 2,
        "half-top": rows < height // 2,
        "half-bottom": rows >= height - height // 2,
        "square": _inside(rows, height // 4, height // 2) & _inside(columns, width // 4, width // 2),
    }
    if name not in fixed:
        raise ValueError(f"no mask or file is called {name!r}: give {NAMES}, or the path of a picture")
    return np.broadcast_to(fixed[name], (num, height, width))


BRUSH = 0.1  # largest difference within a channel between pixels of one colour, of 1
STRAY = 0.3  # share of a coloured picture's pixels that may be of neither of two colours: blurred edges, JPEG's noise


def painted(picture: Picture) -> tuple[np.ndarray, str]:
    """Returns the mask [h, w] that a picture shows, and what is missing by it, in words.

    White is missing in an opaque picture, and transparent in one that is not: something was erased. A transparent
    layer with strokes of one colour is the opposite, as the strokes are the mask. Raises ValueError for an opaque
    photograph in colour.
    """
    if picture.alpha is None or (opaque := _is_high(picture.alpha)).all():
        white = conversion.unit_pixels(picture, 1)[..., 0] >= 0.5
        _check_two_colours(conversion.unit_pixels(picture, 3), white)
        return white, "white"
    colours = conversion.unit_pixels(picture, 3)[opaque]
    if len(colours) and np.ptp(colours, axis=0).max() <= BRUSH and colours.max() > 0.2:  # black is what was kept
        return opaque, "painted"
    return ~opaque, "transparent"


def erased(picture: Picture) -> np.ndarray | None:
    """Returns the mask [h, w] of a picture's own transparent pixels; None if it has no alpha channel."""
    return None if picture.alpha is None else ~_is_high(picture.alpha)


def scaled(missing: np.ndarray, size: tuple[int, int], data: DataConfig) -> np.ndarray:
    """Scales a mask [H, W] as the model sees a picture of `size`.

    A pixel is missing if any part of it is. A mask of the model's size is for what the model sees. A mask of the
    picture's proportions lies over the picture, and any other is scaled by itself.
    """
    windows = _windows(missing, size, data)
    return _covered(missing, [np.linspace(*ends, new + 1) for new, ends in zip(data.image_size, windows, strict=True)])


def over(missing: np.ndarray, size: tuple[int, int], data: DataConfig) -> np.ndarray:
    """Lays a mask [H, W] over a picture of `size`, by the rules of `scaled`: [*size].

    Pixels that the model does not see are not missing.
    """
    part = seen_pixels(size, data)
    places = zip(part, _seen(size, data), _windows(missing, size, data), strict=True)
    edges = [np.interp(np.arange(one.start, one.stop + 1), shown, ends) for one, shown, ends in places]
    laid = np.zeros(size, bool)
    laid[part] = _covered(missing, edges)
    return laid


def seen_pixels(size: tuple[int, int], data: DataConfig) -> tuple[slice, slice]:
    """Returns rows and columns of a picture of `size` that a VAE sees: all of one of its own size."""
    rows, columns = (slice(round(begin), round(end)) for begin, end in _seen(size, data))
    return rows, columns


def _seen(size: tuple[int, int], data: DataConfig) -> list[tuple[float, float]]:
    return [(0, side) for side in size] if size == data.image_size else scaling.seen(size, data)


def _windows(missing: np.ndarray, size: tuple[int, int], data: DataConfig) -> list[tuple[float, float]]:
    """Computes the part of a mask over what the model sees: begin and end in rows, and columns."""
    if missing.shape == data.image_size:
        return [(0, side) for side in missing.shape]
    alike = abs(missing.shape[0] * size[1] - missing.shape[1] * size[0]) <= max(size)  # up to a rounded side
    size = size if alike else (missing.shape[0], missing.shape[1])
    steps = [side / own for side, own in zip(missing.shape, size, strict=True)]
    return [(begin * step, end * step) for step, (begin, end) in zip(steps, _seen(size, data), strict=True)]


def _covered(missing: np.ndarray, edges: Sequence[np.ndarray]) -> np.ndarray:
    """Marks each cell between `edges`, those of rows and of columns, that a missing pixel reaches into."""
    for axis, ends in enumerate(edges):
        # An edge that reaches into a pixel by rounding alone does not count.
        first, last = np.floor(ends[:-1] + 1e-6).astype(int), np.ceil(ends[1:] - 1e-6).astype(int)
        # Running sums: they differ at the ends of a cell if a missing pixel lies between.
        before = np.insert(missing.cumsum(axis), 0, 0, axis)
        missing = before.take(last, axis) > before.take(first, axis)
    return missing


def _check_two_colours(pixels: np.ndarray, white: np.ndarray) -> None:
    """Raises ValueError for a picture [h, w, 3] in many colours, which `white` would part anywhere."""
    parts = [pixels[part] for part in (white, ~white) if part.any()]
    stray = sum((np.abs(part - np.median(part, axis=0)).max(-1) > BRUSH).sum() for part in parts) / white.size
    if stray > STRAY and (np.ptp(pixels, axis=-1) > BRUSH).mean() > 0.1:
        raise ValueError(
            f"it is a picture in colour, not a mask: {stray:.0%} of its pixels are of neither of two colours. Give a "
            "picture that is white where a pixel is missing and black elsewhere, or transparent where one is missing, "
            "or a transparent layer with strokes of one colour"
        )


def _is_high(alpha: np.ndarray) -> np.ndarray:
    return alpha > np.iinfo(alpha.dtype).max // 2


def _inside(places: np.ndarray, start: np.ndarray | int, length: np.ndarray | int) -> np.ndarray:
    return (places >= start) & (places < start + length)


def _random(key: Array, position: np.ndarray, count: int, size: tuple[int, int]) -> np.ndarray:
    # Hide the pixels with the smallest numbers: exactly `count`, and any set of them is equally likely.
    num_pixels = size[0] * size[1]
    uniform = keys.uniform(keys.per_example(key, jnp.asarray(position)), (num_pixels,))
    order = np.argsort(np.asarray(uniform), axis=1, kind="stable")
    missing = np.zeros(order.shape, bool)
    np.put_along_axis(missing, order[:, :count], True, axis=1)
    return missing.reshape(-1, *size)


def _rectangles(key: Array, position: np.ndarray, size: tuple[int, int], num: int = 3) -> np.ndarray:
    uniform = keys.uniform(keys.per_example(key, jnp.asarray(position)), (num, 2, 2))
    length_share, place = np.moveaxis(np.asarray(uniform), -1, 0)  # [n, rectangles, side]
    length = np.floor(np.array(size) * (0.25 + 0.25 * length_share)).astype(int).clip(1)
    start = np.floor(place * (np.array(size) - length + 1)).astype(int)
    # A pixel is in a rectangle if its row is and its column is: [n, rectangles, h] and [n, rectangles, w].
    covered = [_inside(np.arange(side), start[..., i, None], length[..., i, None]) for i, side in enumerate(size)]
    return np.any(covered[0][..., :, None] & covered[1][..., None, :], axis=1)
