"""Removes noise or blur, colours grey images, or reconstructs images from measurements, with a trained VAE.

$ python experiments/restore.py noise --workdir runs/vae --images noisy --sigma 0.2 --out clean
$ python experiments/restore.py blur --workdir runs/vae --images digits --width 1 --sigma 0.02 --simulate --out sharp
$ python experiments/restore.py gray --workdir runs/vae --images old --out coloured
$ python experiments/restore.py measurements --workdir runs/vae --images digits --num 100 --out reconstructed

It draws several results for each image, as inpaint.py does, and writes OUT/sample-1/NAME, ..., OUT/mean/NAME, and
OUT/grid.png with a row for each image: what was observed, the samples, their mean, and with --simulate the original.
Results have the size on which the VAE was trained. The noise is Gaussian, with a standard deviation of --sigma, where
black is 0 and white is 1: 25 of 255 levels are 0.098. Without --simulate the images are what was observed; with it they
are originals, of any size, which are observed first and compared with the results. The health that is printed, from 0
to 1, tells how far the draws can be trusted: experiments/results/restoration.md says what it is for each method.
"""

import dataclasses
import logging
import zipfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jax import Array

from genjax import cli, files, flag_help, keys
from genjax.data.pictures import Picture
from genjax.evaluation import image_metrics
from genjax.keys import Stream
from genjax.loading import Sampler, Which, load_sampler, with_limit
from genjax.vae import linear, restored_files
from genjax.vae.linear import Linear
from genjax.vae.restored_files import Pictures

logger = logging.getLogger(__name__)

