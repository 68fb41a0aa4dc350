"""TIFF files that Pillow would reduce or refuse: 16-bit colour, floating point, signed samples, any number of channels.

tifffile and imagecodecs decode and encode them; no other files need tifffile.
"""

import io
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

from genjax.data import formats
from genjax.data.imports import optional_module

_ORIENTATION = 274  # a tag
_ASSOCIATED, _UNASSOCIATED = 1, 2  # kinds of extra samples: alpha, multiplied into the colours or not


def begins(encoded: bytes) -> bool:
    """True for the bytes of a TIFF file, BigTIFF among them."""
    return encoded[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def tags(image: Image.Image) -> dict[int, Any]:
    """Returns the tags of a TIFF file by number; none for other formats."""
    return getattr(image, "tag_v2", {})


def beyond_pillow(image: Image.Image) -> bool:
    """True for a TIFF file of which Pillow would lose samples or digits."""
    found = tags(image)
    bits = max(found.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
    num = found.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
    whole = all(kind == 1 for kind in found.get(TiffImagePlugin.SAMPLEFORMAT, (1,)))  # 1: integers without a sign
    colours = found.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) in (1, 2)  # grey whose 0 is black, or RGB
    dropped = colours and found.get(TiffImagePlugin.EXTRASAMPLES, ())[:1] == (0,)  # samples that are no alpha
    return not whole or bits > 16 or (bits == 16 and num > 1) or dropped


def num_pages(encoded: bytes) -> int:
    """Counts the pages of a file that Pillow cannot open."""
    with _tifffile().TiffFile(io.BytesIO(encoded)) as file:
        return len(file.pages)


def decode(encoded: bytes, page: int, max_megapixels: int) -> tuple[np.ndarray, bool]:
    """Decodes a page to [h, w, c], upright, and tells if the last of its samples is alpha.

    Samples are uint8 or uint16; all others, signed ones among them, become float32. Raises ValueError for kinds that
    are not supported, and if tifffile or imagecodecs is missing.
    """
    with _tifffile().TiffFile(io.BytesIO(encoded)) as file:
        found = file.pages[page]
        formats.check_size((found.imagewidth, found.imagelength), max_megapixels)
        kind = getattr(found.photometric, "name", str(found.photometric))
        if kind not in ("MINISBLACK", "RGB"):
            raise ValueError(f"{found.bitspersample}-bit {kind} is not supported in TIFF files: convert it")
        if found.dtype is None or found.bitspersample not in (8, 16, 32, 64):
            raise ValueError(f"its samples have {found.bitspersample} bits, not 8, 16, 32 or 64: convert it")
        planes = found.asarray()
        extra = [int(sample) for sample in found.extrasamples]
        separate = planes.ndim == 3 and found.planarconfig == 2  # one plane after another: [c, h, w]
        orientation = found.tags.valueof(_ORIENTATION, default=1)
    if planes.ndim not in (2, 3):
        raise ValueError(f"a page holds an array {list(planes.shape)}, not an image [height, width, channels]")
    planes = np.atleast_3d(np.moveaxis(planes, 0, -1) if separate else planes)
    if planes.dtype not in (np.uint8, np.uint16):
        planes = planes.astype(np.float32)
        if not np.isfinite(planes).all():
            raise ValueError("its samples are not all finite numbers")
    alpha = planes.shape[-1] in (2, 4) and extra[-1:] in ([_ASSOCIATED], [_UNASSOCIATED]) and planes.dtype.kind == "u"
    if alpha and extra == [_ASSOCIATED]:
        planes = _unmultiplied(planes)
    return np.ascontiguousarray(upright(planes, orientation)), alpha


def encode(planes: np.ndarray, alpha: bool, icc: bytes | None) -> bytes:
    """Encodes uint8, uint16 or float32 [h, w, c]; the last plane is alpha if `alpha`."""
    num, colours = planes.shape[-1], 3 if planes.shape[-1] in (3, 4) else 1
    extra = ["unspecified"] * (num - colours - alpha) + ["unassalpha"] * alpha
    buffer = io.BytesIO()
    _tifffile().imwrite(
        buffer, np.ascontiguousarray(planes if num > 1 else planes[..., 0]), metadata=None, software=False,
        photometric="rgb" if colours == 3 else "minisblack", planarconfig="contig" if num > 1 else None,
        extrasamples=extra or None, compression="zlib", predictor=True, iccprofile=icc,
    )  # fmt: skip
    return buffer.getvalue()


def upright(planes: np.ndarray, orientation: int) -> np.ndarray:
    """Applies an EXIF orientation to [h, w, c]; numbers other than 1..8 change nothing."""
    # EXIF 2.3, tag 274: 5 to 8 swap the axes first; then rows or columns are reversed.
    if orientation in (5, 6, 7, 8):
        planes = planes.swapaxes(0, 1)
    down, right = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}.get(orientation, (1, 1))
    return planes[::down, ::right]


def _tifffile() -> ModuleType:
    """Imports tifffile, which needs imagecodecs; ValueError with the command that installs both."""
    need, install = "a TIFF file of this kind", "imagecodecs tifffile"
    optional_module("imagecodecs", need, install)
    return optional_module("tifffile", need, install)


def _unmultiplied(planes: np.ndarray) -> np.ndarray:
    """Converts premultiplied samples to plain ones; pixels with alpha 0 become black."""
    alpha, top = planes[..., -1:], np.iinfo(planes.dtype).max
    colours = np.rint(planes[..., :-1] * (float(top) / np.maximum(alpha, 1))).clip(0, top) * (alpha > 0)
    return np.concatenate([colours.astype(planes.dtype), alpha], -1)
