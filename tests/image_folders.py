"""Folders of images that are one grey level each, and the levels in which they are loaded."""

import dataclasses
import io

import numpy as np
from PIL import Image

from genjax.data import sources


def encode(pixels, kind="PNG", **options):
    """The bytes of an image file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def flat(level, *shape, dtype=np.uint8):
    """An image that is one level all over."""
    return np.full(shape or (8, 8), level, dtype)


def numbered(folder_name, first, num):
    """Names and grey levels of files in a folder."""
    return {f"{folder_name}/{i:02d}.png": first + i for i in range(num)}


def load(root, config, **changes):
    """The images of one domain, split by split."""
    splits = sources.load(dataclasses.replace(config, source=f"folder:{root}", **changes), seed=0)
    return [array for (array,) in splits]


def load_two(root, config, channels=(3, 3), **changes):
    """The grey levels of each domain's images, split by split."""
    changed = dataclasses.replace(config, source=f"folder:{root}", channels=channels, **changes)
    return [levels(source) for source in sources.load(changed, seed=0)]


def levels(arrays):
    """The grey level of each image, in rising order, array by array."""
    return [sorted(array[:, 0, 0, 0].tolist()) for array in arrays]
