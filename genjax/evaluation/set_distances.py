"""Distances of two sets of features [n, d] and [m, d], in float64: 0 for equal distributions, lower is better.

Each raises ValueError, by `neighbours.checked`, for fewer than two images, numbers of features that differ, and rows
that are not finite. Only the distance of Frechet between features of the standard Inception network may be called FID.
"""

import math
from typing import NamedTuple

import numpy as np

from genjax.evaluation.intervals import Interval
from genjax.evaluation.neighbours import checked

BLOCKS = 100  # of images, from whose kernel sums the interval of KID is made; and rows of a kernel held at once
DRAWS = 1000  # of the bootstrap
PROJECTIONS = 1000


def frechet(generated: np.ndarray, reference: np.ndarray) -> float:
    """Computes the squared Frechet distance of the normal distributions with the sets' means and covariances.

    |m_x - m_y|^2 + tr(S_x + S_y - 2 (S_x S_y)^(1/2)), Dowson and Landau 1982; Heusel et al. 2017. It depends on the
    number of images: fewer give a larger distance. Below 2,048 prefer `kid`, which does not.
    """
    x, y = checked(2, generated=generated, reference=reference)
    apart = x.mean(axis=0) - y.mean(axis=0)
    root_x, root_y = _root(x), _root(y)
    # With S = R'R, the trace of the root of S_x S_y is the sum of the singular values of R_x R_y'. That needs no root
    # of a matrix, and is exact also for fewer images than features, where the covariances are singular.
    common = np.linalg.svd(root_x @ root_y.T, compute_uv=False).sum()
    return max(0.0, float(apart @ apart + np.sum(root_x**2) + np.sum(root_y**2) - 2 * common))


def kid(generated: np.ndarray, reference: np.ndarray, seed: int = 0) -> Interval:
    """Computes the kernel distance (squared MMD) with the kernel (x.y / d + 1)^3, without bias.

    Binkowski et al. 2018, over all pairs at once, so it may fall below 0. The interval is from a bootstrap of random
    blocks of images, with exponential weights (Rubin 1981), whose spread near 0 is corrected.
    """
    x, y = checked(2, generated=generated, reference=reference)
    rng = np.random.default_rng(seed)
    x, y = x[rng.permutation(len(x))], y[rng.permutation(len(y))]
    starts_x, starts_y = (np.linspace(0, len(z), min(BLOCKS, len(z)), endpoint=False).astype(int) for z in (x, y))
    counts_x, counts_y = np.diff(starts_x, append=len(x)), np.diff(starts_y, append=len(y))
    of_x = _parts(_kernel_sums(x, x, starts_x, starts_x), counts_x, counts_x, within=True)
    of_y = _parts(_kernel_sums(y, y, starts_y, starts_y), counts_y, counts_y, within=True)
    across = _parts(_kernel_sums(x, y, starts_x, starts_y), counts_x, counts_y)

    # Weights move the distance by terms of single blocks, and by terms of pairs that no single block explains.
    weights_x, weights_y = (rng.exponential(size=(DRAWS, len(starts))) - 1 for starts in (starts_x, starts_y))
    moved = np.sum(weights_x @ of_x.pairs * weights_x, axis=1) + np.sum(weights_y @ of_y.pairs * weights_y, axis=1)
    moved -= 2 * np.sum(weights_x @ across.pairs * weights_y, axis=1)
    noise = 4 * np.sum(across.pairs**2)
    single_x, single_y = 2 * (of_x.rows - across.rows), 2 * (of_y.rows - across.columns)
    for weights, single, pairs in ((weights_x, single_x, of_x.pairs), (weights_y, single_y, of_y.pairs)):
        # Near 0 single blocks count for nothing, but their terms are sums over pairs, and as noisy. That would treble
        # the variance (Arcones and Gine 1992), so they shrink to the spread that they have beyond this noise.
        spread = np.sum(single**2)
        share = 1 - (4 * np.sum(pairs**2) + noise) / spread if spread > 0 else 0.0
        moved += weights @ single * math.sqrt(max(0.0, share))
    value = of_x.mean + of_y.mean - 2 * across.mean
    low, high = np.quantile(moved, [0.025, 0.975])
    return Interval(value, value + float(low), value + float(high))


def mind(generated: np.ndarray, reference: np.ndarray, seed: int = 0) -> float:
    """Computes the Monge Inception distance: 3 d times the mean squared Wasserstein-2 distance along random lines.

    Berthet et al. 2026 (arXiv:2605.06797), with 1,000 lines. Sets of two sizes are compared by their
    quantiles, exactly.
    """
    x, y = checked(2, generated=generated, reference=reference)
    lines = np.random.default_rng(seed).normal(size=(PROJECTIONS, x.shape[1]))
    lines /= np.linalg.norm(lines, axis=1, keepdims=True)
    # Quantile functions are steps: between two neighbouring ends, in units of 1 / (n m), both are constant.
    n, m = len(x), len(y)
    ends = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)
    widths = np.diff(ends, prepend=0) / (n * m)
    steps_x, steps_y = (np.sort(lines @ z.T, axis=1) for z in (x, y))
    squared = (steps_x[:, (ends - 1) // m] - steps_y[:, (ends - 1) // n]) ** 2
    return float(3 * x.shape[1] * np.mean(squared @ widths))


def _root(features: np.ndarray) -> np.ndarray:
    """Computes R, [min(n, d), d], with R'R the unbiased covariance of features [n, d]."""
    centred = (features - features.mean(axis=0)) / np.sqrt(len(features) - 1)
    return np.asarray(np.linalg.qr(centred, mode="r")) if len(features) > features.shape[1] else centred


class _Parts(NamedTuple):
    """Mean of a kernel, and how it moves with the weights of blocks: terms of blocks, and of pairs."""

    mean: float
    rows: np.ndarray
    columns: np.ndarray
    pairs: np.ndarray


def _parts(sums: np.ndarray, counts_x: np.ndarray, counts_y: np.ndarray, within: bool = False) -> _Parts:
    """Splits sums of a kernel over pairs of blocks with `counts` images, as Hoeffding 1948.

    Those `within` a set lack the pairs of an image and itself.
    """
    num = np.outer(counts_x, counts_y) - (np.diag(counts_x) if within else 0)
    mean = float(sums.sum() / num.sum())
    centred = (sums - mean * num) / num.sum()
    rows, columns = centred.sum(axis=1), centred.sum(axis=0)
    # What is left of a pair of blocks without the terms of either.
    pairs = centred - np.outer(rows, counts_y / counts_y.sum()) - np.outer(counts_x / counts_x.sum(), columns)
    if within:
        np.fill_diagonal(pairs, 0)
    return _Parts(mean, rows, columns, pairs)


def _kernel_sums(x: np.ndarray, y: np.ndarray, starts_x: np.ndarray, starts_y: np.ndarray) -> np.ndarray:
    """Sums the kernel over pairs of blocks, which begin at `starts`.

    If y is x, pairs of a row and itself are left out.
    """
    of_blocks = [((block @ y.T / x.shape[1] + 1) ** 3).sum(axis=0) for block in np.split(x, starts_x[1:])]
    sums = np.add.reduceat(of_blocks, starts_y, axis=1)
    if x is y:
        own = (np.einsum("nd,nd->n", x, x) / x.shape[1] + 1) ** 3
        sums -= np.diag(np.add.reduceat(own, starts_x))
    return sums
