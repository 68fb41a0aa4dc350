"""Restoration with a trained VAE: inpainting, super-resolution, and any other operator.

Draws of e from p(e|y), or its mode, are decoded to E[x|z] and made to agree with y. See `Sampler.restore`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from genjax import keys
from genjax.optim import Params
from genjax.vae import inference, mcmc
from genjax.vae.inference import Draws, InferenceConfig, Method, Target, chain_keys
from genjax.vae.model import Model, draw_noise
from genjax.vae.operators import Operator

NUM_PRIOR_IMAGES = 64
"""Number of images of the prior whose mean is the first guess at unknown pixels."""


class Restoration(NamedTuple):
    """Restored images and the efficiency of the sampler."""

    images: np.ndarray
    """[n, num, h, w, c] in [0, 1]: sample i of an image is the same for any larger num, up to rounding if num is
    below `num_chains`, which a stiff model's chain can amplify."""
    efficiency: np.ndarray
    """[n]: share of accepted proposals, or effective sample size of weighted ones as a share; 1 for map and
    pseudo_gibbs. Do not trust samples with an efficiency near 0."""


class Settings(NamedTuple):
    """Static settings of a compiled restoration."""

    method: Method
    num_samples: int
    inference: InferenceConfig


def restore_rows(
    model: Model, settings: Settings, params: Params, key: Array, position: Array, y: Array, operator: Operator
) -> tuple[Array, Array]:
    """Draws images [b, num, h, w, c] in [0, 1] given y [b, ...]; returns them and the efficiency [b]."""
    y, operator = jax.tree.map(lambda leaf: leaf[:, None], (y, operator))
    target = Target(model, params, operator, y)
    init_key, row_key = jax.random.split(key)
    # The first guess is the mean image of the prior, made to agree with y.
    noise = draw_noise(model, init_key, jnp.arange(NUM_PRIOR_IMAGES))
    mean = jnp.mean(model.decode(params, model.generate(params, noise)).mean(), axis=0)
    init = operator.impute(jnp.broadcast_to(mean, (len(y), 1, *mean.shape)), y)
    draws = draw_latents(target, keys.per_example(row_key, position), init, settings)
    return operator.project(jnp.clip(target.decode(draws.e).mean(), 0, 1), y), draws.efficiency


def draw_latents(target: Target, image_keys: Array, init: Array, settings: Settings) -> Draws:
    """Draws e from p(e|y) `num_samples` times for each image; method map repeats the mode.

    `image_keys` is [b]; `init` [b, 1, h, w, c] holds images that agree with y, the first inputs of the encoder.
    """
    method, num, config = settings
    search_keys, root_keys = inference.split_keys(image_keys)
    if method == "importance":
        return inference.importance(target, search_keys, init, num, config)
    if method == "map":
        e, log_joint = inference.map_estimates(target, search_keys, init, config)
        best = jnp.take_along_axis(e, jnp.argmax(log_joint, axis=1)[:, None, None], axis=1)
        return Draws(jnp.repeat(best, num, axis=1), jnp.ones(len(init)))
    chains = chain_keys(root_keys, min(config.num_chains, num))
    num_rounds = -(-num // chains.shape[1])
    if method == "hmc":
        draws = mcmc.hmc(target, search_keys, chains, init, num_rounds, config)
    else:
        draws = mcmc.gibbs(target, chains, init, num_rounds, config, exact=method == "metropolis")
    return Draws(draws.e[:, :num], draws.efficiency)
