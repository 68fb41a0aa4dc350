"""Picture files, read as they are and written without loss: pixels, alpha, and the profile of their colours.

Every way in (training, sampling, translating, restoring) reads files here, so all agree on orientation, palettes, white
stored as 0, colour profiles, and 16 bits; conversion.py then makes them what a model sees. Pillow decodes and encodes
everything but what deep_png.py and tiff.py say.
"""

import io
import sys
from typing import NamedTuple

import numpy as np
from etils import epath
from PIL import ExifTags, Image, ImageFile, ImageOps, TiffImagePlugin

from genjax import files
from genjax.data import deep_png, formats, icc, tiff

SUFFIXES, WRITTEN_SUFFIXES = formats.SUFFIXES, formats.WRITTEN_SUFFIXES


class Picture(NamedTuple):
    """Content of a picture file, upright; colours are sRGB."""

    pixels: np.ndarray  # [h, w, c], 1 for grey, 3 for RGB, or any number from TIFF: uint8, uint16 or float32
    alpha: np.ndarray | None = None  # opacity [h, w] in the type of the pixels, which are not multiplied by it
    icc: bytes | None = None  # profile to write with the pixels, if the file had one that fits them


def read(path: epath.PathLike, page: int | None = None, max_megapixels: int = formats.MAX_MEGAPIXELS) -> Picture:
    """Reads a picture file as `decode` does, whatever its suffix; raises ValueError with path and reason."""
    try:
        return decode(epath.Path(path).read_bytes(), page, max_megapixels)
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises nearly anything on bad bytes
        raise ValueError(f"cannot read {path}: {str(error) or type(error).__name__}") from error


def size(path: epath.Path, page: int | None = None, max_megapixels: int = formats.MAX_MEGAPIXELS) -> tuple[int, int]:
    """Returns height and width of what `read` would return, by the file's header if Pillow knows its format."""
    try:
        with path.open("rb") as stream, formats.opened(stream, max_megapixels) as image:
            _check_page(_num_pages(image), page)
            image.seek(page or 0)
            width, height = image.size
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
            return (width, height) if turned else (height, width)
    except formats.Unidentified:
        height, width, _ = read(path, page, max_megapixels).pixels.shape
        return height, width
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises nearly anything on bad bytes
        raise ValueError(f"cannot read {path}: {str(error) or type(error).__name__}") from error


def count_pages(path: epath.Path) -> int:
    """Counts pages or frames of a file without decoding it.

    For a file that cannot be read it is 1: reading it then says why.
    """
    try:
        with path.open("rb") as stream:
            try:
                with formats.opened(stream, sys.maxsize) as image:
                    return _num_pages(image)
            except formats.Unidentified:
                stream.seek(0)
                return tiff.num_pages(stream.read())
    except MemoryError:
        raise
    except Exception:  # Pillow raises nearly anything on bad bytes
        return 1


def decode(encoded: bytes, page: int | None = None, max_megapixels: int = formats.MAX_MEGAPIXELS) -> Picture:
    """Decodes the bytes of a picture file, applies its EXIF orientation, and converts its colours to sRGB.

    Palettes and CMYK become RGB; a transparent colour becomes alpha; white stored as 0 becomes the highest level. The
    first picture of a camera's JPEG is read (previews and gain maps follow it), and otherwise `page`. Raises
    ValueError, or an error of Pillow's, for files that are damaged, truncated, too large or of another format, and for
    those of several pages or frames if `page` is None.
    """
    try:
        image = formats.opened(io.BytesIO(encoded), max_megapixels)
    except formats.Unidentified:
        if not tiff.begins(encoded):
            raise
        _check_page(tiff.num_pages(encoded), page)
        return _from_planes(*tiff.decode(encoded, page or 0, max_megapixels))
    with image:
        _check_page(_num_pages(image), page)
        if page:
            image.seek(page)
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)  # before load(), which takes it from a TIFF
        deep_tiff = tiff.beyond_pillow(image)
        bits, samples = (0, 0) if deep_tiff else _layout(image, encoded)  # by what load() forgets
        image.load()  # raises on truncated files, also those that imagecodecs and tifffile decode
        if deep_tiff:
            picture = _from_planes(*tiff.decode(encoded, page or 0, max_megapixels))
        elif bits == 16 and samples > 1:
            if image.format != "PNG":
                raise ValueError(f"16-bit {image.mode} is not supported in {image.format} files: convert it to PNG")
            picture = from_planes(np.ascontiguousarray(tiff.upright(deep_png.decode(encoded), orientation)))
        else:
            picture = _from_pillow(image, bits)
        pixels, profile = icc.to_srgb(picture.pixels, picture.icc or image.info.get("icc_profile"))
        return picture._replace(pixels=pixels, icc=profile)


def write(path: epath.PathLike, picture: Picture) -> None:
    """Writes what `encode` makes of a picture, whole or not at all."""
    files.write_atomically(path, encode(path, picture))


