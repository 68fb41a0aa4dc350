"""Colour profiles: pixels of any profile become sRGB, once, when a file is read."""

import functools
import io
import logging
import struct
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageCms

from genjax.data.imports import optional_module

logger = logging.getLogger(__name__)


def _dated(profile: bytes) -> bytes:
    """Sets a fixed date, in place of now, so that files have the same bytes."""
    return profile[:24] + struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + profile[36:]


SRGB = _dated(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
"""Profile of sRGB, in which colour pictures are written whose file had another profile."""

_MODES = {b"GRAY": "L", b"RGB ": "RGB", b"CMYK": "CMYK"}  # Pillow's modes by the colour space in the profile's header
_NO_OPTIMISATION = 0x100  # cmsFLAGS_NOOPTIMIZE: LittleCMS's shortcuts are wrong by 15 levels for 16 bits


class _Transform(NamedTuple):
    """Conversion of a profile's colours to sRGB."""

    profile: bytes
    mode: str  # Pillow's
    to_rgb: ImageCms.ImageCmsTransform
    changes: bool  # false if it moves no colour by more than a level


def to_srgb(pixels: np.ndarray, profile: bytes | None) -> tuple[np.ndarray, bytes | None]:
    """Converts uint8 or uint16 [h, w, c] to sRGB, and returns the profile that then holds.

    Grey stays grey, with the curve of sRGB; CMYK becomes RGB. Pixels stay as they are, bit for bit, if the profile is
    for other channels, damaged (with a warning), or sRGB's own to a level. Raises ValueError if imagecodecs is missing,
    which 16 bits need.
    """
    num, mode = pixels.shape[-1], _MODES.get(profile[16:20]) if profile else None
    if not profile or mode is None or pixels.dtype.kind != "u" or num < len(mode):
        return pixels, None
    if mode == "RGB" and num > 3:  # with samples of another kind after them
        colours, found = to_srgb(pixels[..., :3], profile)
        return np.concatenate([colours, pixels[..., 3:]], -1), found
    if num > len(mode):
        return pixels, None
    transform = _transform(profile, mode)
    if transform is None or not transform.changes:
        return pixels, None if transform is None else profile
    # Grey: all levels are converted once, and looked up for each pixel.
    if mode == "L":
        levels = np.arange(np.iinfo(pixels.dtype).max + 1).astype(pixels.dtype)
        curve = _converted(transform, levels[:, None, None])[:, 0, 1:2]
        return curve[pixels[..., 0]], None
    return _converted(transform, pixels), SRGB


@functools.lru_cache(maxsize=64)
def _transform(profile: bytes, mode: str) -> _Transform | None:
    """Makes the transform; None, with a warning, for a damaged profile."""
    precision = ImageCms.Flags(_NO_OPTIMISATION if mode == "L" else 0)
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        to_rgb = ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB", flags=precision)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        logger.warning("a colour profile is damaged, so its picture is read as sRGB: %s", error)
        return None
    transform = _Transform(profile, mode, to_rgb, True)
    steps = np.arange(0, 256, 15, dtype=np.uint8)  # a coarse grid of colours, with both ends
    colours = np.stack(np.meshgrid(*[steps] * (1 if mode == "L" else 3)), -1).reshape(-1, 1, 1 if mode == "L" else 3)
    # Most photographs are tagged as sRGB, by many slightly different profiles, and rounding would change them.
    changes = mode == "CMYK" or np.abs(_converted(transform, colours) - colours.astype(int)).max() > 1
    return transform._replace(changes=bool(changes))


def _converted(transform: _Transform, pixels: np.ndarray) -> np.ndarray:
    """Converts uint8 or uint16 to RGB of the same type."""
    grey = transform.mode == "L"
    if pixels.dtype == np.uint8:
        image = Image.fromarray(pixels[..., 0]) if grey else Image.frombytes(
            transform.mode, pixels.shape[1::-1], pixels.tobytes()
        )  # fmt: skip
        return np.asarray(ImageCms.applyTransform(image, transform.to_rgb))
    codecs = optional_module("imagecodecs", "the colour profile of a 16-bit picture", "imagecodecs tifffile")
    converted: np.ndarray = codecs.cms_transform(
        pixels[..., 0] if grey else np.ascontiguousarray(pixels), transform.profile, SRGB,
        colorspace="gray" if grey else "rgb", outcolorspace="rgb", outdtype=np.uint16, flags=_NO_OPTIMISATION,
    )  # fmt: skip
    return converted
