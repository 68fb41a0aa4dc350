"""Draws where two domains of aligned images differ, without pairs: white there, black where nothing has to change.

$ python experiments/difference_map.py --data.source faces-glasses --out glasses.png
$ python experiments/train_cyclegan.py faces-glasses --loss.keep 10 --keep-mask glasses.png --workdir runs/kept

A pixel is white if its levels in the training images of A and of B are distributed differently by more than chance. The
picture may be edited before it is used as --keep-mask. Where images are not aligned, most of it is white, and keeps
nothing.
"""

import dataclasses
import logging
from typing import Any

import tyro

from genjax import cli, files, flag_help
from genjax.cyclegan import keep_mask
from genjax.data import image_arrays, sources
from genjax.data.config import DataConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Options: the images, as in a training, and the picture."""

    data: DataConfig = DataConfig(source="faces-glasses", image_size=(32, 32), channels=(3, 3), batch_size=1)
    out: str
    """Picture to write: a .png file."""


def main() -> dict[str, Any]:
    """Measures and writes the picture."""
    options = tyro.cli(Options, description=flag_help.description(__doc__))
    path = files.resolve(options.out)
    if path.suffix != ".png":
        raise ValueError(f"--out {options.out} must end in .png")
    if path.exists():
        raise ValueError(f"{path} exists already: give another --out")
    channels, resize = options.data.channels, options.data.resize
    if len(channels) != 2 or options.data.crops:
        raise ValueError(
            "a difference map needs two domains of whole images: give two --data.channels, no --data.load-scale, and "
            f"--data.resize cover or stretch, got {channels} and {resize}"
        )
    mask = keep_mask.measure(*sources.load(options.data, seed=0).train)
    if not mask.any():
        logging.warning(
            "no pixel is white, so as a mask this picture keeps everything: nothing differs, or more images are needed"
        )
    image_arrays.write_png(path, mask)
    return {"out": str(path), "white": round(float((mask > 0).mean()), 4)}


if __name__ == "__main__":
    cli.run(main)
