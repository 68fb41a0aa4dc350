"""Completes the missing pixels of images with a trained VAE; draws several results for each image.

$ python experiments/inpaint.py --workdir runs/mnist5k --images digits --mask half-right --out completed
$ python experiments/inpaint.py --workdir runs/mnist5k --images digits --mask mask.png --out completed

It writes OUT/sample-1/NAME, ..., OUT/mean/NAME, and OUT/grid.png with a row for each image: the observed part, the
samples, their mean, and, if the mask is given by name, the original image.
"""

import dataclasses
from typing import Any

import numpy as np
import tyro

from genjax import cli, files, keys
from genjax.data import pictures
from genjax.loading import Which, load_sampler
from genjax.vae import masks, restored_files
from genjax.vae.operators import Mask

GREY = 0.5
"""Level of missing pixels in the grid."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inpaint(restored_files.RestoreOptions):
    """Options: images, mask, trained VAE and output folder."""

    images: str
    """An image, or a folder of images, of the size that the VAE was trained on."""
    mask: str
    """Missing pixels: half-left, half-right, half-top, half-bottom, square, random-0.5 (any share), rectangles; or an
    image file, white where pixels are missing."""
    which: Which = "last"
    """The last checkpoint, or the best on validation."""


def main() -> dict[str, Any]:
    """Completes all images, a batch at a time."""
    options = tyro.cli(Inpaint, description=__doc__)
    out = restored_files.check_out(options.out, options.num_samples)
    sampler = load_sampler(options.workdir, options.which)
    height, width, channels = sampler.config.data.image_shapes[0]
    remedy = f"this VAE completes images of {height}x{width}, on which it was trained: scale or cut them"
    images = restored_files.read(options.images, (height, width), channels, remedy)
    missing, by_name = _missing(options.mask, options.seed, len(images.names), (height, width))
    Mask(missing).check(images.pixels, (height, width, channels))  # check all images before the first result is written
    restored = restored_files.restore(
        sampler, lambda rows: Mask(missing[rows]), images.pixels, images, options, missing
    )
    observed = np.where(missing[..., None], GREY, images.pixels)
    truth = images.pixels if by_name else None
    restored_files.write_grid(out / "grid.png", observed, restored.first, truth)
    return {
        "images": len(missing),
        "method": options.method,
        "health": round(restored.health, 4),
        "step": sampler.step,
        "out": options.out,
        "grid": str(out / "grid.png"),
    }


def _missing(mask: str, seed: int, num: int, size: tuple[int, int]) -> tuple[np.ndarray, bool]:
    """Returns the masks [n, h, w], and True if they are given by name."""
    if not files.resolve(mask).is_file():
        key = keys.for_step(keys.root_key(seed), keys.Stream.MASK, 0)
        return masks.named(mask, key, np.arange(num), size), True
    white = pictures.to_float(pictures.read(files.resolve(mask)), 1)[..., 0] >= 0.5
    if white.shape != size:
        raise ValueError(
            f"the mask {mask} has {white.shape[0]}x{white.shape[1]} pixels, and this VAE's images {size[0]}x{size[1]}"
        )
    return np.broadcast_to(white, (num, *size)), False


if __name__ == "__main__":
    cli.run(main)
