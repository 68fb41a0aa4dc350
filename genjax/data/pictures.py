"""Single image files of any size, read and written at their own depth: 8 or 16 bit, grey or colour, with alpha or not.

Pillow reads and writes all but 16-bit colour, which it would silently reduce to 8 bits: that is left to imagecodecs
(PNG) and tifffile (TIFF), which only such files need: `pip install imagecodecs tifffile`.
"""

import io
import struct
import zlib
from typing import Any, NamedTuple

import numpy as np
from etils import epath
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from genjax import files
from genjax.data.image_arrays import LUMA

# Per suffix: Pillow's name of the format, how it is saved, whether it holds alpha, whether it holds 16 bits. WebP is
# saved lossless, for lossy WebP halves the resolution of the colours; `exact` keeps those under transparent pixels.
_TIFF: dict[str, Any] = {"compression": "tiff_adobe_deflate", "tiffinfo": {317: 2}}  # 317: horizontal predictor
_JPEG: dict[str, Any] = {"quality": 95, "subsampling": 0}
_FORMATS: dict[str, tuple[str, dict[str, Any], bool, bool]] = {
    ".png": ("PNG", {}, True, True),
    ".jpg": ("JPEG", _JPEG, False, False),
    ".jpeg": ("JPEG", _JPEG, False, False),
    ".webp": ("WEBP", {"lossless": True, "exact": True}, True, False),
    ".tif": ("TIFF", _TIFF, True, True),
    ".tiff": ("TIFF", _TIFF, True, True),
    ".bmp": ("BMP", {}, False, False),
}

SUFFIXES = frozenset(_FORMATS)
"""The suffixes, in lower case, of the files that can be written; in capitals they do as well."""


class ImageFile(NamedTuple):
    """What an image file holds, upright."""

    pixels: np.ndarray
    """uint8 or uint16 [h, w, 1 or 3]; grey or RGB."""
    alpha: np.ndarray | None = None
    """Opacity, of the same type, [h, w]; the pixels are not multiplied by it."""
    icc: bytes | None = None
    """ICC profile, which is one for as many channels as the pixels have."""


def read(path: epath.PathLike) -> ImageFile:
    """Reads an image file, whatever its suffix, turned as its EXIF tag says.

    Palettes and CMYK become RGB, a transparent colour becomes alpha; of several pictures in a camera's JPEG (previews,
    gain maps) the first is read. Raises ValueError with the path for anything else: files that are missing, damaged,
    truncated, of another format, animated or of several pages, or whose samples are not unsigned of up to 8 or 16 bits.
    """
    try:
        return _decode(epath.Path(path).read_bytes())
    except UnidentifiedImageError as error:  # whose own message names a buffer
        raise ValueError(f"cannot read {path}: it is no PNG, JPEG, WebP, TIFF or BMP image of a known kind") from error
    except Exception as error:  # Pillow raises nearly anything on bad bytes
        raise ValueError(f"cannot read {path}: {str(error) or type(error).__name__}") from error


def write(path: epath.PathLike, image: ImageFile) -> None:
    """Writes an image in the format of the path's suffix, whole or not at all, at the image's own depth.

    PNG, TIFF (deflate), WebP and BMP are lossless; JPEG is of quality 95 at full colour resolution (4:4:4). WebP has no
    grey, so that becomes colour; BMP holds no ICC profile. Raises ValueError for what the format cannot hold.
    """
    pixels, alpha, icc = image
    planes = pixels if alpha is None else np.concatenate([pixels, alpha[..., None]], -1)
    suffix = epath.Path(path).suffix.lower()
    deep = pixels.dtype == np.uint16
    if suffix not in SUFFIXES:
        raise ValueError(f"cannot write {path}: its suffix is none of {', '.join(sorted(SUFFIXES))}")
    kind, options, holds_alpha, holds_16_bits = _FORMATS[suffix]
    if alpha is not None and not holds_alpha:
        raise ValueError(f"cannot write {path}: {kind} files hold no alpha")
    if deep and not holds_16_bits:
        raise ValueError(f"cannot write {path}: {kind} files hold 8 bits, the image has 16")
    if deep and kind == "TIFF" and planes.shape[-1] == 2:
        raise ValueError(f"cannot write {path}: few programs, and not Pillow, read 16-bit grey with alpha from TIFF")
    if deep and planes.shape[-1] > 1:
        files.write_atomically(path, _encode_deep(planes, kind, icc))
    else:
        buffer = io.BytesIO()
        flat = planes[..., 0] if planes.shape[-1] == 1 else planes
        Image.fromarray(flat).save(buffer, kind, icc_profile=icc, **options)
        files.write_atomically(path, buffer.getvalue())


