"""Restoration with a trained VAE: inpainting, super-resolution, or whatever an operator describes.

Draws of e from p(e|y), or its mode, are decoded, and what is known is put back into E[x|z]. See `Sampler.restore`.
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
"""Images of the prior whose mean is the first guess at what is unknown."""


class Restoration(NamedTuple):
    """Restored images and how far they are to be trusted."""

    images: np.ndarray
    """[n, num, h, w, c] in [0, 1]: sample i of an image is the same for any larger num, up to rounding if num is
    below `num_chains`, which a stiff model's chain can amplify."""
    efficiency: np.ndarray
    """[n]: the share of proposals that chains accepted, or the effective share of weighed ones; 1 for map and
    pseudo_gibbs. Near 0, the samples are not to be trusted."""


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
    # The first guess at what is unknown is the prior's mean image, as far as it agrees with y.
    noise = draw_noise(model, init_key, jnp.arange(NUM_PRIOR_IMAGES))
    mean = jnp.mean(model.decode(params, model.generate(params, noise)).mean(), axis=0)
    init = operator.impute(jnp.broadcast_to(mean, (len(y), 1, *mean.shape)), y)
    draws = draw_latents(target, keys.per_example(row_key, position), init, settings)
    return operator.project(jnp.clip(target.decode(draws.e).mean(), 0, 1), y), draws.efficiency


def draw_latents(target: Target, image_keys: Array, init: Array, settings: Settings) -> Draws:
    """Draws e from p(e|y) of each image `num_samples` times, or repeats its mode as often.

    `image_keys` is [b]; `init` [b, 1, h, w, c] are images that agree with y, for the encoder to begin with.
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
