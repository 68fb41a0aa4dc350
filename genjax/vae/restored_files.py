"""Reading of image files to restore, and writing of results: files alike in name and depth, and a grid."""

import dataclasses
import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from etils import epath
from PIL import Image
from tqdm import tqdm

from genjax import files, keys
from genjax.data import conversion, folders, formats, image_arrays, pictures, scaling
from genjax.data.config import DataConfig
from genjax.vae import diagnostics, masks
from genjax.vae.inference import InferenceConfig, Method
from genjax.vae.operators import Operator
from genjax.vae.sampler import DEFAULT_INFERENCE, Sampler

logger = logging.getLogger(__name__)

BATCH_SIZE = 64
"""Images restored at a time; results do not depend on it."""
GRID_ROWS = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class RestoreOptions:
    """Options shared by all commands that restore images."""

    workdir: str
    """Directory of the training run, or a file of its weights (.safetensors)."""
    images: tuple[str, ...]
    """Images, and folders of images."""
    out: str
    """Folder for the results; it must be empty or not exist yet."""
    num_samples: int = 8
    """Number of results to draw for each image, as the missing part is seldom certain."""
    method: Method = "hmc"
    """Method of drawing latents; experiments/results/restoration.md compares them."""
    seed: int = 0
    """Seed of the draws; the same seed gives the same pictures."""
    inference: InferenceConfig = DEFAULT_INFERENCE


class Pictures(NamedTuple):
    """Images as they were read."""

    names: list[str]
    """Names of the written files: their paths below the folder, or the file's own name; lossy formats become PNG."""
    given: list[pictures.Picture]
    """Pictures as they are, with their alpha."""
    files: list[pictures.Picture]
    """Pictures on the ground of the training, whose depth the results have."""
    pixels: np.ndarray
    """Floats [n, h, w, c] in [0, 1]."""


class Restored(NamedTuple):
    """Restored images that are kept in memory."""

    first: np.ndarray
    """Samples [n, num, h, w, c] of the first GRID_ROWS images."""
    one: np.ndarray
    """One sample of each image [n, h, w, c]."""
    health: float
    """The median over all images."""
    chains: dict[str, float | None]
    """Mean and worst of the diagnostics of chains; None for a number that is not finite."""


def read(where: Sequence[str], size: tuple[int, int], config: DataConfig, remedy: str | None = None) -> Pictures:
    """Reads images, and all images below folders, as training sees them, and scales them to `size`.

    With a `remedy`, images of another size are refused with it. Raises ValueError for colour images if the VAE is for
    grey ones.
    """
    found, channels = folders.named_pages(where, config), config.channels[0]
    given, read_files, pixels = [], [], []
    for page in found:
        picture = pictures.read(page.path, page.number, config.max_megapixels)
        height, width = picture.pixels.shape[:2]
        if remedy is not None and (height, width) != size:
            raise ValueError(f"{page} has {height}x{width} pixels, and {remedy}")
        try:
            image = conversion.opaque(picture, config)
            pixels.append(_seen(picture, size, config))
        except ValueError as error:
            raise ValueError(f"cannot use {page}: {error}") from error
        if channels == 1 and (image.pixels != image.pixels[..., :1]).any():
            raise ValueError(f"{page} is in colour, and the VAE was trained on grey images: convert it first")
        given.append(picture)
        read_files.append(_in_colour(image) if channels == 3 else image)
    names = [_written_as(name) for name in found.values()]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two images below {' '.join(where)} would be written as {twice}: rename one of them")
    return Pictures(names, given, read_files, np.stack(pixels))


def check_out(out: str, num_samples: int) -> epath.Path:
    """Returns the folder to write to; raises ValueError if it is not empty, or for no samples."""
    if num_samples < 1:
        raise ValueError(f"--num-samples must be at least 1, got {num_samples}")
    path = files.resolve(out)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{out} exists already: give another --out")
    return path


