"""Picture files, read and written with 8 or 16 bits, in grey or colour, with or without alpha.

Training, sampling, translating and restoring all read files here, so they agree on orientation, transparency, white
stored as 0, and 16 bits. Pillow decodes and encodes everything except 16-bit colour, which sixteen_bit.py handles.
"""

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath
from PIL import ExifTags, Image, ImageFile, ImageOps, TiffImagePlugin, UnidentifiedImageError

from genjax import files
from genjax.data import sixteen_bit
from genjax.data.config import Resize
from genjax.data.image_arrays import LUMA


class _Format(NamedTuple):
    name: str  # Pillow's name
    options: dict[str, Any]  # arguments of Pillow's `save`
    alpha: bool = False  # true if files can hold alpha
    sixteen_bits: bool = False  # true if files can hold 16 bits


_JPEG = _Format("JPEG", {"quality": 95, "subsampling": 0})
_PREDICTOR = 317  # a TIFF tag; 2 stores differences along rows, which compress better
_TIFF = _Format("TIFF", {"compression": "tiff_adobe_deflate", "tiffinfo": {_PREDICTOR: 2}}, True, True)
_WRITTEN = {
    ".png": _Format("PNG", {}, True, True),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    # Lossy WebP would halve the resolution of colours; `exact` keeps colours below transparent pixels.
    ".webp": _Format("WEBP", {"lossless": True, "exact": True}, True),
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".bmp": _Format("BMP", {}),
}
_ONLY_READ = {".gif": "GIF", ".ppm": "PPM", ".pgm": "PPM"}

# Suffixes of the files that can be read and written, in lower case; capitals are read and written as well.
SUFFIXES = frozenset(_WRITTEN) | frozenset(_ONLY_READ)
WRITTEN_SUFFIXES = frozenset(_WRITTEN)


class Picture(NamedTuple):
    """Content of a picture file, upright."""

    pixels: np.ndarray  # uint8 or uint16 [h, w, 1 or 3]: grey or RGB
    alpha: np.ndarray | None = None  # opacity [h, w] in the type of the pixels, which are not multiplied by it
    icc: bytes | None = None  # ICC profile for as many channels as the pixels have


def read(path: epath.PathLike) -> Picture:
    """Reads a picture file as `decode` does, whatever its suffix; raises ValueError with path and reason."""
    try:
        return decode(epath.Path(path).read_bytes())
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises nearly anything on bad bytes
        raise ValueError(f"cannot read {path}: {str(error) or type(error).__name__}") from error


def decode(encoded: bytes) -> Picture:
    """Decodes the bytes of a picture file and applies its EXIF orientation.

    Palettes and CMYK become RGB; a transparent colour becomes alpha; white stored as 0 becomes the highest level. The
    first picture of a camera's JPEG is read (previews and gain maps follow it). Raises ValueError, or an error of
    Pillow's, for files that are damaged, truncated, of another format, animated or of several pages, and for samples
    that are signed, floating point, or of 12 or 32 bits.
    """
    # Only these formats: Pillow's others include ones that run programs, such as EPS.
    formats = [form.name for form in _WRITTEN.values()] + list(_ONLY_READ.values())
    try:
        image = Image.open(io.BytesIO(encoded), formats=formats)
    except UnidentifiedImageError as error:  # whose own message names a buffer
        raise ValueError("it is no PNG, JPEG, WebP, TIFF, BMP, GIF or PPM image of a known kind") from error
    with image:
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":  # a JPEG with previews
            raise ValueError(f"it holds {frames} frames or pages, not one")
        bits, samples = _layout(image, encoded)
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)  # before load(), which takes it from a TIFF
        image.load()  # raises on truncated files, also those that imagecodecs and tifffile decode
        if bits == 16 and samples > 1:
            picture = from_planes(sixteen_bit.decode(image, encoded, orientation))
        else:
            picture = _from_pillow(image, bits)
        return picture._replace(icc=_fitting(image.info.get("icc_profile"), picture.pixels))


def write(path: epath.PathLike, picture: Picture) -> None:
    """Writes a picture atomically, in the format of the path's suffix and at the picture's own depth.

    PNG, TIFF (deflate), WebP and BMP are lossless; JPEG is of quality 95 at full colour resolution (4:4:4). WebP has no
    grey, so grey becomes colour; BMP holds no ICC profile. Raises ValueError for alpha or depth that the format lacks.
    """
    suffix = epath.Path(path).suffix.lower()
    if suffix not in WRITTEN_SUFFIXES:
        raise ValueError(f"cannot write {path}: its suffix is none of {', '.join(sorted(WRITTEN_SUFFIXES))}")
    form, planes = _WRITTEN[suffix], to_planes(picture)
    deep = planes.dtype == np.uint16
    if picture.alpha is not None and not form.alpha:
        raise ValueError(f"cannot write {path}: {form.name} files hold no alpha")
    if deep and not form.sixteen_bits:
        raise ValueError(f"cannot write {path}: {form.name} files hold 8 bits, the image has 16")
    if deep and form.name == "TIFF" and planes.shape[-1] == 2:
        raise ValueError(f"cannot write {path}: few programs, and not Pillow, read 16-bit grey with alpha from TIFF")
    if deep and planes.shape[-1] > 1:
        encoded = sixteen_bit.encode(planes, form.name, picture.icc)
    else:
        buffer = io.BytesIO()
        to_pillow(planes).save(buffer, form.name, icc_profile=picture.icc, **form.options)
        encoded = buffer.getvalue()
    files.write_atomically(path, encoded)


