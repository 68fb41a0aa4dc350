"""Restoration with a trained VAE: inpainting, super-resolution, denoising, and any other operator.

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
from genjax.vae.config import VaeConfig
from genjax.vae.diagnostics import Diagnostics, without_chains
from genjax.vae.inference import Draws, InferenceConfig, Method, Target, chain_keys
from genjax.vae.model import Model, draw_noise
from genjax.vae.operators import Downsample, Operator

NUM_PRIOR_IMAGES = 64
"""Number of images of the prior whose mean is the first guess at unknown pixels."""


class Restoration(NamedTuple):
    """Restored images, the health of the method, and diagnostics of its chains."""

    images: np.ndarray
    """[n, num, h, w, c] in [0, 1]: sample i of an image is the same for any larger num. With the Gibbs methods and a
    num below `num_chains`, it is so up to rounding, which a stiff model's chain can amplify."""
    health: np.ndarray
    """[n], 0 to 1; do not trust samples with a health near 0.

    - hmc: effective number of starts that the chains descend from, as a share of the chains.
    - metropolis, pseudo_gibbs: 1 / R-hat^2 of the steps after the warm-up, for the latent that mixes worst.
    - importance: effective sample size of the proposals, as a share of them.
    - map: share of the other restarts that come within 1 nat of the best.
    - ancestral: 1, as its draws are exact.
    """
    diagnostics: Diagnostics
    """Diagnostics of the steps after the warm-up of hmc, metropolis and pseudo_gibbs; NaN for the other methods."""
    e: np.ndarray
    """[n, num, d], latents of the images: their E[x|z] is what was made to agree with the observation."""


class Settings(NamedTuple):
    """Static settings of a compiled restoration."""

    method: Method
    num_samples: int
    inference: InferenceConfig


def check_method(method: Method, config: VaeConfig, operator: Operator) -> None:
    """Raises ValueError for method ancestral where y is not the means of blocks, or latents are no wavelets."""
    if method != "ancestral":
        return
    levels = len(config.hidden_sizes) if config.architecture == "wavelet" else 0
    if not (isinstance(operator, Downsample) and operator.kernel == "box" and operator.factor <= 2**levels):
        raise ValueError(
            "method ancestral enlarges means of blocks (super_resolve.py with --kernel box) by a VAE with "
            f"--vae.architecture wavelet; here it is {config.architecture}, with factors up to {2**levels}: choose "
            "another method"
        )


def restore_rows(
    model: Model, settings: Settings, params: Params, key: Array, position: Array, y: Array, operator: Operator
) -> tuple[Array, Array, Diagnostics, Array]:
    """Draws images [b, num, h, w, c] in [0, 1] given y [b, ...]; returns the fields of `Restoration`."""
    target, draws = draw_rows(model, settings, params, key, position, y, operator)
    return target.operator.project(target.decode(draws.e), target.y), draws.health, draws.diagnostics, draws.e


def draw_rows(
    model: Model, settings: Settings, params: Params, key: Array, position: Array, y: Array, operator: Operator
) -> tuple[Target, Draws]:
    """Draws e from p(e|y) of y [b, ...]; returns the target too."""
    y, operator = jax.tree.map(lambda leaf: leaf[:, None], (y, operator))  # [b, 1, ...], beside k draws
    target = Target(model, params, operator, y)
    init_key, row_key = jax.random.split(key)
    # The first guess is the mean image of the prior, made to agree with y.
    noise = draw_noise(model, init_key, jnp.arange(NUM_PRIOR_IMAGES))
    mean = jnp.mean(model.decode(params, model.generate(params, noise)).mean(), axis=0)
    init = operator.impute(jnp.broadcast_to(mean, (len(y), 1, *mean.shape)), y)
    return target, draw_latents(target, keys.per_example(row_key, position), init, settings)


def draw_latents(target: Target, image_keys: Array, init: Array, settings: Settings) -> Draws:
    """Draws e from p(e|y) `num_samples` times for each image; method map repeats the mode.

    `image_keys` is [b]; `init` [b, 1, h, w, c] holds images that agree with y, the first inputs of the encoder.
    """
    method, num, config = settings
    search_keys, root_keys = inference.split_keys(image_keys)
    if method == "importance":
        return inference.importance(target, search_keys, init, num, config)
    if method == "ancestral":
        return inference.ancestral(target, search_keys, init, num, config)
    if method == "map":
        e, height = inference.map_estimates(target, search_keys, init, config)
        mode = jnp.repeat(e[:, :1], num, axis=1)
        return Draws(mode, inference.agreement_of_restarts(height), without_chains(len(e)))
    # hmc needs all of its chains even for one draw, to weigh the modes.
    chains = chain_keys(root_keys, config.num_particles if method == "hmc" else min(config.num_chains, num))
    num_rounds = -(-num // chains.shape[1])  # rounded up; draws beyond `num` are cut off below
    if method == "hmc":
        draws = mcmc.hmc(target, search_keys, chains, init, num_rounds, config)
    else:
        draws = mcmc.gibbs(target, chains, init, num_rounds, config, exact=method == "metropolis")
    return draws._replace(e=draws.e[:, :num])
