"""Enlarges images by 2, 4 or 8 with a trained VAE; draws several results for each image.

$ python experiments/super_resolve.py --workdir runs/mnist5k --images small --factor 4 --out large
$ python experiments/super_resolve.py --workdir runs/mnist5k --images digits --factor 4 --scale-down --out large

It writes OUT/sample-1/NAME, ..., OUT/mean/NAME, and OUT/grid.png with a row for each image: the given image, the
samples, their mean, and with --scale-down the original image. Scaled down again, each sample equals the given image.
Results have the size on which the VAE was trained: with --scale-down, an image is first scaled to that size as in
training, then down by the factor. Lossy formats are written as PNG, with .png added to the name. The health that is
printed, from 0 to 1, tells how far the draws can be trusted: experiments/results/restoration.md says what it is for
each method, and what the diagnostics beside it are that methods with chains have.
"""

import dataclasses
from typing import Any

import numpy as np
import tyro

from genjax import cli, flag_help
from genjax.evaluation import image_metrics
from genjax.loading import Which, load_sampler, with_limit
from genjax.vae import restored_files
from genjax.vae.operators import Downsample, Kernel


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuperResolve(restored_files.RestoreOptions):
    """Options: images, factor, trained VAE and output folder."""

    images: tuple[str, ...]
    """Images, and folders of images, of the VAE's size divided by the factor."""
    factor: int
    """2, 4 or 8: factor by which height and width grow."""
    kernel: Kernel = "box"
    """Filter by which the images were scaled down: means over blocks, or Pillow's bicubic filter."""
    scale_down: bool = False
    """Takes images of any size, scales them as training does and then down, to compare the results with them."""
    which: Which = "last"
    """The last checkpoint, the best on validation, or that of a step."""
    max_megapixels: cli.MaxMegapixels = None


def main() -> dict[str, Any]:
    """Enlarges all images, a batch at a time."""
    options = tyro.cli(SuperResolve, description=flag_help.description(__doc__))
    out = restored_files.check_out(options.out, options.num_samples)
    sampler = load_sampler(options.workdir, options.which)
    data = with_limit(sampler.config.data, options.max_megapixels)
    height, width = data.image_size
    factor, operator = options.factor, Downsample(options.factor, options.kernel)
    small_size = operator.small_size((height, width))
    remedy = (
        f"this VAE enlarges {small_size[0]}x{small_size[1]} by {factor} to the {height}x{width} on which it was "
        "trained; images of any size can be scaled down first, with --scale-down"
    )
    size = (height, width) if options.scale_down else small_size
    images = restored_files.read(options.images, size, data, None if options.scale_down else remedy)
    small, truth = images.pixels, None
    if options.scale_down:
        small, truth = np.clip(operator.apply(images.pixels), 0, 1).astype(np.float32), images.pixels
    restored = restored_files.restore(sampler, lambda rows: operator, small, images, options)
    blocks = small.repeat(factor, axis=1).repeat(factor, axis=2)
    restored_files.write_grid(out / "grid.png", blocks, restored.first, truth)
    consistency = image_metrics.psnr(operator.apply(restored.one), small).min()
    return {
        "images": len(small),
        "method": options.method,
        "health": round(restored.health, 4),
        **restored.chains,
        "least_consistency_db": round(float(min(consistency, 200.0)), 1),
        "step": sampler.step,
        "out": options.out,
        "grid": str(out / "grid.png"),
    }


if __name__ == "__main__":
    cli.run(main)
