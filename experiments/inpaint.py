"""Completes images, where a mask says that pixels are missing, with a trained VAE; draws several alternatives.

$ python experiments/inpaint.py --workdir runs/mnist5k --images digits --mask half-right --out completed
$ python experiments/inpaint.py --workdir runs/mnist5k --images digits --mask mask.png --out completed

Writes OUT/sample-1/NAME, ..., OUT/mean/NAME, and OUT/grid.png with a row for each image: what is observed, the samples,
their mean, and with a mask by name the image itself, which the VAE did not see there.
"""

import dataclasses
from typing import Any

import numpy as np
import tyro
from tqdm import tqdm

import restored_pictures
from genjax import cli, files, keys
from genjax.data import pictures
from genjax.loading import load_sampler
from genjax.vae import inference, masks, restoration

GREY = 0.5
"""What the grid shows where pixels are missing."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inpaint:
    """What to complete, with what, and where to."""

    workdir: restored_pictures.Workdir
    images: str
    """An image, or a folder of images, of the size that the VAE was trained on."""
    mask: str
    """half-left, half-right, half-top, half-bottom (what is missing), square, random-0.5 (any share), rectangles; or an
    image, white where pixels are missing."""
    out: restored_pictures.Out
    num_samples: restored_pictures.Samples = 8
    method: restored_pictures.Method = "auto"
    seed: restored_pictures.Seed = 0
    which: restored_pictures.Which = "last"
    effort: inference.Effort = restoration.DEFAULT_EFFORT


def main() -> dict[str, Any]:
    """Completes all images, a batch at a time."""
    options = tyro.cli(Inpaint, description=__doc__)
    out = restored_pictures.check_out(options.out, options.num_samples)
    sampler = load_sampler(options.workdir, options.which)
    height, width, channels = sampler.config.data.image_shapes[0]
    why = f"this VAE completes images of {height}x{width}, on which it was trained: scale or cut them"
    pictures = restored_pictures.read(options.images, (height, width), channels, why)
    key, num = keys.root_key(options.seed), len(pictures.names)
    missing, by_name = _missing(options.mask, key, num, (height, width))
    restoration.check_mask(missing, num, (height, width, channels))

    samples, health = [], []
    for begin in tqdm(range(0, num, restored_pictures.BATCH), unit="batch", disable=None):
        rows = slice(begin, begin + restored_pictures.BATCH)
        restored = restoration.inpaint(
            sampler.config, sampler.params, key, pictures.pixels[rows], missing[rows], options.method,
            options.num_samples, options.effort, np.arange(num)[rows],
        )  # fmt: skip
        for i, values in enumerate(restored.images, begin):
            restored_pictures.write(out, pictures.names[i], values, pictures.files[i], missing[i])
        samples.append(restored.images[: max(0, restored_pictures.GRID_ROWS - begin)])
        health.append(restored.health)
    shown = np.concatenate(samples)
    observed = np.where(missing[..., None], GREY, pictures.pixels)[: len(shown)]
    truth = [pictures.pixels[: len(shown)]] if by_name else []
    restored_pictures.write_grid(out / "grid.png", [observed, *shown.swapaxes(0, 1), shown.mean(axis=1), *truth])
    return {
        "images": num, "method": restored.method, "health": round(float(np.median(np.concatenate(health))), 4),
        "step": sampler.step, "out": options.out, "grid": str(out / "grid.png"),
    }  # fmt: skip


def _missing(mask: str, key: Any, num: int, size: tuple[int, int]) -> tuple[np.ndarray, bool]:
    """The masks [n, h, w], and whether they are by name."""
    if not files.resolve(mask).is_file():
        return masks.named(mask, keys.for_step(key, keys.Stream.MASK, 0), np.arange(num), size), True
    white = pictures.to_float(pictures.read(files.resolve(mask)), 1)[..., 0] >= 0.5
    if white.shape != size:
        raise ValueError(
            f"the mask {mask} has {white.shape[0]}x{white.shape[1]} pixels, and this VAE's images {size[0]}x{size[1]}"
        )
    return np.broadcast_to(white, (num, *size)), False


if __name__ == "__main__":
    cli.run(main)