def restore(
    sampler: Sampler, operator_of: Callable[[slice], Operator], observed: np.ndarray, images: Pictures,
    options: RestoreOptions, missing: Sequence[np.ndarray] | None = None,
) -> Restored:  # fmt: skip
    """Restores images in batches, and writes each image as `write` does.

    `operator_of(rows)` returns the operator of those rows of `observed` [n, ...]; `missing` are the images' masks.
    """
    key, num, out = keys.root_key(options.seed), len(observed), files.resolve(options.out)
    logger.info("drawing %d results for each of %d images by %s ...", options.num_samples, num, options.method)
    first, one, health = [], [], []
    diagnosed: list[diagnostics.Diagnostics] = []
    for begin in tqdm(range(0, num, BATCH_SIZE), unit="batch", disable=None):
        rows = slice(begin, begin + BATCH_SIZE)
        restored = sampler.restore(
            operator_of(rows), observed[rows], key, options.method, options.num_samples, options.inference,
            np.arange(num)[rows],
        )  # fmt: skip
        for i, samples in enumerate(restored.images, begin):
            mask = None if missing is None else missing[i]
            write(out, images.names[i], samples, images.files[i], mask, sampler.config.data)
        # All samples of the first images are kept, and one of the others: all would take too much memory.
        first.append(restored.images[: max(0, GRID_ROWS - begin)])
        one.append(restored.images[:, 0])
        health.append(restored.health)
        diagnosed.append(restored.diagnostics)
    median = float(np.median(np.concatenate(health)))
    logger.info("health %.2f of 0 to 1: do not trust results near 0", median)
    chains = diagnostics.summarize(diagnostics.Diagnostics(*map(np.concatenate, zip(*diagnosed, strict=True))))
    rounded = {name: round(value, 4) if np.isfinite(value) else None for name, value in chains.items()}
    return Restored(np.concatenate(first), np.concatenate(one), median, rounded)


def write(
    out: epath.Path, name: str, samples: np.ndarray, like: pictures.Picture, mask: np.ndarray | None,
    config: DataConfig,
) -> None:  # fmt: skip
    """Writes floats [num, h, w, c] as OUT/sample-1/NAME, ... and their mean as OUT/mean/NAME, in the depth of `like`.

    With a `mask` (of any size, True where a pixel is missing) they are scaled back to the size of `like`, and all
    pixels that are not missing there, or that the model has not seen, are those of `like`, bit for bit.
    """
    each = {f"sample-{i}": sample for i, sample in enumerate(samples, 1)} | {"mean": samples.mean(axis=0)}
    size = like.pixels.shape[:2]
    missing = None if mask is None else masks.over(mask, size, config)  # in the size of the file
    for folder, values in each.items():
        values = values if missing is None or values.shape[:2] == size else _placed(values, like, config)
        # A grey file that a VAE saw in one channel may have three of its own.
        restored = conversion.from_floats(
            np.repeat(values, like.pixels.shape[-1] // values.shape[-1], -1), like, config
        )
        if missing is not None:
            restored = restored._replace(pixels=np.where(missing[..., None], restored.pixels, like.pixels))
        pictures.write(out / folder / name, restored)


def write_grid(
    path: epath.Path, observed: np.ndarray, samples: np.ndarray, truth: np.ndarray | None = None,
    num_shown: int | None = None,
) -> None:  # fmt: skip
    """Writes a row for each of the first images: observed, samples, mean, truth.

    Images are [n, h, w, c], samples [n, num, h, w, c]. The mean is that of all samples, of which the first `num_shown`
    are shown (default: all). Small images are enlarged.
    """
    # A column for each sample: [num, n, h, w, c].
    columns = [observed, *samples[:, :num_shown].swapaxes(0, 1), samples.mean(axis=1)]
    columns = columns if truth is None else [*columns, truth]
    rows = np.stack([column[: min(len(samples), GRID_ROWS)] for column in columns], axis=1)
    cells = image_arrays.to_uint8(rows.reshape(-1, *rows.shape[2:]))
    image_arrays.write_png(path, image_arrays.grid(image_arrays.enlarged(cells), columns=len(columns)))


def _seen(picture: pictures.Picture, size: tuple[int, int], config: DataConfig) -> np.ndarray:
    """Converts a picture to floats [h, w, c] in [0, 1], scaled as for training if it has another size."""
    if picture.pixels.shape[:2] == size:
        return conversion.to_floats(picture, config)
    return image_arrays.unit_floats(scaling.evaluated(conversion.to_samples(picture, config), config))


def _placed(values: np.ndarray, like: pictures.Picture, data: DataConfig) -> np.ndarray:
    """Scales floats [h, w, c] back to their place in a picture of another size; the rest is 0."""
    size, part = like.pixels.shape[:2], masks.seen_pixels(like.pixels.shape[:2], data)
    placed = np.zeros((*size, values.shape[-1]), np.float32)
    height, width = placed[part].shape[:2]
    for channel in range(values.shape[-1] if height and width else 0):
        # Pillow holds floats one plane at a time.
        scaled = Image.fromarray(values[..., channel]).resize((width, height), Image.Resampling.BICUBIC)
        placed[(*part, channel)] = scaled
    return placed


def _written_as(path: epath.Path) -> str:
    return str(path if path.suffix.lower() in formats.LOSSLESS_SUFFIXES else path.with_name(path.name + ".png"))


def _in_colour(image: pictures.Picture) -> pictures.Picture:
    """Converts a grey image to colour, so that it can hold the results of a colour VAE."""
    grey = image.pixels.shape[-1] == 1
    return image._replace(pixels=np.repeat(image.pixels, 3, axis=-1), icc=None) if grey else image
