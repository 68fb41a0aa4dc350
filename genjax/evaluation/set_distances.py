"""Distances of two sets of features [n, d] and [m, d], in float64: 0 for equal distributions, lower is better.

Each raises ValueError, by `neighbours.checked`, for fewer than two images, numbers of features that differ, and rows
that are not finite. Only the distance of Frechet between features of the standard Inception network may be called FID.
"""

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
    blocks of images, with exponential weights (Rubin 1981); near 0 it is wider than it need be.
    """
    x, y = checked(2, generated=generated, reference=reference)
    rng = np.random.default_rng(seed)
    x, y = x[rng.permutation(len(x))], y[rng.permutation(len(y))]
    starts_x, starts_y = (np.linspace(0, len(z), min(BLOCKS, len(z)), endpoint=False).astype(int) for z in (x, y))
    sums = _kernel_sums(x, x, starts_x, starts_x), _kernel_sums(y, y, starts_y, starts_y)
    between = _kernel_sums(x, y, starts_x, starts_y)
    counts_x, counts_y = np.diff(starts_x, append=len(x)), np.diff(starts_y, append=len(y))

    def distance(weights_x: np.ndarray, weights_y: np.ndarray) -> np.ndarray:
        """Computes the distance for weights [draws, blocks] of the blocks' images."""
        within = 0
        for weights, of_pairs, counts in ((weights_x, sums[0], counts_x), (weights_y, sums[1], counts_y)):
            # An image and itself are no pair.
            pairs = (weights @ counts) ** 2 - weights**2 @ counts
            within += np.sum(weights @ of_pairs * weights, axis=1) / pairs
        across = np.sum(weights_x @ between * weights_y, axis=1)
        return within - 2 * across / ((weights_x @ counts_x) * (weights_y @ counts_y))

    drawn = distance(rng.exponential(size=(DRAWS, len(starts_x))), rng.exponential(size=(DRAWS, len(starts_y))))
    value = distance(np.ones((1, len(starts_x))), np.ones((1, len(starts_y))))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(value[0]), float(low), float(high))


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


def _kernel_sums(x: np.ndarray, y: np.ndarray, starts_x: np.ndarray, starts_y: np.ndarray) -> np.ndarray:
    """Sums the kernel over pairs of blocks, which begin at `starts`; if y is x, without pairs of a row and itself."""
    of_blocks = [((block @ y.T / x.shape[1] + 1) ** 3).sum(axis=0) for block in np.split(x, starts_x[1:])]
    sums = np.add.reduceat(of_blocks, starts_y, axis=1)
    if x is y:
        own = (np.einsum("nd,nd->n", x, x) / x.shape[1] + 1) ** 3
        sums -= np.diag(np.add.reduceat(own, starts_x))
    return sums