ROUNDING = 1 / 255 / 12**0.5  # standard deviation of the error by which 8 bits round a level


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(restored_files.RestoreOptions):
    """Options of all verbs."""

    images: tuple[str, ...] = ()
    """Images, and folders of images."""
    which: Which = "last"
    """The last checkpoint, the best on validation, or that of a step."""
    max_megapixels: cli.MaxMegapixels = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Noise(Options):
    """Removes noise."""

    sigma: float
    """Standard deviation of the noise; white is 1."""
    simulate: bool = False
    """Adds the noise to the images first, to compare the results with them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Blur(Options):
    """Removes a Gaussian blur and noise."""

    width: float
    """Standard deviation of the blur in pixels."""
    sigma: float
    """Standard deviation of the noise; white is 1."""
    simulate: bool = False
    """Blurs the images first, to compare the results with them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gray(Options):
    """Colours grey images of any size."""

    sigma: float = ROUNDING
    """Standard deviation of noise in the grey levels; the default is that of rounding to 8 bits."""
    simulate: bool = False
    """Takes colour images and makes them grey first, to compare the results with them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurements(Options):
    """Reconstructs images from a few numbers for each, y = A x + noise.

    They are --num random measurements of each of --images, which are written to OUT/measured.npz, or those of such a
    file.
    """

    num: int | None = None
    """Number of random measurements of each image."""
    measured: str | None = None
    """A file .npz with the arrays `matrix` [m, pixels] and `y` [n, m]. Pixels are in the order
    [height, width, channels]; the results are 0.png, 1.png and so on."""
    sigma: float = 0.01
    """Standard deviation of the noise in y."""


VERBS: dict[str, Any] = {"noise": Noise, "blur": Blur, "gray": Gray, "measurements": Measurements}


class Observed(NamedTuple):
    """Images that the VAE restores."""

    operator: Linear
    y: np.ndarray
    images: Pictures
    shown: np.ndarray
    """Images [n, h, w, c] in [0, 1] that show y in the grid."""
    truth: np.ndarray | None = None
    matrix: np.ndarray | None = None
    """The matrix of measurements that were simulated."""


def main() -> dict[str, Any]:
    """Restores all images, a batch at a time."""
    options: Noise | Blur | Gray | Measurements = flag_help.call_verb(VERBS, __doc__)
    out = restored_files.check_out(options.out, options.num_samples)
    if isinstance(options, Measurements):
        _check_measurements(options)
    elif not options.images:
        raise ValueError("--images is missing: give images, or folders of images")
    sampler = load_sampler(options.workdir, options.which)
    observed = _measured(options, sampler) if isinstance(options, Measurements) else _pictures(options, sampler)
    restored = restored_files.restore(sampler, lambda rows: observed.operator, observed.y, observed.images, options)
    restored_files.write_grid(out / "grid.png", observed.shown, restored.first, observed.truth)
    results: dict[str, Any] = {"images": len(observed.y), "method": options.method}
    results |= {"health": round(restored.health, 4), **restored.chains}
    if observed.matrix is not None:
        arrays = {"matrix": observed.matrix, "y": observed.y}
        files.write_atomically(out / "measured.npz", files.encode_npz(arrays))
    if observed.truth is not None:
        for name, images in (("psnr_copy", observed.shown), ("psnr_samples", restored.one)):
            results[name] = round(float(image_metrics.psnr(images, observed.truth).mean()), 2)
    return {**results, "step": sampler.step, "out": options.out, "grid": str(out / "grid.png")}


def _pictures(options: Noise | Blur | Gray, sampler: Sampler) -> Observed:
    """Reads what was observed, or originals to observe."""
    data = with_limit(sampler.config.data, options.max_megapixels)
    shape = data.image_shapes[0]
    if isinstance(options, Noise):
        operator = linear.noise(options.sigma)
    elif isinstance(options, Blur):
        operator = linear.blur(shape, options.width, options.sigma)
    else:
        operator = linear.gray(shape, options.sigma)
    _warn_of_wide_pixels(options, sampler)
    # Scaling would change noise and blur; grey levels it changes as it changes colours.
    any_size = options.simulate or isinstance(options, Gray)
    remedy = f"this VAE restores {shape[0]}x{shape[1]}; originals of any size can be observed first, with --simulate"
    images = restored_files.read(options.images, data.image_size, data, None if any_size else remedy)
    y, truth = images.pixels, None
    if options.simulate:
        y, truth = operator.observe(y, _key(options, 1), np.arange(len(y))), images.pixels
    elif isinstance(options, Gray):
        coloured = np.ptp(images.pixels, axis=-1).max(axis=(1, 2)) > 0
        if coloured.any():
            name = images.names[int(coloured.argmax())]
            raise ValueError(
                f"{name} is in colour: give grey images, or --simulate, which makes them grey and compares the results"
            )
        y = operator.apply(y).astype(np.float32)
    return Observed(operator, y, images, np.broadcast_to(np.clip(y, 0, 1), images.pixels.shape), truth)


def _measured(options: Measurements, sampler: Sampler) -> Observed:
    """Reads measurements, or measures images."""
    data = with_limit(sampler.config.data, options.max_megapixels)
    shape = data.image_shapes[0]
    if options.measured is not None:
        matrix, y = _read_measured(options.measured)
        operator = linear.measurements(matrix, options.sigma)
        operator.check(y, shape)
        blank = [Picture(np.zeros(shape, np.uint8))] * len(y)
        images = Pictures([f"{i}.png" for i in range(len(y))], blank, blank, np.zeros((len(y), *shape), np.float32))
        return Observed(operator, y, images, _shortest(matrix, y, shape))
    images = restored_files.read(options.images, data.image_size, data)
    matrix = linear.random_matrix(_key(options, 0), options.num or 0, shape)
    operator = linear.measurements(matrix, options.sigma)
    y = operator.observe(images.pixels, _key(options, 1), np.arange(len(images.names)))
    return Observed(operator, y, images, _shortest(matrix, y, shape), images.pixels, matrix)


def _shortest(matrix: np.ndarray, y: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Returns the images of least length that explain y, clipped to [0, 1]."""
    return np.clip(y @ np.linalg.pinv(matrix).T, 0, 1).reshape(-1, *shape)


def _read_measured(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Reads the arrays of --measured; raises ValueError for another file."""
    try:
        with np.load(files.resolve(path), allow_pickle=False) as archive:
            return archive["matrix"], archive["y"]
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"--measured {path} must be an .npz file with the arrays matrix and y: {error}") from error


def _check_measurements(options: Measurements) -> None:
    given = (bool(options.images), options.num is not None, options.measured is not None)
    if given not in ((True, True, False), (False, False, True)):
        raise ValueError("give --images and --num to measure images, or --measured alone")


def _warn_of_wide_pixels(options: Noise | Blur | Gray, sampler: Sampler) -> None:
    """Warns if the VAE's fixed sigma is above that of the noise, which it takes for part of the images."""
    vae = sampler.config.vae
    if vae.likelihood == "gaussian" and vae.sigma > options.sigma and not isinstance(options, Gray):
        logger.warning(
            "this VAE was trained with --vae.sigma %.3g, so that much noise belongs to its images, and noise of %.3g "
            "stays in the results: train one with a smaller sigma, or with --vae.likelihood gaussian_learned",
            vae.sigma, options.sigma,
        )  # fmt: skip


def _key(options: Options, step: int) -> Array:
    """Returns the key of the random matrix (step 0) or of the noise (step 1)."""
    return keys.for_step(keys.root_key(options.seed), Stream.OBSERVE, step)


if __name__ == "__main__":
    cli.run(main)
