"""Choice of the best checkpoint: the validation loss that `--train.best-by` names, lower is better."""

import logging
from collections.abc import Mapping

import numpy as np
from jax.sharding import Mesh

from genjax import glossary
from genjax.config import RunConfig
from genjax.data import image_arrays
from genjax.data.splits import Splits
from genjax.evaluation import features, perceptual, whole_sets
from genjax.keys import SCORING_SEED
from genjax.task import C, Evaluate, S, Split, Task

logger = logging.getLogger(__name__)

NUM = 500
"""Largest number of pictures of a set, and of real ones, that an evaluation during training compares."""

AUTO, NONE = "auto", "none"
WITHOUT_PAIRS = "alexnet"
"""Network whose KID is the loss of a family without one of its own, as a CycleGAN without pairs.

The extra `features` has to be installed. A training that learns from this network is judged by the other one.
"""


def resolve(task: Task[C, S], config: C, best_by: str) -> str:
    """Returns the loss that `best_by` asks for: itself, or that of the family for auto.

    Raises ValueError for a name that the family does not have, and if the networks that it needs are not there.
    """
    own, default = dict(task.scores), next(iter(task.scores), NONE)
    if len(config.data.channels) == 2 and not config.data.paired:  # the first compares with the truth
        own.pop(default, None)
        judge = perceptual.OTHER.get(perceptual.features_of(config), WITHOUT_PAIRS)
        default = f"kid:{judge}" if features.installed() and _has_judge(config) else NONE
    if best_by == AUTO:
        return default
    metric, _, network = best_by.partition(":")
    if best_by in own or best_by == NONE:
        return best_by
    if metric not in whole_sets.DISTANCES or not network:
        distances = ", ".join(f"{name}:NETWORK" for name in whole_sets.DISTANCES)
        raise ValueError(
            f"--train.best-by {best_by} is no validation loss of this run: give {', '.join([AUTO, NONE, *own])}, or "
            f"{distances}, with NETWORK as for evaluate.py --features"
        )
    perceptual.check_judge(config, network, f"--train.best-by {metric}:")
    loaded = features.load(network)
    for shape in config.data.image_shapes:
        features.check(loaded, shape)
    return best_by


def _has_judge(config: RunConfig) -> bool:
    """True if alexnet and vgg16 take the images of a run."""
    return all(min(size) >= features.LEAST and channels in (1, 3) for *size, channels in config.data.image_shapes)


def score(task: Task[C, S], best_by: str, metrics: Mapping[str, float]) -> float | None:
    """Returns the mean of the metrics that a resolved `--train.best-by` names; None for none and if one is missing."""
    if best_by == NONE:
        return None
    prefix = best_by.partition(":")[0] + "_"
    names = task.scores.get(best_by) or [name for name in metrics if name.startswith(prefix)]  # or kid_a2b, ...
    if not names or any(metrics.get(name) is None for name in names):
        return None
    return float(np.mean([metrics[name] for name in names]))


def score_title(task: Task[C, S], best_by: str) -> str:
    """Names the score in words: negative ELBO, L1 to the truth, KID (alexnet)."""
    metric, _, network = best_by.partition(":")
    names = task.scores.get(best_by, (metric,))
    title = glossary.title(names[0] if len(names) == 1 else metric)
    return f"{title} ({network})" if network else title


def compile_distance(task: Task[C, S], config: C, mesh: Mesh) -> Evaluate[S]:
    """Compiles an evaluator of the distance that `--train.best-by` names, METRIC_SET for each generated set.

    It returns nothing for a loss that the family measures itself. A distance is NaN if a picture is not finite.
    """
    metric, _, network = config.train.best_by.partition(":")
    if not network:
        return lambda state, splits, split: {}
    extract, generate = features.compile_extract(features.load(network), mesh), task.generate(config, mesh)
    real: dict[tuple[Split, int], np.ndarray] = {}  # features of real images, which are the same at each evaluation

    def evaluate(state: S, splits: Splits, split: Split) -> dict[str, float]:
        found = {}
        for name, made in generate(state, splits, split, NUM, SCORING_SEED).items():
            images = getattr(splits, split)[made.domain]
            if (fewest := min(len(images), len(made.pictures))) < 2:
                logger.warning("no %s_%s: it needs at least 2 %s images, and there is %d", metric, name, split, fewest)
                continue
            if (split, made.domain) not in real:
                real[split, made.domain] = extract(image_arrays.evenly_spaced(images, NUM))
            # Asked of the floats: `to_uint8` makes NaN black.
            finite = bool(np.isfinite(made.pictures).all())
            drawn = extract(image_arrays.to_uint8(made.pictures))
            distance = whole_sets.DISTANCES[metric]
            found[f"{metric}_{name}"] = distance(drawn, real[split, made.domain]) if finite else float("nan")
        return found

    return evaluate
