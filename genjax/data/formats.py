"""Formats of picture files: suffixes, what each format holds, and the opening of files by Pillow."""

import contextlib
import math
import re
import struct
from collections.abc import Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from etils import epath
from PIL import Image, ImageFile

from genjax.data.imports import optional_module

MAX_MEGAPIXELS = 179
"""Megapixels that are decoded unless more are asked for; a damaged header may promise any number."""


class Unidentified(ValueError):
    """A file that Pillow cannot open."""


class Format(NamedTuple):
    """A kind of picture file, and what its files hold when they are written."""

    name: str  # Pillow's name
    suffixes: tuple[str, ...]
    options: dict[str, Any] | None = None  # arguments of Pillow's `save`; None if the format is only read
    alpha: bool = False  # true if files can hold alpha
    sixteen_bits: bool = False  # true if files can hold 16 bits


_PREDICTOR = 317  # a TIFF tag; 2 stores differences along rows, which compress better
_FORMATS = (
    Format("PNG", (".png",), {}, True, True),
    Format("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), {"quality": 95, "subsampling": 0}),
    # Lossy WebP would halve the resolution of colours; `exact` keeps colours below transparent pixels.
    Format("WEBP", (".webp",), {"lossless": True, "exact": True}, True),
    Format("TIFF", (".tif", ".tiff"), {"compression": "tiff_adobe_deflate", "tiffinfo": {_PREDICTOR: 2}}, True, True),
    Format("BMP", (".bmp",), {}),
    Format("GIF", (".gif",)),
    Format("PPM", (".ppm", ".pgm", ".pbm", ".pnm")),
    Format("AVIF", (".avif",)),
    Format("JPEG2000", (".jp2", ".j2k")),
    Format("HEIF", (".heic", ".heif")),
)
_BY_SUFFIX = {suffix: form for form in _FORMATS for suffix in form.suffixes}

SUFFIXES = frozenset(_BY_SUFFIX)
"""Suffixes of all files that can be read, in lower case; capitals are read and written as well."""

WRITTEN_SUFFIXES = frozenset(suffix for suffix, form in _BY_SUFFIX.items() if form.options is not None)
ADDED = (".png", ".tif")
"""Suffixes added to names of files whose own formats cannot hold what is written: the first that can."""

LOSSLESS_SUFFIXES = WRITTEN_SUFFIXES - {".jpg", ".jpeg", ".jpe", ".jfif"}


def opened(stream: BinaryIO, max_megapixels: int = MAX_MEGAPIXELS) -> ImageFile.ImageFile:
    """Opens a picture file as Pillow's image, not decoded yet.

    Of a HEIF file or a camera's JPEG it is the first picture. Raises ValueError for another format, for more
    megapixels, and for HEIF files without the package that reads them.
    """
    begin = stream.read(64)
    stream.seek(0)
    if re.match(rb"....ftyp.{0,48}?(hei[cmsx]|hev[cmsx])", begin, re.DOTALL):
        image = optional_module("pillow_heif", "reading HEIC files", "'genjax-images[heic]'").HeifImageFile(stream)
    else:
        image = _by_pillow(stream, begin)
    check_size(image.size, max_megapixels)
    return image


def check_size(size: Sequence[int], max_megapixels: int) -> None:
    """Raises ValueError for more pixels than `max_megapixels`."""
    megapixels = math.prod(size) / 1e6
    if megapixels > max_megapixels:
        flag = f"--max-megapixels {max_megapixels} (--data.max-megapixels of a training)"
        raise ValueError(f"its {megapixels:.1f} megapixels exceed {flag}: give a higher number")


def lacks(path: epath.PathLike, planes: np.ndarray) -> str:
    """Says why the format of the path's suffix cannot hold samples [h, w, c]; empty if it can."""
    suffix = epath.Path(path).suffix.lower()
    form = _BY_SUFFIX.get(suffix)
    if form is None or form.options is None:
        return f"its suffix is none of {', '.join(sorted(WRITTEN_SUFFIXES))}"
    num, tiff = planes.shape[-1], form.name == "TIFF"
    if planes.dtype.kind == "f" and not tiff:
        return f"{form.name} files hold no floating point"
    if num > 4 and not tiff:
        return f"{form.name} files hold no {num} channels"
    if num in (2, 4) and not form.alpha:
        return f"{form.name} files hold no alpha"
    if planes.dtype == np.uint16 and not form.sixteen_bits:
        return f"{form.name} files hold 8 bits, the image has 16"
    if planes.dtype == np.uint16 and tiff and num == 2:
        return "few programs, and not Pillow, read 16-bit grey with alpha from TIFF"
    return ""


def written_as(path: epath.Path, planes: np.ndarray) -> epath.Path:
    """Returns the path of a file that holds the samples: `path`, or with .png or .tif added to its name."""
    candidates = [path.with_name(path.name + added) for added in ("", *ADDED)]
    return next(candidate for candidate in candidates if not lacks(candidate, planes))


def of(path: epath.PathLike) -> Format:
    """Returns the format of the path's suffix, which has to be one of SUFFIXES."""
    return _BY_SUFFIX[epath.Path(path).suffix.lower()]


def _by_pillow(stream: BinaryIO, begin: bytes) -> ImageFile.ImageFile:
    """Opens a file as Image.open does, without its limit of pixels, which is one for the whole process."""
    Image.init()
    # Only these formats: Pillow's others include ones that run programs, such as EPS.
    for name in (form.name for form in _FORMATS if form.name in Image.OPEN):
        make, accepts = Image.OPEN[name]
        if accepts is None or accepts(begin) is True:
            # The bytes may begin as this format does, and not be of it.
            with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):
                return make(stream, "")
    raise Unidentified(
        f"it is no {', '.join(form.name for form in _FORMATS[:-1])} or HEIF image of a known kind: convert it"
    )
