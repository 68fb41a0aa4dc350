"""Completes the missing pixels of images with a trained VAE; draws several results for each image.

$ python experiments/inpaint.py --workdir runs/mnist5k --images digits --mask half-right --out completed
$ python experiments/inpaint.py --workdir runs/mnist5k --images digits --mask mask.png --out completed
$ python experiments/inpaint.py --workdir runs/mnist5k --images erased.png --mask alpha --out completed

It writes OUT/sample-1/NAME, ..., OUT/mean/NAME, and OUT/grid.png with a row for each image: the observed part, the
samples, their mean, and, if the mask is given by name, the original image. Images of another size than the VAE's are
scaled as in training, and the completed pixels are scaled back: results have the size of their images, and all pixels
but the missing ones are those of the images. JPEG and other lossy formats are written as PNG, with .png added to the
name. The health that is printed, from 0 to 1, tells how far the draws can be trusted; for each method, see
experiments/results/restoration.md. It also says what the diagnostics are that methods with chains have.
"""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import tyro

from genjax import cli, files, flag_help, keys
from genjax.data import pictures
from genjax.data.config import DataConfig
from genjax.loading import Which, load_sampler, with_limit
from genjax.vae import masks, restored_files
from genjax.vae.operators import Mask

logger = logging.getLogger(__name__)

GREY = 0.5
"""Level of missing pixels in the grid."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inpaint(restored_files.RestoreOptions):
    """Options: images, mask, trained VAE and output folder."""

    images: tuple[str, ...]
    """Images, and folders of images, of any size."""
    mask: str
    """Missing pixels, by a name, alpha, or a file. Names: half-left, half-right, half-top, half-bottom, square,
    random-0.5 (any share), rectangles. alpha: those that are transparent in the images. An image file of any size:
    white or transparent pixels are missing; on a transparent layer, those that are painted in one colour."""
    which: Which = "last"
    """The last checkpoint, the best on validation, or that of a step."""
    max_megapixels: cli.MaxMegapixels = None


def main() -> dict[str, Any]:
    """Completes all images, a batch at a time."""
    options = tyro.cli(Inpaint, description=flag_help.description(__doc__))
    out = restored_files.check_out(options.out, options.num_samples)
    sampler = load_sampler(options.workdir, options.which)
    data = with_limit(sampler.config.data, options.max_megapixels)
    images = restored_files.read(options.images, data.image_size, data)
    given, by_name = _masks(options, images, data)
    sizes = [image.pixels.shape[:2] for image in images.given]
    missing = np.stack([masks.scaled(*each, data) for each in zip(given, sizes, strict=True)])
    _check(options.mask, images.names, missing)
    restored = restored_files.restore(sampler, lambda rows: Mask(missing[rows]), images.pixels, images, options, given)
    observed = np.where(missing[..., None], GREY, images.pixels)
    truth = images.pixels if by_name else None
    restored_files.write_grid(out / "grid.png", observed, restored.first, truth)
    return {
        "images": len(missing),
        "missing": round(float(missing.mean()), 4),
        "method": options.method,
        "health": round(restored.health, 4),
        **restored.chains,
        "step": sampler.step,
        "out": options.out,
        "grid": str(out / "grid.png"),
    }


def _masks(
    options: Inpaint, images: restored_files.Pictures, data: DataConfig
) -> tuple[Sequence[np.ndarray], bool]:  # fmt: skip
    """Returns the mask of each image, of any size, and True if they hide what the images show."""
    num = len(images.names)
    if options.mask == "alpha":
        erased = [masks.erased(image) for image in images.given]
        without = [name for name, mask in zip(images.names, erased, strict=True) if mask is None]
        if without:
            raise ValueError(
                f"--mask alpha needs images with an alpha channel, and {without[0]} has none: give --mask PICTURE"
            )
        return [mask for mask in erased if mask is not None], False
    path = files.resolve(options.mask)
    if not path.is_file():
        key = keys.for_step(keys.root_key(options.seed), keys.Stream.MASK, 0)
        return list(masks.named(options.mask, key, np.arange(num), data.image_size)), True
    picture = pictures.read(path, None, data.max_megapixels)
    try:
        mask, kind = masks.painted(picture)
    except ValueError as error:
        raise ValueError(f"cannot use --mask {path}: {error}") from error
    logger.info("%s: what is %s is missing", options.mask, kind)
    return [mask] * num, False


def _check(mask: str, names: Sequence[str], missing: np.ndarray) -> None:
    """Logs the missing share, and warns of a high one; ValueError if no pixel or all are missing."""
    share, meaning = missing.mean(axis=(1, 2)), "white, or transparent, is missing"
    logger.info("%.1f%% of the pixels are missing", 100 * share.mean())
    for name, of_one in zip(names, share, strict=True):
        if of_one in (0, 1):
            which = "no pixel" if of_one == 0 else "every pixel"
            raise ValueError(f"--mask {mask} hides {which} of {name}: {meaning}")
    if share.max() > 0.9:
        logger.warning(
            "--mask %s hides %.1f%% of %s: %s. Is it the wrong way round?",
            mask, 100 * share.max(), names[int(share.argmax())], meaning,
        )  # fmt: skip


if __name__ == "__main__":
    cli.run(main)