def encode(path: epath.PathLike, picture: Picture) -> bytes:
    """Encodes a picture for the file `path`, in the format of its suffix and at the picture's own depth.

    PNG, TIFF (deflate), WebP and BMP are lossless; JPEG is of quality 95 at full colour resolution (4:4:4). WebP has no
    grey, so grey becomes colour; BMP holds no ICC profile. Raises ValueError for what the format cannot hold.
    """
    planes = to_planes(picture)
    if why := formats.lacks(path, planes):
        raise ValueError(f"cannot write {path}: {why}")
    form, num = formats.of(path), planes.shape[-1]
    by_pillow = planes.dtype == np.uint8 and num <= 4 or planes.dtype == np.uint16 and num == 1
    if by_pillow:
        buffer = io.BytesIO()
        to_pillow(planes).save(buffer, form.name, icc_profile=picture.icc, **form.options or {})
        return buffer.getvalue()
    if form.name == "PNG":
        return deep_png.encode(planes, picture.icc)
    return tiff.encode(planes, picture.alpha is not None, picture.icc)


def written_as(path: epath.Path, picture: Picture) -> epath.Path:
    """Returns the path of a file that can hold the picture: `path`, or with .png or .tif added."""
    return formats.written_as(path, to_planes(picture))


def from_planes(planes: np.ndarray) -> Picture:
    """Splits uint8 or uint16 [h, w, 1 to 4] into pixels and alpha, the last of 2 or 4 planes."""
    if planes.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"its samples are {planes.dtype}, not uint8 or uint16")
    return _from_planes(planes, planes.shape[-1] in (2, 4))


def to_planes(picture: Picture) -> np.ndarray:
    """Joins pixels and alpha to samples [h, w, c]."""
    pixels, alpha, _ = picture
    return pixels if alpha is None else np.concatenate([pixels, alpha[..., None]], -1)


def to_pillow(planes: np.ndarray) -> Image.Image:
    """Makes a Pillow image of samples [h, w, 1 to 4]: uint8, or uint16 of one plane."""
    return Image.fromarray(planes[..., 0] if planes.shape[-1] == 1 else planes)


def _from_planes(planes: np.ndarray, alpha: bool) -> Picture:
    return Picture(planes[..., :-1], planes[..., -1]) if alpha else Picture(planes)


def _num_pages(image: ImageFile.ImageFile) -> int:
    """Counts pages or frames, without those that follow the picture in files of cameras."""
    return 1 if image.format in ("MPO", "HEIF") else getattr(image, "n_frames", 1)


def _check_page(number: int, page: int | None) -> None:
    if number > 1 and page is None:
        raise ValueError(
            f"it holds {number} frames or pages, not one: a training with --data.pages all takes each as an image"
        )


def _layout(image: ImageFile.ImageFile, encoded: bytes) -> tuple[int, int]:
    """Bits per sample and samples per pixel by the file's header; ValueError for samples that cannot be read."""
    # Pillow's mode does not tell: it opens 16-bit colour as 8 bits.
    samples = len(image.getbands())
    if image.format == "PNG":  # IHDR: bit depth and colour type are its bytes 8 and 9
        return encoded[24], {2: 3, 4: 2, 6: 4}.get(encoded[25], 1)
    if image.format == "PPM":
        args = image.tile[0].args  # a format, or a pair of it and the highest level
        deep = image.mode == "I" or (isinstance(args, tuple) and int(args[-1]) > 255)
        return 16 if deep else 8, samples
    if image.format != "TIFF":
        return 16 if image.mode.startswith("I") else 8, samples
    bits = max(tiff.tags(image).get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
    if bits not in (1, 2, 4, 8, 16):
        raise ValueError(f"its samples have {bits} bits, not up to 8 or 16: convert it")
    return bits, samples


def _from_pillow(image: Image.Image, bits: int) -> Picture:
    """Copies pixels and alpha out of an image that Pillow holds at its full depth."""
    # Before exif_transpose, which returns an image without the file's tags.
    mode, key, clear = image.mode, image.info.get("transparency"), image.has_transparency_data
    white_is_0 = bits == 16 and tiff.tags(image).get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    image = ImageOps.exif_transpose(image)
    profile = None
    if mode.startswith("I"):
        pixels = np.asarray(image).astype(np.uint16)[..., None]
        pixels = 65535 - pixels if white_is_0 else pixels  # Pillow does so up to 8 bits only
    elif mode in ("LA", "La", "P", "PA", "RGBA", "RGBa") and clear:
        return from_planes(np.asarray(image.convert("LA" if mode in ("LA", "La") else "RGBA")))
    elif mode in ("1", "L"):
        pixels = np.asarray(image.convert("L"))[..., None]
    elif mode == "CMYK":
        pixels, profile = icc.to_srgb(np.asarray(image), image.info.get("icc_profile"))
        pixels = pixels if profile else np.asarray(image.convert("RGB"))
    elif mode in ("P", "RGB", "RGBX", "YCbCr"):
        pixels = np.asarray(image.convert("RGB"))
    else:
        raise ValueError(f"pixels of Pillow's mode {mode} are not supported: convert it to RGB")
    if key is None or mode == "P":
        return Picture(pixels, icc=profile)
    # A key colour: pixels of exactly that colour are transparent, all others opaque.
    # Pillow spreads grey of 2 or 4 bits over 0..255, but not the level that stands for transparency.
    key = np.array(key) * (255 // (2**bits - 1) if mode == "L" else 1)
    return Picture(pixels, np.where((pixels == key).all(-1), 0, np.iinfo(pixels.dtype).max).astype(pixels.dtype))
