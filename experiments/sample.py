"""Draws a picture from a trained VAE: new images, reconstructions, interpolations, or latent traversals.

$ python experiments/sample.py prior --workdir runs/mnist5k --num 64 --out samples.png
$ python experiments/sample.py prior --workdir runs/mnist5k --prior gaussian-mixture --out samples.png
$ python experiments/sample.py prior --workdir runs/mnist5k --num 5000 --out samples
$ python experiments/sample.py traverse --workdir runs/mnist5k --out traversals.webp

Each pixel of images below 64x64 is repeated, so that the picture can be looked at, but in a folder of samples, which
other programs may measure. A WebP is an animation.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
from tyro.conf import arg

from genjax import cli, files, flag_help, keys, loading
from genjax.config import seed_of
from genjax.data import folders, image_arrays, sources
from genjax.loading import Sampler, load_sampler, with_limit
from genjax.train import fingerprint
from genjax.vae import aggregated
from genjax.vae.aggregated import DEFAULT_FIT, FitConfig

Workdir = Annotated[str, arg(help="Directory of the training run, or a file of its weights (.safetensors).")]
Out = Annotated[str, arg(help="The PNG to write; an existing file is not overwritten.")]
Each = Annotated[str, arg(help="The PNG to write, or a folder for a PNG of each image; neither is overwritten.")]
Animated = Annotated[str, arg(help="The PNG to write, or the WebP, as an animation; neither is overwritten.")]
Seed = Annotated[int, arg(help="Seed of the noise; the same seed gives the same picture.")]
Num = Annotated[int, arg(help="Number of images.")]
Rows = Annotated[int, arg(help="Number of rows, each between two images.")]
Dims = Annotated[int, arg(help="Number of latent dimensions, those in use first, and so of rows.")]
Temperature = Annotated[
    tuple[float, ...],
    arg(help="Standard deviation of z, or one for each group of latents; below 1, images are more alike."),
]
Steps = Annotated[int, arg(help="Images in a row that the VAE draws.")]
Images = Annotated[tuple[str, ...], arg(help="Images, and folders of images; none for the run's own test images.")]
Prior = Annotated[
    Literal["normal", aggregated.Kind],
    arg(help="N(0, I), the prior of the training, or one that is fitted now to encodings of the training images."),
]
Which = Annotated[loading.Which, arg(help="The last checkpoint, the best on validation, or that of a step.")]

ENCODED = 256  # test images that tell which dimensions are in use


def prior(
    workdir: Workdir, out: Each, seed: Seed = 0, num: Num = 64, temperature: Temperature = (1.0,),
    prior: Prior = "normal", fit: FitConfig = DEFAULT_FIT, which: Which = "last",
) -> dict[str, Any]:  # fmt: skip
    """New images from z ~ N(0, temperature^2), or from another prior; image i does not depend on num."""
    _check(out, (".png", ""), num=num)
    kinds = () if prior == "normal" else (prior,)
    aggregated.check_settings(kinds, fit)
    for one in temperature:
        if not 0 <= one <= 1e6:
            raise ValueError(f"--temperature must lie in [0, 1e6], got {one}")
    sampler = load_sampler(workdir, which)
    spread = temperature[0] if len(temperature) == 1 else temperature
    mixture = None
    for kind in kinds:
        (train,) = sources.load(sampler.config.data, seed_of(sampler.config, "data")).train
        mixture = aggregated.fit(sampler, train, kind, fit)
    pictures = sampler.prior(keys.root_key(seed), np.arange(num), spread, mixture)
    return {**_write(sampler, out, pictures, columns=8), "prior": prior}


def reconstruct(
    workdir: Workdir, out: Out, seed: Seed = 0, num: Num = 32, images: Images = (), which: Which = "last",
    max_megapixels: cli.MaxMegapixels = None,
) -> dict[str, Any]:  # fmt: skip
    """Images, each beside its reconstruction."""
    _check(out, num=num)
    sampler = load_sampler(workdir, which)
    originals = _examples(sampler, images, num, max_megapixels)
    rebuilt = sampler.reconstruct(keys.root_key(seed), np.arange(len(originals)), originals)
    return _write(sampler, out, np.concatenate([image_arrays.unit_floats(originals), rebuilt], axis=2), columns=4)


def interpolate(
    workdir: Workdir, out: Animated, num: Rows = 8, steps: Steps = 10, images: Images = (), which: Which = "last",
    max_megapixels: cli.MaxMegapixels = None,
) -> dict[str, Any]:  # fmt: skip
    """Rows from one image to the next, along the line between their latents; both images stand at the ends."""
    _check(out, (".png", ".webp"), num=num, steps=steps)
    sampler = load_sampler(workdir, which)
    ends = _examples(sampler, images, num + 1, max_megapixels)
    if len(ends) < 2:
        where = f"--images {' '.join(images)} holds" if images else "the run's test images are"
        raise ValueError(f"an interpolation needs at least 2 images, and {where} 1: give --images more")
    shown = image_arrays.unit_floats(ends)[:, None]
    rows = [
        np.concatenate([shown[i], sampler.interpolate(ends[i], ends[i + 1], steps), shown[i + 1]])
        for i in range(len(ends) - 1)
    ]
    return _write(sampler, out, np.concatenate(rows), columns=steps + 2)


def traverse(
    workdir: Workdir, out: Animated, dimensions: Dims = 10, steps: Steps = 11, images: Images = (),
    which: Which = "last", max_megapixels: cli.MaxMegapixels = None,
) -> dict[str, Any]:  # fmt: skip
    """One image; each row varies one latent dimension from -3 to 3.

    First comes the dimension that differs most between the run's test images, by the variance of E[e|x].
    """
    _check(out, (".png", ".webp"), dimensions=dimensions, steps=steps)
    sampler = load_sampler(workdir, which)
    (image,) = _examples(sampler, images, 1, max_megapixels)
    in_use = sampler.encode(_examples(sampler, (), ENCODED)).mean.var(axis=0)
    chosen = np.argsort(-in_use, kind="stable")[:dimensions].tolist()
    rows = [sampler.traverse(image, dimension, np.linspace(-3, 3, steps)) for dimension in chosen]
    results = _write(sampler, out, np.concatenate(rows), columns=steps)
    return {**results, "dimensions": " ".join(map(str, chosen))}


def _check(out: str, suffixes: tuple[str, ...] = (".png",), **counts: int) -> None:
    if files.resolve(out).suffix.lower() not in suffixes:
        ends = " or ".join(suffix or "nothing (a folder)" for suffix in suffixes)
        raise ValueError(f"--out {out} must end in {ends}, as that is what is written")
    if files.resolve(out).exists():
        raise ValueError(f"{out} exists already: give another --out")
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"--{name} must be at least 1, got {count}")


def _examples(
    sampler: Sampler, where: tuple[str, ...], num: int, max_megapixels: int | None = None
) -> np.ndarray:  # fmt: skip
    """Loads up to `num` images: evenly spaced test images of the run, or the first ones of files and folders."""
    data = sampler.config.data
    if not where:
        (test,) = sources.load(data, seed_of(sampler.config, "data")).test
        return image_arrays.evenly_spaced(test, num)
    return folders.read_images(where, with_limit(data, max_megapixels), num=num)


def _write(sampler: Sampler, out: str, pictures: np.ndarray, columns: int) -> dict[str, Any]:
    written, path = image_arrays.to_uint8(pictures), files.resolve(out)
    shown = image_arrays.enlarged(written)
    if not path.suffix:
        for i, image in enumerate(written):
            image_arrays.write_png(path / f"{i:06d}.png", image)
    elif path.suffix.lower() == ".webp":
        files.write_atomically(out, animation(shown, columns))
    else:
        image_arrays.write_png(path, image_arrays.grid(shown, columns))
    digest = fingerprint.tree_digest(pictures)
    return {"step": sampler.step, "out": str(out), "images": len(pictures), "digest": digest}


def animation(pictures: np.ndarray, steps: int) -> bytes:
    """Encodes rows of `steps` pictures, uint8 [rows * steps, h, w, c], that move side by side, there and back."""
    rows = pictures.reshape(-1, steps, *pictures.shape[1:])
    frames = [image_arrays.grid(rows[:, step], columns=min(8, len(rows))) for step in range(steps)]
    return image_arrays.encode_animation([*frames, *frames[-2:0:-1]])


VERBS: dict[str, Callable[..., dict[str, Any]]] = {
    "prior": prior,
    "reconstruct": reconstruct,
    "interpolate": interpolate,
    "traverse": traverse,
}


def main() -> dict[str, Any]:
    """Runs the verb of the command line."""
    return flag_help.call_verb(VERBS, __doc__)


if __name__ == "__main__":
    cli.run(main)
