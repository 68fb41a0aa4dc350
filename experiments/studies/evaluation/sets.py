"""Sets of pictures that a run generates, with the real ones that they are compared with."""

import logging
from collections.abc import Collection

import numpy as np
from jax.sharding import Mesh

from genjax import loading
from genjax.config import seed_of
from genjax.data import image_arrays, sources
from genjax.evaluation.picture_sets import METRICS, OF_TRAINING, Sets
from genjax.families import task_of
from genjax.loading import Which
from genjax.task import Split
from genjax.train import config_file


def sets_of_run(
    workdir: str, which: Which, split: Split, num: int, seed: int, mesh: Mesh, metrics: Collection[str] = METRICS
) -> tuple[dict[str, Sets], int]:
    """Returns the sets that a run generates for `metrics`, each followed by training pictures, and the step."""
    config = config_file.load(workdir)
    task = task_of(config)
    step, state = loading.restore(task, config, mesh, which)
    splits = sources.load(config.data, seed_of(config, "data"))
    num = min(num, *map(len, splits.train))
    logging.info("generating up to %d pictures of each set by step %d ...", num, step)
    sets: dict[str, Sets] = {}
    for name, made in task.generate(config, mesh)(state, splits, split, num, seed).items():
        if not np.isfinite(made.pictures).all():
            raise ValueError(f"the pictures of step {step} are not finite: give another --which")
        real, train = (
            image_arrays.evenly_spaced(images[made.domain], num) for images in (getattr(splits, split), splits.train)
        )
        if len(train) < (total := len(splits.train[made.domain])) and set(metrics) & set(OF_TRAINING):
            logging.warning(
                "%s: copies are looked for among %d of %d training images; --num %d takes all",
                name, len(train), total, total,
            )  # fmt: skip
        pictures = image_arrays.to_uint8(made.pictures)  # as they would be written to files
        sets[name] = Sets(pictures, real, train, made.inputs, made.truth)
        sets[f"train_{name}"] = Sets(image_arrays.evenly_spaced(train, len(pictures)), real)
    return sets, step


def with_copies(sets: dict[str, Sets]) -> dict[str, Sets]:
    """Puts behind each set of translations its inputs as they are, if both have one form."""
    found: dict[str, Sets] = {}
    for name, each in sets.items():
        found[name] = each
        if each.inputs is not None and each.inputs.shape == each.pictures.shape:
            copies = image_arrays.to_uint8(image_arrays.unit_floats(each.inputs))
            found[f"copy_{name}"] = Sets(copies, each.real, truth=each.truth)
    return found
