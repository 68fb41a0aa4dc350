"""Translates images, and every image below folders, with a trained CycleGAN.

$ python experiments/translate.py --workdir runs/icons --direction a2b --images photos --out translated

Images may be PNG, JPEG, WebP, TIFF or BMP of any size, 8 or 16 bit, grey or colour. A translation has the size, depth,
alpha channel, format and name of its image. GIF, PPM and PGM are refused, as genjax does not write them. No file is
overwritten. An image that cannot be read is logged and skipped.
"""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

import jax
import tyro
from etils import epath
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from genjax import cli, files, parallel
from genjax.cyclegan.nets import DOMAINS, Direction
from genjax.data import folders, pictures
from genjax.loading import Translator, Which, load_translator


@dataclasses.dataclass(frozen=True, kw_only=True)
class Translate:
    """Options: images, trained CycleGAN and output folder."""

    workdir: str
    """Directory of the training run."""
    direction: Direction
    """From domain A to B, or back."""
    images: tuple[str, ...]
    """Images, and folders of images, with all folders below them."""
    out: str
    """Folder for the translations; for a single image, also the file to write."""
    skip_existing: bool = False
    """Skips images whose translation exists, to continue an earlier call."""
    which: Which = "last"
    """The last checkpoint, or the best on validation (paired data only)."""


def main() -> dict[str, Any]:
    """Translates all images that can be read; counts the others as failed."""
    options = tyro.cli(Translate, description=__doc__)
    targets = _targets(options.images, files.resolve(options.out))
    missing = {path: target for path, target in targets.items() if not target.exists()}
    if len(missing) < len(targets) and not options.skip_existing:
        first = next(target for path, target in targets.items() if path not in missing)
        num = len(targets) - len(missing)
        raise ValueError(f"{first} exists already ({num} of {len(targets)} do): give another --out, or --skip-existing")
    translator = load_translator(options.workdir, options.which, parallel.make_mesh(jax.devices()[:1]))
    failed = 0
    with logging_redirect_tqdm():
        for path, target in tqdm(missing.items(), unit="img", disable=None):
            try:
                _translate(translator, options.direction, path, target)
            except (ValueError, MemoryError, jax.errors.JaxRuntimeError) as error:  # the last when a device is full
                logging.error("passed over %s: %s", path, str(error).partition("\n")[0])
                failed += 1
    if failed and failed == len(missing):
        raise ValueError(f"none of the {failed} images could be translated (see above)")
    return {"images": len(missing) - failed, "failed": failed, "step": translator.step, "out": options.out}


def _targets(sources: Sequence[str], out: epath.Path) -> dict[epath.Path, epath.Path]:
    """Maps each image to the file of its translation; raises ValueError for formats that cannot be written."""
    found = folders.named_images(sources)
    for source in map(files.resolve, sources):
        if source.is_dir() and (out == source or source in out.parents):
            raise ValueError(
                f"--out {out} lies in --images {source}, and the next call would translate translations: give another"
            )
    if list(found) == [files.resolve(sources[0])] and out.suffix.lower() in pictures.SUFFIXES:  # one image, by its name
        targets = dict.fromkeys(found, out)
    else:
        targets = {path: out / name for path, name in found.items()}
    if len(set(targets.values())) < len(targets):
        twice = next(target for target in targets.values() if list(targets.values()).count(target) > 1)
        raise ValueError(f"two images of --images {' '.join(sources)} would be written as {twice}: rename one of them")
    unwritable = [target for target in targets.values() if target.suffix.lower() not in pictures.WRITTEN_SUFFIXES]
    if unwritable:
        raise ValueError(
            f"{unwritable[0]} ({len(unwritable)} of {len(targets)} translations) has a suffix that cannot be written "
            f"({', '.join(sorted(pictures.WRITTEN_SUFFIXES))} can): convert the image, or for one give --out FILE.png"
        )
    return targets


def _translate(translator: Translator, direction: Direction, path: epath.Path, target: epath.Path) -> None:
    image = pictures.read(path)
    channels = translator.config.data.channels[DOMAINS[direction][0]]
    translated = translator.translate(direction, pictures.to_float(image, channels)[None])[0]
    pictures.write(target, pictures.from_float(translated, image))


if __name__ == "__main__":
    cli.run(main)
