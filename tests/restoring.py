"""Pictures for a VAE of 8x8 grey images to restore, and a quick way to sample."""

import numpy as np
from PIL import Image

from genjax.data import pictures
from genjax.data.pictures import Picture
from random_pictures import pixels

QUICK = ("--method", "importance", "--inference.num-proposals", "10", "--num-samples", "3")

FILES = {
    "grey.png": Picture(pixels(8, 8, 1)),
    "below/deep.tif": Picture(pixels(8, 8, 1, np.uint16)),
    "below/alpha.webp": Picture(np.repeat(pixels(8, 8, 1), 3, -1), pixels(8, 8, 1)[..., 0]),
    "grey as colour.bmp": Picture(np.repeat(pixels(8, 8, 1), 3, -1)),
}


def write_all(folder):
    """Writes `FILES` and a photograph."""
    for name, image in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pictures.write(folder / name, image)
    Image.fromarray(pixels(8, 8, 1)[..., 0]).save(folder / "photo.jpg")
    return folder


def saved(tmp_path, array, alpha=None):
    """A picture file in a new folder."""
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}" / "picture.png"
    path.parent.mkdir()
    pictures.write(path, Picture(array, alpha))
    return path
