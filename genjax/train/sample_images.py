"""Grids of pictures that show the progress of a training, always of the same images and from the same keys."""

import math
import re
from collections.abc import Callable, Iterable

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh

from genjax import files, parallel
from genjax.compiled import compile_eval
from genjax.data import batches, image_arrays
from genjax.data.splits import Splits
from genjax.keys import Stream
from genjax.task import C, S, Task

WriteGrids = Callable[[epath.Path, int, S, Splits, int], dict[str, np.ndarray]]
"""(run directory, step, state, images, seed of the noise): writes samples/NAME-STEP.png, and returns them by NAME."""


MOST_FRAMES = 24
"""Grids in an animation."""
LEAST = 256
"""Pixels of its longer side, to which smaller grids are enlarged."""
STAY = 6
"""Frames for which its last grid stays."""


def write_growth(workdir: epath.Path, names: Iterable[str]) -> None:
    """Writes samples/NAME.webp, an animation of the grids samples/NAME-STEP.png; the last one stays for longer.

    Of many grids it shows MOST_FRAMES evenly spaced ones. Nothing is written for a single one.
    """
    for name in names:
        is_grid = re.compile(rf"{re.escape(name)}-\d+\.png").fullmatch
        # Steps have eight digits, so names are in the order of steps.
        paths = sorted((path for path in (workdir / "samples").iterdir() if is_grid(path.name)), key=lambda p: p.name)
        spaced = np.linspace(0, len(paths) - 1, min(MOST_FRAMES, len(paths))).astype(int)
        frames = [image_arrays.read_png(paths[i]) for i in spaced]
        alike = [frame for frame in frames if frame.shape == frames[-1].shape]  # a resumed run may draw more images
        if len(alike) > 1:
            shown = list(image_arrays.enlarged(np.stack(alike), LEAST))
            moving = image_arrays.encode_animation([*shown, *shown[-1:] * STAY], milliseconds=250)
            files.write_atomically(workdir / "samples" / f"{name}.webp", moving)


def compile_grids(task: Task[C, S], config: C, mesh: Mesh) -> WriteGrids[S]:
    """Compiles a function that draws grids of `config.train.num_sample_images` evenly spaced validation images.

    Fewer are shown where a domain has fewer.
    """
    visualize, num, size = (
        compile_eval(task.visualize, config, mesh),
        config.train.num_sample_images,
        config.data.batch_size,
    )

    def write_grids(workdir: epath.Path, step: int, state: S, splits: Splits, seed: int) -> dict[str, np.ndarray]:
        shown = min(num, *(len(array) for array in splits.validation))
        chosen = tuple(image_arrays.evenly_spaced(array, shown) for array in splits.validation)
        drawn = [
            jax.device_get(visualize(state, batch, Stream.SAMPLE, seed))
            for batch in batches.eval_batches(chosen, size, parallel.process_rows(size))
        ]
        if not parallel.is_main_process():  # but every process had to compute its part
            return {}
        grids = {}
        for name in drawn[0]:
            pictures = np.concatenate([part[name] for part in drawn])[:shown]
            _, height, width, _ = pictures.shape
            columns = max(1, round(math.sqrt(shown * height / width)))  # a grid that is about square
            grids[name] = image_arrays.grid(image_arrays.to_uint8(pictures), columns)
            image_arrays.write_png(workdir / "samples" / f"{name}-{step:08d}.png", grids[name])
        return grids

    return write_grids
