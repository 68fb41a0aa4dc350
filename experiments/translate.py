"""Translates an image, or every image below a folder, with a trained CycleGAN, CUT or UNIT.

$ python experiments/translate.py --workdir runs/icons --direction a2b --images photos --out translated
$ python experiments/translate.py --workdir runs/icons --direction a2b --images frames --out translated --video

Images may be of all formats that train, of any size and depth, in grey or colour. A translation has the size, depth,
format and name of its image, and its colours are sRGB. A format that cannot hold it gets .png (or .tif) added to its
name, which is logged. Transparent images are laid on the ground of the training. No file is overwritten. An image that
cannot be read is logged and skipped. Images of many sizes share at most eight compiled programs. With --video, a folder
of frames is translated in order, and its flicker is measured.
"""

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Sequence
from typing import Any, Literal

import jax
import numpy as np
import tyro
from etils import epath
from tqdm import tqdm

from genjax import cli, files, flag_help, parallel
from genjax.data import conversion, folders, formats, pictures
from genjax.data.config import DataConfig
from genjax.data.pictures import Picture
from genjax.evaluation import flicker
from genjax.gan.config import GanRun
from genjax.gan.networks import DOMAINS, Direction
from genjax.gan.smoothing import Dihedral
from genjax.gan.translated_files import Files, translate_files
from genjax.gan.translator import GroupTranslator, SideBySide
from genjax.loading import Which, load_translator, with_limit
from genjax.train import config_file
from genjax.train.rows import finite


@dataclasses.dataclass(frozen=True, kw_only=True)
class Translate:
    """Options: images, trained model and output folder."""

    workdir: str
    """Directory of the training run, or a file of its weights (.safetensors)."""
    direction: Direction
    """a2b: from domain A to B. b2a: back, which CUT cannot do."""
    images: tuple[str, ...]
    """Images, and folders of images, with all folders below them."""
    out: str
    """Folder for the translations; for a single image, also the file to write."""
    skip_existing: bool = False
    """Skips images whose translation exists, to continue an earlier call."""
    alpha: Literal["ground", "keep"] = "ground"
    """Lays transparent images on the ground of the training, or gives their alpha to the translations too."""
    format: Literal["keep", "png"] = "keep"
    """Writes each translation in the format of its image, or all as PNG, with .png added to other names."""
    max_megapixels: cli.MaxMegapixels = None
    which: tuple[Which, ...] = ("last",)
    """The last checkpoint, the best on validation, or that of a step. The translations of several, such as 2000 4000
    last, stand side by side in one picture."""
    video: bool = False
    """Takes the images as frames of a video, and measures the flicker of the translations and of the frames. Frames are
    of one size, in the natural order of their names (frame2 before frame10). Needs the extra video."""
    smooth: Literal["none", "dihedral", "temporal"] = "none"
    """dihedral: the mean over eight turns and mirrors of each image, which takes eight times as long. temporal, with
    --video: the mean over a frame and the two beside it, moved to its place by the motion of the images."""


def main() -> dict[str, Any]:
    """Translates all images that can be read; counts the others as failed."""
    options = tyro.cli(Translate, description=flag_help.description(__doc__))
    _check(options)
    data = with_limit(config_file.load(options.workdir, GanRun).data, options.max_megapixels)
    targets = _targets(options.images, files.resolve(options.out), data, options.format)
    if options.video:
        targets = _in_order(targets, files_of(data, options))
    missing = {page: target for page, target in targets.items() if _written(target) is None}
    if len(missing) < len(targets) and not options.skip_existing:
        first = next(target for page, target in targets.items() if page not in missing)
        num = len(targets) - len(missing)
        raise ValueError(f"{first} exists already ({num} of {len(targets)} do): give another --out, or --skip-existing")
    mesh = parallel.make_mesh(jax.devices()[:1])
    translators = tuple(load_translator(options.workdir, which, mesh) for which in options.which)
    translators[0].check_direction(options.direction)
    each: Sequence[GroupTranslator] = translators
    if options.smooth == "dihedral":
        each = [Dihedral(one) for one in translators]
    translator = each[0] if len(each) == 1 else SideBySide(tuple(each))
    try:
        failed = translate_files(translator, options.direction, missing, files_of(data, options))
    except OSError as error:
        if error.strerror and not options.skip_existing:  # the same command again would stop at what is written
            error.strerror += "; what is written is whole, and --skip-existing passes over it"
        raise
    if failed and failed == len(missing):
        raise ValueError(f"none of the {failed} images could be translated (see above)")
    steps = [translator.step for translator in translators]
    step = steps[0] if len(steps) == 1 else " ".join(map(str, steps))  # in the order of the pictures
    measured = _flicker(data, options, targets) if options.video else {}
    return {"images": len(missing) - failed, "failed": failed, "step": step, "out": options.out, **measured}


