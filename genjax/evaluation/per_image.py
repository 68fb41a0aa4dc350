"""Metrics of single images over a whole set: every image counts once, with the same noise in every run."""

import math
from collections.abc import Callable, Collection

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh

from genjax import parallel
from genjax.compiled import compile_eval
from genjax.data import batches
from genjax.data.splits import Domains, Splits
from genjax.keys import SCORING_SEED, Stream
from genjax.parallel import PyTree
from genjax.task import C, Evaluate, Evaluator, S, Split

EvalStep = Callable[..., tuple[dict[str, Array], ...]]
"""(config, state, batch, key) -> for each domain, metrics [b] by name; names of two domains differ."""

Values = dict[str, np.ndarray]
"""Metrics by name, float64 [draws, n]: one number for each draw of the noise and each image."""

STREAMS: dict[Split, Stream] = {"validation": Stream.VALIDATION, "test": Stream.TEST}


def means(values: Values) -> dict[str, float]:
    """Averages each metric over all draws and images."""
    return {name: float(np.mean(of_draws)) for name, of_draws in values.items()}


def errors(values: Values, names: Collection[str]) -> dict[str, float]:
    """Returns NAME_image_se, the standard error over other images, for those of the metrics `names` that there are."""
    return {f"{name}_image_se": image_standard_error(values[name]) for name in names if name in values}


def per_image_means(
    eval_step: EvalStep,
    summarize: Callable[[Values], dict[str, float]] = means,
    num_draws: Callable[[C, Split], int] = lambda config, split: 1,
) -> Evaluator[C, S]:
    """Makes an evaluator that computes the metrics of `eval_step` for all images, and returns `summarize` of them.

    It does so `num_draws` times, each with noise of its own. Means are taken in float64 on the host, so batch size and
    number of devices change them only by the float32 rounding of each image's metric.
    """

    def evaluator(config: C, mesh: Mesh) -> Evaluate[S]:
        compiled, size = compile_eval(eval_step, config, mesh), config.data.batch_size

        def evaluate(state: S, splits: Splits, split: Split) -> dict[str, float]:
            images = getattr(splits, split)
            draws = [
                over_images(compiled, state, images, size, split, draw) for draw in range(num_draws(config, split))
            ]
            return summarize({name: np.stack([draw[name] for draw in draws]).astype(np.float64) for name in draws[0]})

        return evaluate

    return evaluator


def over_images(
    compiled: Callable[..., PyTree], state: PyTree, images: Domains, batch_size: int, split: Split, draw: int = 0
) -> dict[str, np.ndarray]:
    """Applies `compiled`, from `compile_eval`, to every image of each domain once; returns [n, ...] by name.

    The noise is that of this `draw` in every run.
    """
    results = [
        jax.device_get(compiled(state, batch, STREAMS[split], SCORING_SEED, draw))
        for batch in batches.eval_batches(images, batch_size, parallel.process_rows(batch_size))
    ]
    # Rows beyond a domain's length are padding: of a last batch, or of the shorter domain.
    return {
        name: np.concatenate([part[name] for part in parts])[: len(array)]
        for array, parts in zip(images, zip(*results, strict=True), strict=True)
        for name in parts[0]
    }


def draw_standard_error(values: np.ndarray) -> float:
    """Estimates the standard error of the mean of `values` [draws, n] if the noise were drawn anew.

    It is NaN for one draw. The images stay the same, and their noise is independent.
    """
    draws, num = values.shape
    # Images are independent: the variance of their sum is the sum of variances.
    return math.sqrt(float(_variance(values).sum()) / draws) / num


def image_standard_error(values: np.ndarray) -> float:
    """Estimates the standard error of the mean of `values` [draws, n] with n other images; NaN for one image.

    What is left of the noise is included, as other images would have other noise too.
    """
    num = values.shape[1]
    return math.sqrt(float(_variance(values.mean(axis=0))) / num)


def _variance(values: np.ndarray) -> np.ndarray:
    """Computes the unbiased variance over the first axis; NaN for one value or for values that are not finite."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.sum((values - values.mean(axis=0)) ** 2, axis=0) / np.float64(len(values) - 1))