def to_uint8(picture: Picture, shape: Sequence[int], resize: Resize = "cover") -> np.ndarray:
    """Converts a picture to uint8 of `shape` (height, width, channels), for training and sampling.

    16 bits are rounded to 8, transparent pixels are blended with white, and channels are converted. Then the picture is
    scaled (bicubic, antialiased) to cover the shape and cropped around the centre, or stretched to the shape.
    """
    height, width, channels = shape
    planes = to_planes(picture)
    # ORDER MATTERS: digests depend on these bytes, so keep the order of the conversions, and Pillow's filters.
    if planes.dtype == np.uint16:
        planes = ((planes.astype(np.uint32) + 128) // 257).astype(np.uint8)
    image = to_pillow(planes)
    if picture.alpha is not None:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height) and resize == "stretch":
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    elif image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
    return np.asarray(image).reshape(shape)


def to_float(picture: Picture, channels: int) -> np.ndarray:
    """Converts the pixels to float32 [h, w, channels] in [0, 1]; `channels` is 1 or 3.

    Grey becomes colour by repetition; colour becomes grey by the luma of ITU-R 601, with the weights of Pillow's "L".
    """
    pixels = picture.pixels
    if pixels.shape[-1] > channels:  # colour to grey, before rounding to float32
        pixels = (pixels @ np.array(LUMA))[..., None]
    unit = (pixels / np.iinfo(picture.pixels.dtype).max).astype(np.float32)
    return np.repeat(unit, channels // unit.shape[-1], -1)


def from_float(values: np.ndarray, like: Picture) -> Picture:
    """Rounds floats in [0, 1] to a picture with the depth and the alpha of `like`.

    `values` are [h, w, 1 or 3]; those outside are clipped. The ICC profile is kept if it fits the number of channels.
    """
    dtype = like.pixels.dtype
    pixels = np.rint(np.clip(values, 0, 1).astype(np.float32) * np.iinfo(dtype).max).astype(dtype)
    return Picture(pixels, like.alpha, _fitting(like.icc, pixels))


def from_planes(planes: np.ndarray) -> Picture:
    """Splits samples [h, w, 1 to 4] into pixels and alpha, the last of 2 or 4 planes."""
    if planes.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"its samples are {planes.dtype}, not uint8 or uint16")
    return Picture(planes[..., :-1], planes[..., -1]) if planes.shape[-1] in (2, 4) else Picture(planes)


def to_planes(picture: Picture) -> np.ndarray:
    """Joins pixels and alpha to samples [h, w, 1 to 4]."""
    pixels, alpha, _ = picture
    return pixels if alpha is None else np.concatenate([pixels, alpha[..., None]], -1)


def to_pillow(planes: np.ndarray) -> Image.Image:
    """Makes a Pillow image of samples [h, w, 1 to 4]: uint8, or uint16 of one plane."""
    return Image.fromarray(planes[..., 0] if planes.shape[-1] == 1 else planes)


def _fitting(icc: bytes | None, pixels: np.ndarray) -> bytes | None:
    """Returns the profile if it is for the pixels' channels, by the colour space in its header (ICC.1, 7.2.6)."""
    return icc if icc and icc[16:20] == (b"GRAY" if pixels.shape[-1] == 1 else b"RGB ") else None


def _layout(image: ImageFile.ImageFile, encoded: bytes) -> tuple[int, int]:
    """Bits per sample and samples per pixel by the file's header; ValueError for samples that cannot be read."""
    # Pillow's mode does not tell: it opens 16-bit colour as 8 bits.
    if image.format == "PNG":  # IHDR: bit depth and colour type are its bytes 8 and 9
        return encoded[24], {2: 3, 4: 2, 6: 4}.get(encoded[25], 1)
    if image.format == "PPM":
        args = image.tile[0].args  # a format, or a pair of it and the highest level
        deep = image.mode == "I" or (isinstance(args, tuple) and int(args[-1]) > 255)
        return 16 if deep else 8, len(image.getbands())
    if image.format != "TIFF":
        return 8, len(image.getbands())
    tags = sixteen_bit.tiff_tags(image)
    bits = max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
    if any(sample != 1 for sample in tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))):
        raise ValueError("its samples are signed or floating point")
    if bits not in (1, 2, 4, 8, 16):
        raise ValueError(f"its samples have {bits} bits, not up to 8 or 16")
    return bits, tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)


def _from_pillow(image: Image.Image, bits: int) -> Picture:
    """Copies pixels and alpha out of an image that Pillow holds at its full depth."""
    # Before exif_transpose, which returns an image without the file's tags.
    mode, key, clear = image.mode, image.info.get("transparency"), image.has_transparency_data
    white_is_0 = bits == 16 and sixteen_bit.tiff_tags(image).get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    image = ImageOps.exif_transpose(image)
    if mode.startswith("I"):
        pixels = np.asarray(image).astype(np.uint16)[..., None]
        pixels = 65535 - pixels if white_is_0 else pixels  # Pillow does so up to 8 bits only
    elif mode in ("LA", "La", "P", "PA", "RGBA", "RGBa") and clear:
        return from_planes(np.asarray(image.convert("LA" if mode in ("LA", "La") else "RGBA")))
    elif mode in ("1", "L"):
        pixels = np.asarray(image.convert("L"))[..., None]
    elif mode in ("P", "RGB", "RGBX", "CMYK", "YCbCr"):
        pixels = np.asarray(image.convert("RGB"))
    else:
        raise ValueError(f"pixels of Pillow's mode {mode} are not supported")
    if key is None or mode == "P":
        return Picture(pixels)
    # A key colour: pixels of exactly that colour are transparent, all others opaque.
    # Pillow spreads grey of 2 or 4 bits over 0..255, but not the level that stands for transparency.
    key = np.array(key) * (255 // (2**bits - 1) if mode == "L" else 1)
    return Picture(pixels, np.where((pixels == key).all(-1), 0, np.iinfo(pixels.dtype).max).astype(pixels.dtype))