def to_float(image: ImageFile, channels: int) -> np.ndarray:
    """The pixels as float32 [h, w, channels] in [0, 1], `channels` being 1 or 3.

    Grey becomes colour by repetition; colour becomes grey by the luma of ITU-R 601, with the weights of Pillow's "L".
    """
    pixels = image.pixels
    if pixels.shape[-1] > channels:
        pixels = (pixels @ np.array(LUMA))[..., None]
    unit = (pixels / np.iinfo(image.pixels.dtype).max).astype(np.float32)
    return np.repeat(unit, channels // unit.shape[-1], -1)


def from_float(values: np.ndarray, like: ImageFile) -> ImageFile:
    """Floats [h, w, 1 or 3] in [0, 1] as an image of the depth and with the alpha of `like`, rounded to nearest.

    Values outside are clipped. The ICC profile is kept if it is one for as many channels as the values have.
    """
    dtype = like.pixels.dtype
    pixels = np.rint(np.clip(values, 0, 1).astype(np.float32) * np.iinfo(dtype).max).astype(dtype)
    return ImageFile(pixels, like.alpha, _fitting(like.icc, pixels))


def _fitting(icc: bytes | None, pixels: np.ndarray) -> bytes | None:
    """The profile if it is for the pixels' channels, going by the colour space in its header (ICC.1, 7.2.6)."""
    return icc if icc and icc[16:20] == (b"GRAY" if pixels.shape[-1] == 1 else b"RGB ") else None


def _decode(encoded: bytes) -> ImageFile:
    with Image.open(io.BytesIO(encoded), formats=[kind for kind, *_ in _FORMATS.values()]) as image:
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":  # a JPEG with previews
            raise ValueError(f"it holds {frames} frames or pages, not one")
        bits, samples = _layout(image, encoded)
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)  # before load(), which takes it from a TIFF
        image.load()  # raises on truncated files, also those that imagecodecs and tifffile shall decode
        if bits == 16 and samples > 1:
            pixels, alpha = _decode_deep(image, encoded, orientation)
        else:
            pixels, alpha = _arrays(image, bits)
        return ImageFile(pixels, alpha, _fitting(image.info.get("icc_profile"), pixels))


def _layout(image: Image.Image, encoded: bytes) -> tuple[int, int]:
    """Bits per sample and samples per pixel, by the file's own header; ValueError for samples that cannot be read."""
    if image.format == "PNG":
        return encoded[24], {2: 3, 4: 2, 6: 4}.get(encoded[25], 1)
    if image.format != "TIFF":
        return 8, len(image.getbands())
    tags = image.tag_v2  # type: ignore[attr-defined]
    bits = max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
    if any(sample != 1 for sample in tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))):
        raise ValueError("its samples are signed or floating point")
    if bits not in (1, 2, 4, 8, 16):
        raise ValueError(f"its samples have {bits} bits")
    return bits, tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)


