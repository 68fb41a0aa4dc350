"""Arrays of images: value ranges, grids, PNG files."""

import io
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from etils import epath
from jax import Array
from PIL import Image

from genjax import files

A = TypeVar("A", np.ndarray, Array)

LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in grey (ITU-R BT.601), as in Pillow


def to_unit(images: Array) -> Array:
    """Maps uint8 or uint16 to floats in [0, 1]."""
    return images.astype(float) / np.iinfo(images.dtype).max  # float is float32, or float64 if JAX is set to it


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Maps floats in [0, 1] to uint8 in 0..255, rounding to nearest and clipping; uint8 images stay as they are."""
    if images.dtype == np.uint8:
        return images
    return np.rint(np.clip(np.nan_to_num(images), 0, 1) * 255).astype(np.uint8)  # NaN is black


def unit_floats(images: np.ndarray) -> np.ndarray:
    """Maps uint8 or uint16 images, or floats in [0, 1], to float32 in [0, 1]. Raises ValueError for any others."""
    if images.dtype in (np.uint8, np.uint16):
        return images.astype(np.float32) / np.iinfo(images.dtype).max
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(f"expected uint8 or uint16 images or floats in [0, 1], got {images.dtype}")
    if images.size and not (images.min() >= 0 and images.max() <= 1):  # so that NaN fails too
        raise ValueError(f"expected floats in [0, 1], got {images.min()} to {images.max()}")
    return images.astype(np.float32, copy=False)


def check(images: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Returns `images` if they are uint8 or uint16 [n, *shape]; otherwise raises ValueError with both shapes."""
    check_array(images)
    if images.dtype not in (np.uint8, np.uint16) or images.ndim != 4 or images.shape[1:] != tuple(shape):
        wanted = ", ".join(map(str, shape))
        raise ValueError(
            f"expected uint8 or uint16 images [n, {wanted}], got {images.dtype} {list(images.shape)}"
            + (": a single one is image[None]" if images.shape == tuple(shape) else "")
        )
    return images


def one(image: np.ndarray) -> np.ndarray:
    """Returns one image [h, w, c] as [1, h, w, c]; ValueError for another number of axes."""
    check_array(image)
    if image.ndim != 3:
        raise ValueError(f"expected one image [h, w, c], got {list(image.shape)}: choose one with images[i]")
    return image[None]


def check_array(images: object) -> None:
    """Raises ValueError for anything but an array, such as a list of images or a picture of Pillow."""
    if not isinstance(images, np.ndarray | Array):
        raise ValueError(f"expected an array of images, got {type(images).__name__}: give np.stack of equal ones")


def evenly_spaced(images: np.ndarray, num: int) -> np.ndarray:
    """Chooses `num` images of [n, ...], first and last included. If there are fewer, it takes all, and none twice."""
    return images[np.linspace(0, len(images) - 1, min(num, len(images))).astype(int)]


def shown(images: A) -> A:
    """Returns what a picture shows of images [..., c]: one channel, or the first three; of two the first."""
    return images[..., : 3 if images.shape[-1] >= 3 else 1]


def enlarged(images: np.ndarray, least: int = 64) -> np.ndarray:
    """Repeats pixels in both directions, until the longer side has `least` or more. Images are [n, h, w, c]."""
    times = -(-least // max(images.shape[1:3]))  # rounded up
    return images.repeat(times, axis=1).repeat(times, axis=2)


def grid(images: np.ndarray, columns: int, gap: int = 2) -> np.ndarray:
    """Lays uint8 images [n, h, w, c] out in rows on grey, `gap` pixels apart: [H, W, c]."""
    num, height, width, channels = images.shape
    columns = min(columns, num)
    rows = -(-num // columns)  # rounded up
    canvas = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, channels), 160, np.uint8)
    for i, image in enumerate(images):
        top, left = gap + i // columns * (height + gap), gap + i % columns * (width + gap)
        canvas[top : top + height, left : left + width] = image
    return canvas


def encode_png(image: np.ndarray) -> bytes:
    """Encodes a uint8 image [h, w, c] as PNG, `shown` in grey or colour."""
    buffer, image = io.BytesIO(), shown(image)
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, "PNG")
    return buffer.getvalue()


def read_png(path: epath.Path) -> np.ndarray:
    """Reads a PNG file that `write_png` wrote: uint8 [h, w, c]."""
    image = np.asarray(Image.open(io.BytesIO(path.read_bytes())))
    return image if image.ndim == 3 else image[..., None]


def encode_animation(frames: Sequence[np.ndarray], milliseconds: int = 80) -> bytes:
    """Encodes uint8 images [h, w, c] as an endless WebP animation without loss, `shown` in grey or colour."""
    buffer = io.BytesIO()
    first, *others = (Image.fromarray(np.broadcast_to(frame, (*frame.shape[:2], 3))) for frame in map(shown, frames))
    first.save(buffer, "WEBP", save_all=True, append_images=others, duration=milliseconds, loop=0, lossless=True)
    return buffer.getvalue()


def write_png(path: epath.PathLike, image: np.ndarray) -> None:
    """Writes a uint8 image [h, w, c] to a PNG file as `shown`, whole or not at all."""
    files.write_atomically(path, encode_png(image))
