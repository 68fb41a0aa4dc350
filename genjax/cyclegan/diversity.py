"""Diversity of translations: whether they differ from each other as images of their target domain do."""

import numpy as np
from jax import Array
from jax.sharding import Mesh

from genjax.compiled import compile_eval
from genjax.cyclegan import translation
from genjax.cyclegan.config import CycleGanRun
from genjax.cyclegan.nets import MakeNetworks, make_networks
from genjax.cyclegan.steps import CycleGanState
from genjax.data import image_arrays
from genjax.data.batches import Batch
from genjax.data.splits import Splits
from genjax.evaluation import image_metrics, thresholds
from genjax.evaluation.per_image import over_images
from genjax.task import Evaluate, Split

SAMPLE = 100
"""Largest number of images of each domain, evenly spaced, that are translated and compared."""


def diversity(
    config: CycleGanRun, mesh: Mesh, *, make_networks: MakeNetworks = make_networks
) -> Evaluate[CycleGanState]:
    """Makes an evaluator of diversity_a2b and diversity_b2a, by the averaged generators.

    They are 0 if all translations are equal, and 1 if they are as far from each other (root mean squared distance) as
    images of their target domain. They depend neither on the batch size nor on the devices.
    """

    def translate(config: CycleGanRun, state: CycleGanState, batch: Batch, key: Array) -> tuple[dict[str, Array], ...]:
        del key
        a, b = (image_arrays.to_unit(images) for images in batch.images)
        to_b = translation.translate(config, state.ema, "a2b", a, make_networks)
        to_a = translation.translate(config, state.ema, "b2a", b, make_networks)
        return {"a2b": to_b}, {"b2a": to_a}

    compiled, size = compile_eval(translate, config, mesh), config.data.batch_size

    def evaluate(state: CycleGanState, splits: Splits, split: Split) -> dict[str, float]:
        images = getattr(splits, split)
        # As many of either domain: the fewer images, the smaller their spread.
        num = min(SAMPLE, *map(len, images))
        a, b = (array[np.linspace(0, len(array) - 1, num).astype(int)] for array in images)
        found = over_images(compiled, state, (a, b), size, split)
        return {"diversity_a2b": _relative(found["a2b"], b), "diversity_b2a": _relative(found["b2a"], a)}

    return evaluate


def _relative(translated: np.ndarray, target: np.ndarray) -> float:
    """Computes the diversity of `translated`, floats in [0, 1], relative to uint8 images; 1 if those are all alike."""
    reference = image_arrays.unit_floats(target)
    alike = image_metrics.mean_and_variance(reference)[1] < thresholds.ALIKE**2
    return 1.0 if alike else image_metrics.diversity(translated, reference)
