"""Simulation-based calibration: do the draws of a restoration look like the truth that they stand for?

The truth e is drawn from the prior, x from p(x|e), y from the operator. Given y, the truth and exact draws from p(e|y)
are alike, so the rank of the truth among the draws is uniform, for any function of e and y (Talts, Betancourt, Simpson,
Vehtari and Gelman 2018). Too many extreme ranks: the draws are too alike. Too few: they are too far apart.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jax import Array

from genjax import keys
from genjax.optim import Params
from genjax.vae import restoration
from genjax.vae.inference import Target
from genjax.vae.model import Model, draw_noise
from genjax.vae.operators import Operator
from genjax.vae.restoration import Settings

NUM_LATENTS = 3
FUNCTIONS = ("log p(y, e)", "mean pixel", *(f"latent {i}" for i in range(NUM_LATENTS)))
"""Names of the functions of e and y that are ranked; the mean pixel is that of E[x|z]."""

MIN_EXPECTED = 5
"""Least expected number of truths for each rank; the chi-squared test is wrong with fewer (Cochran 1954)."""


class Calibration(NamedTuple):
    """Values of FUNCTIONS for n truths and `num` draws for each, and the health of the draws."""

    truth: np.ndarray  # [n, f]
    draws: np.ndarray  # [n, num, f]
    health: np.ndarray  # [n]


def simulate_rows(model: Model, params: Params, key: Array, position: Array) -> tuple[Array, Array]:
    """Draws e [b, d] from the prior, and an image [b, h, w, c] from p(x|e), at `position` [b]."""
    e_key, x_key = jax.random.split(key)
    e = draw_noise(model, e_key, position)
    return e, model.decode(params, model.generate(params, e)).sample(keys.per_example(x_key, position))


def calibrate_rows(
    model: Model,
    settings: Settings,
    params: Params,
    key: Array,
    position: Array,
    y: Array,
    operator: Operator,
    e: Array,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """Draws from p(e|y) with truths e [b, d]; returns the fields of `Calibration`."""
    target, draws = restoration.draw_rows(model, settings, params, key, position, y, operator)
    return values(target, e[:, None])[:, 0], values(target, draws.e), draws.health


def values(target: Target, e: Array) -> Array:
    """Computes FUNCTIONS of e [b, k, d]: [b, k, f]."""
    # Not of the restored image: y may fix its mean, and equal values have no ranks.
    pixel = jnp.mean(target.decode(e).mean(), axis=(2, 3, 4))
    return jnp.concatenate([jnp.stack([target.log_joint(e), pixel], axis=-1), e[..., :NUM_LATENTS]], axis=-1)


def ranks(truth: np.ndarray, draws: np.ndarray, num: int) -> np.ndarray:
    """Counts how many of `num` evenly spaced draws lie below the truth: 0 to `num`.

    The truth is [n, f], and the draws, of which `num` are taken, are [n, all, f]. Draws that depend on each other make
    extreme ranks. Fewer of them, and so further apart, depend less: `num` should not be above the effective number of
    draws (Talts et al. 2018, section 5.1).
    """
    chosen = draws[:, :: draws.shape[1] // num][:, :num]
    return np.sum(chosen < truth[:, None], axis=1)


def p_value(ranks: np.ndarray, num: int) -> float:
    """Tests that the ranks [n, f] of 0 to `num` are uniform: chi-squared, the least of f p-values times f.

    Raises ValueError for fewer truths than the test needs.
    """
    least = MIN_EXPECTED * (num + 1)
    if len(ranks) < least:
        raise ValueError(f"ranks 0 to {num} need at least {least} truths to test, got {len(ranks)}")
    each = [scipy.stats.chisquare(np.bincount(of, minlength=num + 1)).pvalue for of in ranks.T]
    return float(min(1.0, len(each) * min(each)))  # Bonferroni: any of the f tests may fail by chance


def spread(ranks: np.ndarray, num: int) -> np.ndarray:
    """Returns the mean square of ranks about num / 2, as a multiple of that of uniform ranks.

    Ranks [n, f] give [f]. 1 is right; above 1 the draws are too alike, or shifted; below 1 they are too far apart.
    """
    uniform = num * (num + 2) / 12  # the variance of uniform ranks 0 to num
    return np.mean((ranks - num / 2) ** 2, axis=0) / uniform