def _check(options: Translate) -> None:
    """Raises ValueError for options that do not go together."""
    cli.check_different(which=options.which)
    if len(options.which) > 1 and (options.alpha == "keep" or options.video):
        flag = "--video" if options.video else "--alpha keep"
        raise ValueError(f"{flag} needs one --which, as translations side by side are wider than the image")
    if options.smooth == "temporal" and not options.video:
        raise ValueError("--smooth temporal needs the frames of a video: add --video")
    if options.smooth == "temporal" and options.skip_existing:
        raise ValueError("--smooth temporal needs each frame's neighbours: give another --out, without --skip-existing")
    if options.video:
        flicker.check_installed()


def _in_order(targets: dict[folders.Page, epath.Path], files: Files) -> dict[folders.Page, epath.Path]:
    """Sorts the frames of a video; raises ValueError if their sizes differ."""
    ordered = {page: targets[page] for page in sorted(targets, key=folders.natural_order)}
    of_size: dict[tuple[int, int], folders.Page] = {}
    for page in ordered:
        with contextlib.suppress(ValueError):  # it is logged when the frame is to be translated
            of_size.setdefault(files.size(page), page)
    if len(of_size) > 1:
        (first, page), (second, other), *_ = of_size.items()
        raise ValueError(
            f"the frames of a video have one size: {page} has {first[0]}x{first[1]} pixels, and {other} "
            f"{second[0]}x{second[1]}: give those of one video, or leave out --video"
        )
    return ordered


def _flicker(data: DataConfig, options: Translate, targets: dict[folders.Page, epath.Path]) -> dict[str, float | None]:
    """Measures the flicker of a video from what is on the disk."""
    goal = DOMAINS[options.direction][1]

    def frame(page: folders.Page, target: epath.Path) -> tuple[np.ndarray, np.ndarray] | None:
        written = _written(target)
        if written is None:
            return None
        return _read(data, options, page)[1], conversion.to_floats(pictures.read(written, None), data, goal)

    logging.info("measuring the flicker of %d frames ...", len(targets))
    found = flicker.measure(frame(*item) for item in tqdm(targets.items(), unit="img", disable=None))
    return finite({"flicker": found.outputs, "flicker_inputs": found.inputs})


def _written(target: epath.Path) -> epath.Path | None:
    """Returns the file of a translation, perhaps in another format that holds it; None if there is none."""
    names = (target.with_name(target.name + added) for added in ("", *formats.ADDED))
    return next((path for path in names if path.exists()), None)


def _targets(given: Sequence[str], out: epath.Path, data: DataConfig, form: str) -> dict[folders.Page, epath.Path]:
    """Maps each image to the file of its translation.

    Formats that are only read get .png added to the name.
    """
    found = folders.named_pages(given, data)
    for folder in map(files.resolve, given):
        if folder.is_dir() and (out == folder or folder in out.parents):
            raise ValueError(
                f"--out {out} lies in --images {folder}, and the next call would translate translations: give another"
            )
    one = {page.path for page in found} == {files.resolve(given[0])}
    if one and out.suffix.lower() in formats.SUFFIXES:  # one image, by its name
        if out.suffix.lower() not in formats.WRITTEN_SUFFIXES:
            raise ValueError(f"--out {out} has a suffix that cannot be written: give FILE.png")
        targets = {page: page.named(out) for page in found}
    else:
        targets = {page: out / name for page, name in found.items()}
    if len(set(targets.values())) < len(targets):
        twice = next(target for target in targets.values() if list(targets.values()).count(target) > 1)
        raise ValueError(f"two images of --images {' '.join(given)} would be written as {twice}: rename one of them")
    kept = {".png"} if form == "png" else formats.WRITTEN_SUFFIXES
    renamed = {page: target.with_name(target.name + ".png") for page, target in targets.items()
               if target.suffix.lower() not in kept}  # fmt: skip
    if renamed:
        logging.info("%d translations are written as PNG, such as %s", len(renamed), next(iter(renamed.values())))
    return targets | renamed


def files_of(data: DataConfig, options: Translate) -> Files:
    """Returns the functions that read images as training did, and write translations."""
    source = DOMAINS[options.direction][0]
    return Files(
        lambda page: pictures.size(page.path, page.number, data.max_megapixels),
        functools.partial(_read, data, options),
        functools.partial(_write, data, options),
        (lambda image: conversion.to_floats(image, data, source)) if options.smooth == "temporal" else None,
    )


def _read(data: DataConfig, options: Translate, page: folders.Page) -> tuple[Picture, np.ndarray]:
    image = pictures.read(page.path, page.number, data.max_megapixels)
    return image, conversion.to_floats(image, data, DOMAINS[options.direction][0])


def _write(
    data: DataConfig, options: Translate, page: folders.Page, target: epath.Path, image: Picture, values: np.ndarray
) -> None:
    source, goal = DOMAINS[options.direction]
    translated = conversion.from_floats(values, conversion.opaque(image, data, source), data, goal)
    if options.alpha == "keep":
        translated = conversion.with_alpha(translated, image)
    written = pictures.written_as(target, translated)
    if written != target:
        logging.info("the translation of %s is written as %s, as %s cannot hold it", page, written, target.suffix)
    pictures.write(written, translated)


if __name__ == "__main__":
    cli.run(main)