def _arrays(image: Image.Image, bits: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels [h, w, 1 or 3] and alpha [h, w] of an image that Pillow holds at its full depth."""
    mode, key, clear = image.mode, image.info.get("transparency"), image.has_transparency_data
    white_is_0 = bits == 16 and image.format == "TIFF" and image.tag_v2.get(262) == 0  # type: ignore[attr-defined]
    image = ImageOps.exif_transpose(image)
    if mode.startswith("I;16"):
        pixels = np.asarray(image).astype(np.uint16)[..., None]
        pixels = 65535 - pixels if white_is_0 else pixels  # Pillow does so up to 8 bits only
    elif mode in ("LA", "La", "P", "PA", "RGBA", "RGBa") and clear:
        planes = np.asarray(image.convert("LA" if mode in ("LA", "La") else "RGBA"))
        return planes[..., :-1], planes[..., -1]
    elif mode in ("1", "L"):
        pixels = np.asarray(image.convert("L"))[..., None]
    elif mode in ("P", "RGB", "RGBX", "CMYK", "YCbCr"):
        pixels = np.asarray(image.convert("RGB"))
    else:
        raise ValueError(f"pixels of Pillow's mode {mode} are not supported")
    if key is None or mode == "P":
        return pixels, None
    # Pillow spreads grey of 2 or 4 bits over 0..255, but not the level that stands for transparency.
    key = np.array(key) * (255 // (2**bits - 1) if mode == "L" else 1)
    return pixels, np.where((pixels == key).all(-1), 0, np.iinfo(pixels.dtype).max).astype(pixels.dtype)


def _codecs() -> tuple[Any, Any]:
    """The modules imagecodecs and tifffile; ValueError with the command that installs them."""
    try:
        import imagecodecs
        import tifffile
    except ImportError as error:
        raise ValueError(
            f"16-bit colour, and 16-bit grey with alpha, needs `pip install imagecodecs tifffile` ({error})"
        ) from error
    return imagecodecs, tifffile


def _decode_deep(image: Image.Image, encoded: bytes, orientation: int) -> tuple[np.ndarray, np.ndarray | None]:
    """uint16 pixels [h, w, 1 or 3] and alpha [h, w] of an image that Pillow would reduce to 8 bits."""
    if image.mode not in ("RGB", "RGBA"):
        raise ValueError(f"16-bit {image.mode} is not supported")
    imagecodecs, tifffile = _codecs()
    if image.format == "PNG":
        planes = imagecodecs.png_decode(encoded)  # a transparent colour as alpha
    else:
        with tifffile.TiffFile(io.BytesIO(encoded)) as tiff:
            planes = tiff.pages[0].asarray()
            planes = np.moveaxis(planes, 0, -1) if tiff.pages[0].planarconfig == 2 else planes
        planes = planes[..., : len(image.mode)]  # the fourth may be something else than alpha
        if image.mode == "RGBA" and 1 in image.tag_v2.get(TiffImagePlugin.EXTRASAMPLES, ()):  # type: ignore[attr-defined]
            planes = _unmultiplied(planes)
    planes = np.ascontiguousarray(_upright(planes, orientation))
    return (planes, None) if planes.shape[-1] == 3 else (planes[..., :-1], planes[..., -1])


def _unmultiplied(planes: np.ndarray) -> np.ndarray:
    """uint16 RGBA [h, w, 4] whose colours were multiplied by alpha, as they were before; black where it is 0."""
    alpha = planes[..., 3:]
    colours = np.rint(planes[..., :3] * (65535.0 / np.maximum(alpha, 1))).clip(0, 65535) * (alpha > 0)
    return np.concatenate([colours.astype(np.uint16), alpha], -1)


def _upright(planes: np.ndarray, orientation: int) -> np.ndarray:
    """Turns [h, w, c] as the EXIF orientation says; what is no orientation (1..8) turns nothing."""
    if orientation in (5, 6, 7, 8):
        planes = planes.swapaxes(0, 1)
    down, right = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}.get(orientation, (1, 1))
    return planes[::down, ::right]


def _encode_deep(planes: np.ndarray, kind: str, icc: bytes | None) -> bytes:
    """uint16 [h, w, 2, 3 or 4] as PNG or TIFF, the last of an even number of planes being alpha."""
    imagecodecs, tifffile = _codecs()
    planes = np.ascontiguousarray(planes)
    if kind == "PNG":
        encoded = imagecodecs.png_encode(planes)
        if icc is None:
            return encoded
        chunk = b"iCCPICC profile\0\0" + zlib.compress(icc)  # which imagecodecs cannot write
        framed = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        return encoded[:33] + framed + encoded[33:]  # after the signature (8 bytes) and IHDR (25)
    options = dict(photometric="rgb", planarconfig="contig", compression="zlib", predictor=True, metadata=None)
    buffer = io.BytesIO()
    extra = ["unassalpha"] if planes.shape[-1] == 4 else None
    tifffile.imwrite(buffer, planes, extrasamples=extra, iccprofile=icc, software=False, **options)
    return buffer.getvalue()
