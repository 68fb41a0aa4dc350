"""Images as arrays: value ranges, grids, PNG files."""

import io
from collections.abc import Sequence
from typing import Literal

import numpy as np
from etils import epath
from jax import Array
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION

from genjax import files

LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in grey (ITU-R BT.601), as Pillow has them."""


def to_unit(images: Array) -> Array:
    """Maps uint8 in 0..255 to floats in [0, 1]."""
    return images.astype(float) / 255


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Maps floats in [0, 1] to uint8 in 0..255, rounding to nearest; values outside are clipped."""
    return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)


def unit_floats(images: np.ndarray) -> np.ndarray:
    """uint8 images, or floats in [0, 1], as float32 in [0, 1]; ValueError for other types and values."""
    if images.dtype == np.uint8:
        return images.astype(np.float32) / 255
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(f"expected uint8 images or floats in [0, 1], got {images.dtype}")
    if images.size and not (images.min() >= 0 and images.max() <= 1):
        raise ValueError(f"expected floats in [0, 1], got {images.min()} to {images.max()}")
    return images.astype(np.float32)


def check(images: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Returns `images` if they are uint8 [n, *shape]; otherwise raises ValueError with both shapes."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != tuple(shape):
        raise ValueError(
            f"expected uint8 images [n, {', '.join(map(str, shape))}], got {images.dtype} {list(images.shape)}"
        )
    return images


def grid(images: np.ndarray, columns: int, gap: int = 2) -> np.ndarray:
    """Lays uint8 images [n, h, w, c] out row by row on a grey ground, `gap` pixels apart: [H, W, c]."""
    num, height, width, channels = images.shape
    rows = -(-num // columns)
    canvas = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, channels), 160, np.uint8)
    for i, image in enumerate(images):
        top, left = gap + i // columns * (height + gap), gap + i % columns * (width + gap)
        canvas[top : top + height, left : left + width] = image
    return canvas


def encode_png(image: np.ndarray) -> bytes:
    """PNG bytes of a uint8 image [h, w, 1 or 3]."""
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, "PNG")
    return buffer.getvalue()


def write_png(path: epath.PathLike, image: np.ndarray) -> None:
    """Writes a uint8 image [h, w, 1 or 3] as PNG."""
    files.write_atomically(path, encode_png(image))


def decode(encoded: bytes, shape: Sequence[int], resize: Literal["cover", "stretch"] = "cover") -> np.ndarray:
    """Decodes an image file's bytes to uint8 of `shape` (height, width, channels), as `fit` does.

    Raises an error of Pillow's for bad bytes.
    """
    with Image.open(io.BytesIO(encoded)) as image:
        return fit(image, shape, resize)


def fit(image: Image.Image, shape: Sequence[int], resize: Literal["cover", "stretch"] = "cover") -> np.ndarray:
    """A Pillow image as uint8 of `shape` (height, width, channels).

    It is turned as its EXIF tag says, converted to grey or colour and scaled (bicubic, antialiased): to cover the
    shape, and is then cropped around the centre, or stretched to it. 16-bit grey is brought to 8 bits; what is
    transparent is laid on white. Raises ValueError for samples that are signed, floating point, or of 12 or 32 bits.
    """
    height, width, channels = shape
    image = _in_8_bits(image) if image.mode.startswith(("I", "F")) else ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height) and resize == "stretch":
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    elif image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
    return np.asarray(image).reshape(shape)


def _in_8_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits, upright. Pillow would clip it at 255, and knows neither of white as 0 nor of a clear level.

    Raises ValueError for samples of another kind.
    """
    tags = image.tag_v2 if image.format == "TIFF" else {}  # type: ignore[attr-defined]
    if image.mode == "F" or (tags and (image.mode == "I" or tags.get(BITSPERSAMPLE) != (16,))):
        raise ValueError("its samples are signed, floating point, or of 12 or 32 bits, not unsigned of 8 or 16")
    white_is_0 = tags.get(PHOTOMETRIC_INTERPRETATION) == 0
    clear = image.info.get("transparency")
    levels = np.asarray(ImageOps.exif_transpose(image), np.int64)
    levels = 65535 - levels if white_is_0 else levels
    levels = levels if clear is None else np.where(levels == clear, 65535, levels)
    return Image.fromarray(((levels + 128) // 257).clip(0, 255).astype(np.uint8))
