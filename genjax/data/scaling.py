"""Scales of pictures: from pixels of any size to those that --data.resize asks for, and crops of them."""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageOps

from genjax.data.config import DataConfig

BICUBIC = Image.Resampling.BICUBIC


class TooSmallError(ValueError):
    """A picture has fewer rows or columns than a model's images."""

    def __init__(self, height: int, width: int) -> None:
        """Keeps the size of the picture."""
        super().__init__(f"{height}x{width}")
        self.size = (height, width)


def to_scale(pixels: np.ndarray, config: DataConfig) -> np.ndarray:
    """Scales uint8 or uint16 [h, w, c] as `config.resize` says (bicubic, antialiased).

    The result covers `config.image_size`, and is of that size unless `config.crops`: training and evaluation crop it.
    """
    if _by_pillow_fit(config):
        height, width = config.image_size
        return _filtered(pixels, lambda image: ImageOps.fit(image, (width, height), BICUBIC), (height, width))
    height, width = _scaled_size(pixels.shape[:2], config)
    return _filtered(pixels, lambda image: image.resize((width, height), BICUBIC), (height, width))


def seen(size: Sequence[int], config: DataConfig) -> list[tuple[float, float]]:
    """Computes which part of a picture of `size` `evaluated` shows: begin and end in rows, and in columns."""
    if _by_pillow_fit(config):
        # Pillow's fit: a centred crop in the model's proportions, which may begin between pixels.
        lengths = [new / factor for new, factor in zip(config.image_size, _factors(size, config), strict=True)]
        return [((own - length) / 2, (own + length) / 2) for own, length in zip(size, lengths, strict=True)]
    # Otherwise scaled whole, and cropped at whole pixels; here in pixels of the picture itself.
    parts = zip(size, _scaled_size(size, config), config.image_size, strict=True)
    places = [(own / whole, (whole - new) // 2, new) for own, whole, new in parts]
    return [(begin * step, (begin + new) * step) for step, begin, new in places]


def _by_pillow_fit(config: DataConfig) -> bool:
    # Older than crops. Digests depend on these bytes, of a crop between pixels.
    return not config.crops and config.resize == "cover"


def _scaled_size(size: Sequence[int], config: DataConfig) -> list[int]:
    parts = zip(config.image_size, size, _factors(size, config), strict=True)
    return [max(least, round(own * factor)) for least, own, factor in parts]


def _factors(size: Sequence[int], config: DataConfig) -> tuple[float, float]:
    """Computes the factors by which the height and width of a picture of `size` are scaled."""
    # By load_size, if there is one, but never below what covers image_size.
    ratios = [
        [new / own for new, own in zip(to, size, strict=True)] for to in (config.load_size, config.image_size) if to
    ]
    (by_height, by_width), needed = ratios[0], max(ratios[-1])
    if config.resize == "stretch":
        return by_height, by_width
    # In proportion, and never below what covers the model's images.
    factor = max({"cover": max(by_height, by_width), "width": by_width, "none": 1.0}[config.resize], needed)
    return factor, factor


def evaluated(pixels: np.ndarray, config: DataConfig) -> np.ndarray:
    """Scales pixels [h, w, c] as in training, and crops `config.image_size` around the centre."""
    scaled, size = to_scale(pixels, config), config.image_size
    top, left = ((whole - part) // 2 for whole, part in zip(scaled.shape, size, strict=False))
    return scaled[top : top + size[0], left : left + size[1]]


def check_large_enough(pixels: np.ndarray, config: DataConfig) -> None:
    """Raises TooSmallError if pixels [h, w, c] would be enlarged to `config.image_size` unasked."""
    height, width = pixels.shape[:2]
    if (height < config.image_size[0] or width < config.image_size[1]) and not config.upscale:
        raise TooSmallError(height, width)


def check_pair(sizes: Sequence[tuple[int, int]], names: Sequence[str], config: DataConfig) -> None:
    """Raises ValueError for two pictures, of these sizes, of which `evaluated` shows parts that differ by a pixel."""
    # Begin and end in rows, and in columns, as shares of the picture: [2, 2].
    first, second = (np.array(seen(size, config)) / np.array(size)[:, None] for size in sizes)
    pixel = np.diff(first) / np.array(config.image_size)[:, None]
    if (np.abs(first - second) > pixel).any():
        pictures = " and ".join(f"{name} ({size[0]}x{size[1]})" for name, size in zip(names, sizes, strict=True))
        raise ValueError(
            f"--data.paired compares pictures that show the same, and --data.resize {config.resize} shows other parts "
            f"of {pictures}: make them of one size, or give --data.resize stretch"
        )


def too_small(sizes: Sequence[tuple[int, int]], total: int, config: DataConfig) -> str:
    """Says that the pictures of these `sizes`, of `total`, are too small, and which flag helps."""
    wanted = config.image_size
    height, width = (min(size) for size in zip(wanted, *sizes, strict=True))
    smallest = min(sizes, key=lambda size: size[0] * size[1])
    which = (
        f"{smallest[0]}x{smallest[1]}, smaller than" if len(set(sizes)) == 1
        else f"smaller (one is {smallest[0]}x{smallest[1]}) than"
    )  # fmt: skip
    smaller = f"give --data.image-size {height} {width} (or --data.upscale)"
    few = 2 * len(sizes) < total  # a small size for the sake of a few pictures would spoil the others
    remedy = f"remove them, or {smaller}" if few else smaller
    return f"{len(sizes)} of {total} pictures are {which} --data.image-size {wanted[0]}x{wanted[1]}: {remedy}"


def _filtered(
    pixels: np.ndarray, scale: Callable[[Image.Image], Image.Image], size: tuple[int, int]
) -> np.ndarray:  # fmt: skip
    """Applies a function of a Pillow image, which scales it to `size`, to pixels [h, w, c]."""
    if pixels.shape[:2] == size:
        return pixels
    if pixels.dtype == np.uint8 and pixels.shape[-1] in (1, 3):
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        return np.asarray(scale(image)).reshape(*size, pixels.shape[-1])
    # Pillow holds other depths and numbers of channels only one plane at a time, 16 bits as floats.
    kind = np.uint8 if pixels.dtype == np.uint8 else np.float32
    planes = [np.asarray(scale(Image.fromarray(plane.astype(kind)))) for plane in np.moveaxis(pixels, -1, 0)]
    highest = np.iinfo(pixels.dtype).max
    return np.rint(np.clip(np.stack(planes, axis=-1), 0, highest)).astype(pixels.dtype)
