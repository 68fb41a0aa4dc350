"""Images as feature networks take them: floats in [0, 1], of a number of channels, resized as clean-fid does."""

import numpy as np
from PIL import Image

from genjax.data import image_arrays

BICUBIC = Image.Resampling.BICUBIC


def check_channels(found: int, channels: int) -> None:
    """Raises ValueError with the remedy if images of `found` channels are neither grey nor have `channels`."""
    if found not in (1, channels):
        raise ValueError(
            f"these features see images of {channels} channel(s), or grey ones, and these have {found}: take the "
            "features pixels, or classifier:FILE trained on such images"
        )


def with_channels(images: np.ndarray, channels: int) -> np.ndarray:
    """Returns images [n, h, w, c] with `channels` channels: grey is repeated; ValueError for other numbers."""
    check_channels(images.shape[-1], channels)
    return np.broadcast_to(images, (*images.shape[:-1], channels))


def resized(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes images [n, h, w, c] to `size` (height, width): bicubic, antialiased, as float32 in [0, 1].

    Channels are resized as floats and nothing is rounded to 8 bits, as in clean-fid (Parmar, Zhang and Zhu 2022). Takes
    what `image_arrays.unit_floats` does, and raises its errors.
    """
    floats = image_arrays.unit_floats(images)
    if floats.shape[1:3] == tuple(size):
        return floats
    planes = np.moveaxis(floats, -1, 1).reshape(-1, *floats.shape[1:3])  # [n * c, h, w]
    found = np.stack([np.asarray(Image.fromarray(plane).resize(size[::-1], BICUBIC)) for plane in planes])
    # The bicubic filter has negative lobes, so that values may leave [0, 1] at edges.
    return np.moveaxis(found.clip(0, 1).reshape(len(floats), -1, *size), 1, -1)
