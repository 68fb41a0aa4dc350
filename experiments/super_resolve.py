"""Enlarges images by 2, 4 or 8 to the size that a VAE was trained on; draws several alternatives.

$ python experiments/super_resolve.py --workdir runs/mnist5k --images small --factor 4 --out large
$ python experiments/super_resolve.py --workdir runs/mnist5k --images digits --factor 4 --scale-down --out large

Writes OUT/sample-1/NAME, ..., OUT/mean/NAME, and OUT/grid.png with a row for each image: what was given, the samples,
their mean, and with --scale-down the image itself. Scaled down again, each sample is the given image.
"""

import dataclasses
from typing import Any

import numpy as np
import tyro
from tqdm import tqdm

import restored_pictures
from genjax import cli, keys
from genjax.evaluation import image_metrics
from genjax.loading import load_sampler
from genjax.vae import inference, restoration


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuperResolve:
    """What to enlarge, with what, and where to."""

    workdir: restored_pictures.Workdir
    images: str
    """An image, or a folder of images, of the VAE's size divided by the factor."""
    factor: int
    """2, 4 or 8: how many times the height and the width grow."""
    out: restored_pictures.Out
    kernel: restoration.Kernel = "box"
    """How the images were scaled down: by means over blocks, or by Pillow's bicubic filter."""
    scale_down: bool = False
    """The images have the VAE's size, and are scaled down first: to see how near it comes."""
    num_samples: restored_pictures.Samples = 8
    method: restored_pictures.Method = "auto"
    seed: restored_pictures.Seed = 0
    which: restored_pictures.Which = "last"
    effort: inference.Effort = restoration.DEFAULT_EFFORT


def main() -> dict[str, Any]:
    """Enlarges all images, a batch at a time."""
    options = tyro.cli(SuperResolve, description=__doc__)
    out = restored_pictures.check_out(options.out, options.num_samples)
    sampler = load_sampler(options.workdir, options.which)
    config, factor, kernel = sampler.config, options.factor, options.kernel
    restoration.check_factor(config, factor)
    height, width, channels = config.data.image_shapes[0]
    small_size = (height // factor, width // factor)
    why = (
        f"this VAE enlarges {small_size[0]}x{small_size[1]} by {factor} to the {height}x{width} on which it was "
        "trained; images of that size can be scaled down first, with --scale-down"
    )
    size = (height, width) if options.scale_down else small_size
    pictures = restored_pictures.read(options.images, size, channels, why)
    given = pictures.pixels
    if options.scale_down:
        given = np.clip(restoration.downsample(given, factor, kernel), 0, 1).astype(np.float32)

    samples, health, consistency, num = [], [], [], len(given)
    for begin in tqdm(range(0, num, restored_pictures.BATCH), unit="batch", disable=None):
        rows = slice(begin, begin + restored_pictures.BATCH)
        restored = restoration.super_resolve(
            config, sampler.params, keys.root_key(options.seed), given[rows], factor, kernel, options.method,
            options.num_samples, options.effort, np.arange(num)[rows],
        )  # fmt: skip
        for i, values in enumerate(restored.images, begin):
            restored_pictures.write(out, pictures.names[i], values, pictures.files[i], None)
        samples.append(restored.images[: max(0, restored_pictures.GRID_ROWS - begin)])
        health.append(restored.health)
        consistency.append(
            image_metrics.psnr(restoration.downsample(restored.images[:, 0], factor, kernel), given[rows])
        )
    shown = np.concatenate(samples)
    blocks = given[: len(shown)].repeat(factor, axis=1).repeat(factor, axis=2)
    truth = [pictures.pixels[: len(shown)]] if options.scale_down else []
    restored_pictures.write_grid(out / "grid.png", [blocks, *shown.swapaxes(0, 1), shown.mean(axis=1), *truth])
    return {
        "images": num, "method": restored.method, "health": round(float(np.median(np.concatenate(health))), 4),
        "least_consistency_db": round(float(min(np.concatenate(consistency).min(), 200.0)), 1),
        "step": sampler.step, "out": options.out, "grid": str(out / "grid.png"),
    }  # fmt: skip


if __name__ == "__main__":
    cli.run(main)
