"""Diagnostics of Markov chains: R-hat, effective sample size, acceptance rate (Vehtari et al. 2021).

Both see only modes that some chain has visited. They are of all steps after the warm-up, halves of a chain count as two
chains, and ranks stand in for values, so chains may have any scale and heavy tails.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.scipy.special import ndtri

LEAST_STEPS = 4
"""Steps of a chain below which its halves have no variance."""


class Diagnostics(NamedTuple):
    """Mixing of the chains of each image, for the latent that mixes worst; NaN for methods without chains."""

    r_hat: Any
    """[b], 1 for chains that agree, and infinite for chains that stand still; above 1.01 they are too short."""
    effective_sample_size: Any
    """[b], number of independent draws that tell as much about the mean."""
    acceptance_rate: Any
    """[b], 0 to 1: mean chance of acceptance of all proposals."""


def without_chains(num: int) -> Diagnostics:
    """Returns the diagnostics of `num` images that have no chains."""
    return Diagnostics(*jnp.full((3, num), jnp.nan))


def diagnose(trace: Array, chance: Array) -> Diagnostics:
    """Computes the diagnostics of steps [n, b, k, d] that were accepted with `chance` [n, b, k].

    R-hat and effective sample size are NaN for fewer than LEAST_STEPS steps.
    """
    # Image by image, as the transforms take several times the memory of the steps.
    r_hat, size = lax.map(_worst_latent, trace.swapaxes(0, 1))
    return Diagnostics(r_hat, size, jnp.mean(chance, axis=(0, 2)))


def summarize(found: Diagnostics) -> dict[str, float]:
    """Returns mean and worst of each diagnostic over the images; nothing for methods without chains."""
    worst = {"r_hat": np.max, "effective_sample_size": np.min, "acceptance_rate": np.min}
    summary: dict[str, float] = {}
    for name, values in found._asdict().items():
        if not np.isnan(values).all():
            summary |= {name: float(np.mean(values)), f"{name}_worst": float(worst[name](values))}
    return summary


def _worst_latent(steps: Array) -> tuple[Array, Array]:
    """Returns the largest R-hat and the least effective sample size of steps [n, k, d]."""
    half = len(steps) // 2
    if len(steps) < LEAST_STEPS:
        return jnp.full((), jnp.nan), jnp.full((), jnp.nan)
    halves = jnp.concatenate([steps[:half], steps[-half:]], axis=1)  # [n / 2, 2k, d]
    # Distances from the median tell chains apart that have one mean and different widths.
    distance = jnp.abs(halves - jnp.median(halves, axis=(0, 1), keepdims=True))
    both = normal_scores(jnp.concatenate([halves, distance], axis=2))
    return jnp.max(split_r_hat(both)), jnp.min(effective_sample_size(both[..., : steps.shape[2]]))


def normal_scores(x: Array) -> Array:
    """Replaces x [n, k, d] by normal quantiles of its ranks among the steps of all chains (equation 14)."""
    values = x.reshape(-1, x.shape[2])
    places = [jax.vmap(functools.partial(jnp.searchsorted, side=side), 1, 1) for side in ("left", "right")]
    below, up_to = (place(jnp.sort(values, axis=0), values) for place in places)
    rank = ((below + up_to + 1) / 2).astype(x.dtype)  # equal values share the mean of their ranks
    return ndtri((rank - 3 / 8) / (len(values) + 1 / 4)).reshape(x.shape)  # Blom 1958


def split_r_hat(x: Array) -> Array:
    """Returns R-hat of chains x [n, k, d], which are halves: [d] (equations 1 to 4)."""
    within, still = jnp.mean(jnp.var(x, axis=0, ddof=1), axis=0), jnp.all(x == x[:1], axis=(0, 1))
    return jnp.where(still, jnp.inf, jnp.sqrt(_total_variance(x) / within))


def effective_sample_size(x: Array) -> Array:
    """Returns the effective sample size of chains x [n, k, d]: [d] (equations 10 to 13).

    Sums of neighbouring autocorrelations count from lag 0 up to the first negative one, made to fall (the initial
    monotone sequence of Geyer 1992). It is at most N log10 N for N steps in all, and 1 if all are equal.
    """
    n, k, _ = x.shape
    # Zeros behind each chain, so that its end does not meet its beginning.
    spectrum = jnp.fft.rfft(x - jnp.mean(x, axis=0, keepdims=True), 2 * n, axis=0)
    # Wiener-Khinchin: autocovariances at all lags at once, averaged over chains.
    covariance = jnp.fft.irfft(jnp.mean(jnp.abs(spectrum) ** 2, axis=1), 2 * n, axis=0)[:n] / n
    total = _total_variance(x)
    correlation = (1 - (covariance[:1] * n / (n - 1) - covariance) / total[None]).at[0].set(1.0)
    pairs = correlation[: n // 2 * 2].reshape(n // 2, 2, -1).sum(axis=1)  # [n / 2, d], lags 2i and 2i + 1
    counted = jnp.cumprod(pairs > 0, axis=0)
    # Of the first pair that does not count, the even lag alone still does, if it is positive.
    even = jnp.pad(correlation[::2], ((0, 1), (0, 0)))
    last = jnp.take_along_axis(even, jnp.sum(counted, axis=0)[None], axis=0)[0]
    time = 2 * jnp.sum(lax.cummin(pairs, axis=0) * counted, axis=0) - 1 + jnp.maximum(last, 0)
    alike = jnp.all(x == x[:1, :1], axis=(0, 1))
    return jnp.where(alike, 1.0, n * k / jnp.maximum(time, 1 / np.log10(n * k)))


def _total_variance(x: Array) -> Array:
    """Estimates the variance of chains x [n, k, d], within and between them: [d]."""
    within = jnp.mean(jnp.var(x, axis=0, ddof=1), axis=0)
    return (1 - 1 / len(x)) * within + jnp.var(jnp.mean(x, axis=0), axis=0, ddof=1)
