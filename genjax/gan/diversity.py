"""Diversity of translations: whether they differ from each other as images of their target domain do."""

import numpy as np
from jax import Array
from jax.sharding import Mesh

from genjax.compiled import compile_eval
from genjax.data import image_arrays
from genjax.data.batches import Batch
from genjax.data.splits import Splits
from genjax.evaluation import image_metrics, thresholds
from genjax.evaluation.per_image import over_images
from genjax.gan import translation
from genjax.gan.config import GanRun
from genjax.gan.networks import DOMAINS, MakeNetworks
from genjax.task import Evaluate, Split, State

SAMPLE = 100
"""Largest number of images of each domain, evenly spaced, that are translated and compared."""


def diversity(config: GanRun, mesh: Mesh, *, make_networks: MakeNetworks) -> Evaluate[State]:
    """Makes an evaluator of diversity_a2b and diversity_b2a, of the directions that there are, by averaged generators.

    They are 0 if all translations are equal, and 1 if they are as far from each other (root mean squared distance) as
    images of their target domain. They depend neither on the batch size nor on the devices.
    """
    directions = tuple(make_networks(config).generators)

    def translate(config: GanRun, state: State, batch: Batch, key: Array) -> tuple[dict[str, Array], ...]:
        del key
        made: tuple[dict[str, Array], ...] = ({}, {})  # by the domain of the images
        for direction in directions:
            source, _ = DOMAINS[direction]
            images = image_arrays.to_unit(batch.images[source])
            made[source][direction] = translation.translate(config, state.ema, direction, images, make_networks)
        return made

    compiled, size = compile_eval(translate, config, mesh), config.data.batch_size

    def evaluate(state: State, splits: Splits, split: Split) -> dict[str, float]:
        images = getattr(splits, split)
        # As many of either domain: the fewer images, the smaller their spread.
        num = min(SAMPLE, *map(len, images))
        chosen = tuple(array[np.linspace(0, len(array) - 1, num).astype(int)] for array in images)
        found = over_images(compiled, state, chosen, size, split)
        return {f"diversity_{of}": _relative(found[of], chosen[DOMAINS[of][1]]) for of in directions}

    return evaluate


def _relative(translated: np.ndarray, target: np.ndarray) -> float:
    """Computes the diversity of `translated`, floats in [0, 1], relative to uint8 images; 1 if those are all alike."""
    reference = image_arrays.unit_floats(target)
    alike = image_metrics.mean_and_variance(reference)[1] < thresholds.ALIKE**2
    return 1.0 if alike else image_metrics.diversity(translated, reference)
