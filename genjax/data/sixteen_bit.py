"""16-bit colour, and 16-bit grey with alpha, which Pillow would silently reduce to 8 bits.

imagecodecs (PNG) and tifffile (TIFF) decode and encode these files; no other module needs them.
"""

import io
import struct
import zlib
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

from genjax.data.imports import optional_module


def decode(image: Image.Image, encoded: bytes, orientation: int) -> np.ndarray:
    """Decodes a PNG or TIFF file to uint16 [h, w, 2 to 4], upright.

    The last of 2 or 4 planes is alpha. `image` is the same file, opened by Pillow, and `orientation` its EXIF tag.
    Raises ValueError for kinds that are not supported, and if imagecodecs or tifffile is missing.
    """
    if image.format not in ("PNG", "TIFF") or image.mode not in ("RGB", "RGBA"):
        raise ValueError(f"16-bit {image.mode} is not supported in {image.format} files")
    imagecodecs, tifffile = _codecs()
    if image.format == "PNG":
        planes = imagecodecs.png_decode(encoded)  # a transparent colour as alpha
    else:
        with tifffile.TiffFile(io.BytesIO(encoded)) as tiff:
            planes = tiff.pages[0].asarray()
            planes = np.moveaxis(planes, 0, -1) if tiff.pages[0].planarconfig == 2 else planes
        planes = planes[..., : len(image.mode)]  # a fourth plane need not be alpha
        if image.mode == "RGBA" and 1 in tiff_tags(image).get(TiffImagePlugin.EXTRASAMPLES, ()):
            planes = _unmultiplied(planes)
    return np.ascontiguousarray(_upright(planes, orientation))


def encode(planes: np.ndarray, kind: str, icc: bytes | None) -> bytes:
    """Encodes uint16 [h, w, 2 to 4] as "PNG" or "TIFF"; the last of 2 or 4 is alpha."""
    imagecodecs, tifffile = _codecs()
    planes = np.ascontiguousarray(planes)
    if kind == "PNG":
        encoded = imagecodecs.png_encode(planes)
        if icc is None:
            return encoded
        # imagecodecs writes no profile. A chunk iCCP holds its name, 0, the method 0, and the profile in zlib's format.
        chunk = b"iCCPICC profile\0\0" + zlib.compress(icc)
        framed = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        return encoded[:33] + framed + encoded[33:]  # after the signature (8 bytes) and IHDR (25)
    options = dict(photometric="rgb", planarconfig="contig", compression="zlib", predictor=True, metadata=None)
    buffer = io.BytesIO()
    extra = ["unassalpha"] if planes.shape[-1] == 4 else None
    tifffile.imwrite(buffer, planes, extrasamples=extra, iccprofile=icc, software=False, **options)
    return buffer.getvalue()


def tiff_tags(image: Image.Image) -> dict[int, Any]:
    """Returns the tags of a TIFF file by number; none for other formats."""
    return getattr(image, "tag_v2", {})


def _codecs() -> tuple[ModuleType, ModuleType]:
    """Imports imagecodecs and tifffile, which uses the former; ValueError with the command that installs them."""
    need, install = "16-bit colour, and 16-bit grey with alpha,", "imagecodecs tifffile"
    return optional_module("imagecodecs", need, install), optional_module("tifffile", need, install)


def _unmultiplied(planes: np.ndarray) -> np.ndarray:
    """Converts premultiplied uint16 RGBA to plain RGBA; pixels with alpha 0 become black."""
    alpha = planes[..., 3:]
    colours = np.rint(planes[..., :3] * (65535.0 / np.maximum(alpha, 1))).clip(0, 65535) * (alpha > 0)
    return np.concatenate([colours.astype(np.uint16), alpha], -1)


def _upright(planes: np.ndarray, orientation: int) -> np.ndarray:
    """Applies an EXIF orientation to [h, w, c]; numbers other than 1..8 change nothing."""
    # EXIF 2.3, tag 274: 5 to 8 swap the axes first; then rows or columns are reversed.
    if orientation in (5, 6, 7, 8):
        planes = planes.swapaxes(0, 1)
    down, right = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}.get(orientation, (1, 1))
    return planes[::down, ::right]
