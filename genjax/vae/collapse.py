"""Posterior collapse foretold: which directions of the data are worth a latent (Lucas, Tucker, Grosse, Norouzi 2019).

Where a decoder ignores its latents, giving one of them to a direction of the data lowers the loss only if the data's
variance in this direction, in units of the pixels' variance under the decoder, exceeds beta. For Gaussian pixels the
units are sigma^2, and a linear VAE uses exactly those directions: the optimum of probabilistic PCA (Tipping and Bishop
1999), whose distortion + beta * rate is that of sigma^2 times beta. For Bernoulli pixels of mean p the units are
p (1 - p), and the claim is local: a small step away from collapse raises the loss in all other directions.
"""

import logging
from typing import NamedTuple

import numpy as np

from genjax.data import image_arrays
from genjax.data.splits import Splits
from genjax.vae.config import VaeRun

logger = logging.getLogger(__name__)

SAMPLE, MOST_NUMBERS = 500, 2**24
"""Largest number of training images that the variances are computed from, and of all their pixels."""

SHARE = 0.9
"""Share of the variance in the directions that count as the top ones; latents limit their number."""

LEAST_VARIANCE = 1e-3
"""Least variance p (1 - p) of a Bernoulli pixel: few images say little about rare ink."""


class Forecast(NamedTuple):
    """Directions of the data that are worth a latent, of `top` ones."""

    worth: int
    top: int
    largest: float
    """Largest variance of a direction, in units of the decoder's."""


def foresee(config: VaeRun, splits: Splits, num_latents: int) -> Forecast | None:
    """Counts the directions of the training images that are worth a latent; None where that says nothing.

    A learned or optimal sigma falls until directions are worth it, latents with free bits cost nothing at first, and a
    capacity is used whatever it is worth.
    """
    found = config.vae.likelihood in ("gaussian_learned", "gaussian_optimal")
    if found or config.vae.free_bits > 0 or config.vae.objective == "capacity":
        return None
    variances = relative_variances(config, splits)
    total = np.cumsum(variances)
    if len(total) == 0 or total[-1] == 0:  # images that are all alike
        return None
    top = min(num_latents, int(np.searchsorted(total, SHARE * total[-1])) + 1)
    return Forecast(int(np.sum(variances[:top] > config.vae.beta)), top, float(variances[0]))


def warn_of_collapse(config: VaeRun, splits: Splits, num_latents: int) -> None:
    """Logs a warning, with the remedy, if less than half of the top directions are worth a latent."""
    found = foresee(config, splits, num_latents)
    if found is None or 2 * found.worth >= found.top:
        return
    beta, sigma = config.vae.beta, config.vae.sigma
    if config.vae.likelihood == "gaussian":
        largest, bar = found.largest * sigma**2, f"beta * sigma^2 = {beta * sigma**2:.3g}"
        remedy = "a smaller --vae.sigma, or --vae.likelihood gaussian_learned, which finds one, or a lower --vae.beta"
    else:
        largest, bar, remedy = found.largest, f"beta = {beta:g}", "a lower --vae.beta, or --vae.free-bits 2"
    logger.warning(
        "expect posterior collapse: %d of the data's top %d eigenvalues exceed %s (the largest is %.3g), and only such "
        "a direction is worth a latent. Give %s",
        found.worth, found.top, bar, largest, remedy,
    )  # fmt: skip


def relative_variances(config: VaeRun, splits: Splits) -> np.ndarray:
    """Computes the eigenvalues of the training images' covariance, largest first, in units of the decoder's variance.

    Of few images they are a little too large, and so in doubt nothing is foretold.
    """
    (train,) = splits.train
    num = min(SAMPLE, max(2, MOST_NUMBERS // int(np.prod(train.shape[1:]))))
    grey = image_arrays.unit_floats(image_arrays.evenly_spaced(train, num))
    x = grey.reshape(len(grey), -1)
    if config.data.binarize == "stochastic":
        # Words of Philox as in genjax/data/splits.py: one draw of the pixels stands for all.
        words = np.random.Philox(np.random.SeedSequence(0)).random_raw(x.size).reshape(x.shape)
        x = (words / 2.0**64 < x).astype(np.float32)
    x = x[:, (x != x[:1]).any(axis=0)]  # constant pixels have no variance
    mean = x.mean(axis=0)
    bernoulli = config.vae.likelihood == "bernoulli"
    x = (x - mean) / (np.sqrt((mean * (1 - mean)).clip(LEAST_VARIANCE)) if bernoulli else np.float32(config.vae.sigma))
    # The matrix [n, n] or [pixels, pixels], whichever is smaller: their eigenvalues are the same.
    smaller = x @ x.T if len(x) < x.shape[1] else x.T @ x
    found: np.ndarray = np.linalg.eigvalsh(smaller.astype(np.float64) / len(x))[::-1].clip(0)
    return found
