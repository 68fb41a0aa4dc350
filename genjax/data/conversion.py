"""The one conversion from pictures to what a model sees, and back, by the settings that DataConfig records.

Training, sampling, translating and restoring all convert by `to_samples`, so they cannot disagree on transparency,
levels and channels. Training then scales the samples, and translating and restoring divide them by their maximum.
"""

import numpy as np
from PIL import Image

from genjax.data.config import DataConfig
from genjax.data.image_arrays import LUMA
from genjax.data.pictures import Picture, to_pillow, to_planes

_SHARES = {"white": 1.0, "grey": 0.5, "black": 0.0}


def to_samples(picture: Picture, config: DataConfig, domain: int = 0, bits: int | None = None) -> np.ndarray:
    """Converts a picture to what a model sees, at the picture's size: [h, w, channels] of `bits` (default: config's).

    Transparent pixels are laid on the ground, levels LOW to HIGH become all of 0 to 255 or 65535, and grey and colour
    become each other. Raises ValueError for samples that the levels or the channels are not for.
    """
    laid = opaque(picture, config, domain)
    samples = _spread(laid.pixels, _range(picture, config, domain), config.bits if bits is None else bits)
    return _with_channels(samples, config.channels[domain])


def to_floats(picture: Picture, config: DataConfig, domain: int = 0) -> np.ndarray:
    """Converts a picture to float32 [h, w, channels] in [0, 1], for translating and restoring."""
    # A picture of more than 8 bits keeps them, even if training rounded them.
    samples = to_samples(picture, config, domain, config.bits if picture.pixels.dtype == np.uint8 else 16)
    return (samples / np.iinfo(samples.dtype).max).astype(np.float32)


def from_floats(values: np.ndarray, like: Picture, config: DataConfig, domain: int = 0) -> Picture:
    """Rounds floats in [0, 1], [h, w, c], to an opaque picture with the depth of `like`.

    It has 16 bits for levels of the domain that 8 do not hold, and is float32 for those that 16 do not. Values outside
    [0, 1] are clipped. The ICC profile of `like` is kept if it fits the channels.
    """
    dtype = like.pixels.dtype
    # The inverse of `to_floats`: 0 and 1 become the ends of the levels again.
    levels = config.levels_of(domain)
    low, high = levels or (0.0, float(np.iinfo(dtype).max))
    if dtype.kind == "u" and not 0 <= low < high <= np.iinfo(dtype).max:
        dtype = np.dtype(np.uint16 if 0 <= low < high <= 65535 else np.float32)
    pixels = np.clip(values, 0, 1).astype(np.float32) * np.float32(high - low) + np.float32(low)
    pixels = (pixels if dtype.kind == "f" else np.rint(pixels)).astype(dtype)
    return Picture(pixels, icc=like.icc if pixels.shape[-1] == like.pixels.shape[-1] else None)


def with_alpha(picture: Picture, like: Picture) -> Picture:
    """Gives a picture the alpha of another of the same size, if it has one, at its own depth."""
    if like.alpha is None or picture.pixels.dtype.kind == "f":
        return picture
    alpha = _spread(like.alpha, (0, np.iinfo(like.alpha.dtype).max), 8 * picture.pixels.itemsize)
    return picture._replace(alpha=alpha)


def unit_pixels(picture: Picture, channels: int) -> np.ndarray:
    """Converts the pixels of a mask, whatever the ground and levels of a model.

    Returns [h, w, 1 or 3] in [0, 1]. Raises ValueError for other samples than grey or colour of 8 or 16 bits.
    """
    if picture.pixels.dtype.kind != "u":
        raise ValueError("its samples are floating point, signed or of 32 bits: give a picture of 8 or 16 bits")
    full = (0.0, float(np.iinfo(picture.pixels.dtype).max))
    return _with_channels(_spread(picture.pixels, full, 16), channels) / 65535


def opaque(picture: Picture, config: DataConfig, domain: int = 0) -> Picture:
    """Lays a picture on the ground, at its own depth; where a model's channels hold alpha, it becomes a channel."""
    if picture.alpha is None:
        return picture
    planes = to_planes(picture)
    if config.channels[domain] not in (1, 3):
        return Picture(planes)
    low, high = _range(picture, config, domain)
    top = np.iinfo(planes.dtype).max
    ground = int(np.clip(np.rint(low + _SHARES[config.ground] * (high - low)), 0, top))
    # Pillow can do so with 8 bits alone; deeper samples follow the same rule.
    if planes.dtype == np.uint8:
        image = to_pillow(planes)
        laid = Image.alpha_composite(Image.new("RGBA", image.size, (ground,) * 3 + (255,)), image.convert("RGBA"))
        pixels = np.asarray(laid)[..., : picture.pixels.shape[-1]]
    else:
        share = picture.alpha[..., None] / top
        pixels = np.rint(picture.pixels * share + ground * (1 - share)).astype(planes.dtype)
    return Picture(pixels, icc=picture.icc)


def _range(picture: Picture, config: DataConfig, domain: int) -> tuple[float, float]:
    """Returns the levels of a picture that become 0 and 1; ValueError if it cannot hold those that are given."""
    dtype, levels = picture.pixels.dtype, config.levels_of(domain)
    if dtype.kind != "u":
        if levels is None:
            raise ValueError(
                "its samples are floating point, signed or of 32 bits, and their range is not known: give "
                "--data.levels LOW HIGH"
            )
        return levels
    top = np.iinfo(dtype).max
    if levels is not None and levels[1] > top:
        raise ValueError(
            f"its samples end at {top}, and --data.levels {levels[0]:g} {levels[1]:g} are those of deeper images: "
            "convert it, or give other levels"
        )
    return levels or (0.0, float(top))


def _spread(pixels: np.ndarray, levels: tuple[float, float], bits: int) -> np.ndarray:
    """Maps levels LOW to HIGH to all of `bits` bits, rounded; those outside are clipped."""
    full = pixels.dtype.kind == "u" and levels == (0, np.iinfo(pixels.dtype).max)
    # All levels exactly, in integers: 65535 is 255 times 257, and 128 rounds to nearest.
    if full and pixels.dtype == np.uint8:
        return pixels if bits == 8 else pixels.astype(np.uint16) * np.uint16(257)
    if full and pixels.dtype == np.uint16:
        return pixels if bits == 16 else ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    low, high = levels
    share = ((pixels.astype(np.float64) - low) / (high - low)).clip(0, 1)
    return np.rint(share * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)


def _with_channels(samples: np.ndarray, channels: int) -> np.ndarray:
    """Makes colour of grey, grey of colour, and 1 or 3 channels of colour with one more sample."""
    num = samples.shape[-1]
    if num == channels:
        return samples
    if num not in (1, 3, 4) or channels not in (1, 3):
        raise ValueError(f"it has {num} channels, and --data.channels asks for {channels}: give {num}")
    colour = samples[..., :3]  # without a fourth sample
    if samples.dtype == np.uint8:
        converted = np.asarray(to_pillow(colour).convert("L" if channels == 1 else "RGB"))
        return converted.reshape(*samples.shape[:2], channels)
    if channels == 1:  # by the weights of Pillow's "L"
        return np.rint(colour @ np.array(LUMA))[..., None].astype(samples.dtype)
    return np.repeat(samples, 3, -1) if num == 1 else colour
