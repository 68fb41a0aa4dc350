"""What inpaint.py and super_resolve.py share: image files in, restored files and a grid of them out."""

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import numpy as np
from etils import epath
from tyro.conf import arg

from genjax import files, loading
from genjax.data import folders, image_arrays, pictures
from genjax.vae import restoration

Workdir = Annotated[str, arg(help="Directory of the VAE's training run.")]
Out = Annotated[str, arg(help="Folder for the results, which must not exist yet, or be empty.")]
Method = Annotated[restoration.Choice, arg(help="How latents are drawn; auto chooses, and the last line says what.")]
Samples = Annotated[int, arg(help="Alternatives to draw of each image: what is missing is seldom certain.")]
Seed = Annotated[int, arg(help="Seed of the draws: the same seed, the same pictures.")]
Which = Annotated[loading.Which, arg(help="The last checkpoint, or the best on validation.")]

BATCH = 64
"""Images restored at a time; the pictures do not depend on it."""
GRID_ROWS = 32


class Pictures(NamedTuple):
    """Images as they were read."""

    names: list[str]
    """What they are written as: their paths below the folder, or the file's own name; lossy formats become PNG."""
    files: list[pictures.Picture]
    pixels: np.ndarray
    """Floats [n, h, w, c] in [0, 1]."""


def read(where: str, size: tuple[int, int], channels: int, why: str) -> Pictures:
    """The image `where`, or all below a folder; ValueError, which says `why`, for one of another size or in colour."""
    found = folders.file_or_folder(where)
    root = files.resolve(where)
    read_files = [pictures.read(path) for path in found]
    for path, image in zip(found, read_files, strict=True):
        height, width = image.pixels.shape[:2]
        if (height, width) != size:
            raise ValueError(f"{path} has {height}x{width} pixels, and {why}")
        if channels == 1 and (image.pixels != image.pixels[..., :1]).any():
            raise ValueError(f"{path} is in colour, and the VAE was trained on grey images: convert it first")
    if channels == 3:
        read_files = [_in_colour(image) for image in read_files]
    pixels = np.stack([pictures.to_float(_grey(image, channels), channels) for image in read_files])
    names = [_written_as(path.relative_to(root) if root.is_dir() else epath.Path(path.name)) for path in found]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two images below {where} would be written as {twice}: rename one of them")
    return Pictures(names, read_files, pixels)


def _written_as(path: epath.Path) -> str:
    lossless = path.suffix.lower() in (".png", ".tif", ".tiff", ".bmp", ".webp")
    return str(path if lossless else path.with_name(path.name + ".png"))


def _in_colour(image: pictures.Picture) -> pictures.Picture:
    """The same, as what a VAE of colour images makes of it is written: a grey image has no place for it."""
    grey = image.pixels.shape[-1] == 1
    return image._replace(pixels=np.repeat(image.pixels, 3, axis=-1), icc=None) if grey else image


def _grey(image: pictures.Picture, channels: int) -> pictures.Picture:
    return image._replace(pixels=image.pixels[..., :1]) if channels == 1 else image


def check_out(out: str, num_samples: int) -> epath.Path:
    """The folder to write to; ValueError if something lies there already, or for no samples."""
    if num_samples < 1:
        raise ValueError(f"--num-samples must be at least 1, got {num_samples}")
    path = files.resolve(out)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{out} exists already: give another --out")
    return path


def write(out: epath.Path, name: str, values: np.ndarray, like: pictures.Picture, missing: np.ndarray | None) -> None:
    """Floats [num, h, w, c] as OUT/sample-1/NAME, ... and their mean as OUT/mean/NAME, in the depth of `like`.

    Where `missing` [h, w] is False, the pixels are those of `like`, bit for bit.
    """
    each = {f"sample-{i}": value for i, value in enumerate(values, 1)} | {"mean": values.mean(axis=0)}
    for folder, value in each.items():
        restored = pictures.from_float(np.repeat(value, like.pixels.shape[-1] // value.shape[-1], -1), like)
        if missing is not None:
            restored = restored._replace(pixels=np.where(missing[..., None], restored.pixels, like.pixels))
        pictures.write(out / folder / name, restored)


def write_grid(path: epath.Path, columns: Sequence[np.ndarray]) -> None:
    """One row an image [h, w, c], the first ones: `columns` are [n, h, w, c] in [0, 1]."""
    rows = np.stack(columns, axis=1)[:GRID_ROWS]
    picture = image_arrays.to_uint8(rows.reshape(-1, *rows.shape[2:]))
    image_arrays.write_png(path, image_arrays.grid(picture, columns=len(columns)))
