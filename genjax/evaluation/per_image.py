"""Averages of per-image metrics over a whole set; every image counts once."""

from collections.abc import Callable

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh

from genjax import parallel
from genjax.compiled import compile_eval
from genjax.data import batches
from genjax.data.splits import Splits
from genjax.keys import Stream
from genjax.task import C, Evaluate, Evaluator, S, Split

EvalStep = Callable[..., tuple[dict[str, Array], ...]]
"""(config, state, batch, key) -> for each domain, metrics [b] by name; names of two domains differ."""

STREAMS: dict[Split, Stream] = {"validation": Stream.VALIDATION, "test": Stream.TEST}


def per_image_means(
    eval_step: EvalStep, summarize: Callable[[dict[str, float]], dict[str, float]] = dict
) -> Evaluator[C, S]:
    """Makes an evaluator that averages each metric of `eval_step` over all images, then applies `summarize`.

    Means are taken in float64 on the host, so batch size and number of devices change them only by the float32 rounding
    of each image's metric.
    """

    def evaluator(config: C, mesh: Mesh) -> Evaluate[S]:
        score, size = compile_eval(eval_step, config, mesh), config.data.batch_size

        def evaluate(state: S, splits: Splits, split: Split, seed: int) -> dict[str, float]:
            images = getattr(splits, split)
            scored = [
                jax.device_get(score(state, batch, STREAMS[split], seed))
                for batch in batches.eval_batches(images, size, parallel.process_rows(size))
            ]
            return summarize({
                name: float(np.mean(np.concatenate([part[name] for part in parts])[: len(array)], dtype=np.float64))
                for array, parts in zip(images, zip(*scored, strict=True), strict=True)
                for name in parts[0]
            })  # fmt: skip

        return evaluate

    return evaluator
