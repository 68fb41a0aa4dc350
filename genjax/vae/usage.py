"""Active units: latents by which a VAE tells images apart (Burda, Grosse and Salakhutdinov 2016)."""

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh

from genjax import keys
from genjax.compiled import compile_eval
from genjax.data import augment, image_arrays
from genjax.data.batches import Batch
from genjax.data.splits import Splits
from genjax.evaluation.per_image import over_images
from genjax.task import Evaluate, Split
from genjax.vae.config import VaeRun
from genjax.vae.model import MakeModel, from_config
from genjax.vae.steps import VaeState

ACTIVE = 0.01
"""Variance over images of E[e|x] above which a latent is active."""

SAMPLE = 1000
"""Largest number of images, evenly spaced, whose means are compared in a training."""


def num_active(mean: Array | np.ndarray) -> int:
    """Counts the active units among posterior means E[e|x], [n, d]."""
    return int(np.sum(np.var(np.asarray(mean, np.float64), axis=0) > ACTIVE))


def active_units(config: VaeRun, mesh: Mesh, make_model: MakeModel = from_config) -> Evaluate[VaeState]:
    """Makes an evaluator that counts the active units of the averaged parameters; it decodes nothing."""

    def means(config: VaeRun, state: VaeState, batch: Batch, key: Array) -> tuple[dict[str, Array]]:
        # The keys of eval_step, so that the first draw of both has the same pixels.
        image_key, _ = jax.random.split(key)
        x = augment.evaluation_images(config.data, keys.per_example(image_key, batch.position), batch.images[0])
        return ({"mean": make_model(config).encode(state.ema, x).mean},)

    encode, size = compile_eval(means, config, mesh), config.data.batch_size

    def evaluate(state: VaeState, splits: Splits, split: Split) -> dict[str, float]:
        (images,) = getattr(splits, split)
        chosen = (image_arrays.evenly_spaced(images, SAMPLE),)
        return {"active_units": float(num_active(over_images(encode, state, chosen, size, split)["mean"]))}

    return evaluate
