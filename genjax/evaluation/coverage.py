"""Precision, recall, density and coverage: do generated images look real, and do they show all that is real?

Each set stands for the balls around its features that reach to their k-th nearest neighbour in the set.
"""

import numpy as np

from genjax.evaluation import intervals
from genjax.evaluation.intervals import Interval
from genjax.evaluation.neighbours import checked, nearest, squared_distances

K_MANIFOLD = 3  # of precision and recall, as Kynkaanniemi et al. 2019
K_DENSITY = 5  # of density and coverage, as Naeem et al. 2020
REACH = 1 + 1e-9  # times a squared radius, so that rounding leaves the neighbour on a ball's surface inside


def prdc(generated: np.ndarray, reference: np.ndarray) -> dict[str, Interval]:
    """Computes precision, recall, density and coverage of generated [n, d] and reference features [m, d].

    precision is the share of generated images in any ball of the reference, recall that of reference images in any ball
    of the generated ones, coverage that of reference balls with a generated image. They depend on n and m, so compare
    them for equal numbers only. density is the mean number of reference balls around a generated image, by k; it may
    exceed 1. The intervals hold the other set fixed. Raises ValueError for fewer than six images, and as `checked`.
    """
    least = K_DENSITY + 1
    if min(len(generated), len(reference)) < least:
        raise ValueError(
            f"precision, recall, density and coverage need at least {least} images of each set, got {len(generated)} "
            f"generated and {len(reference)} reference images: give more images, or other metrics"
        )
    x, y = checked(least, generated=generated, reference=reference)
    own_radii = _squared_radii(x)[:, K_MANIFOLD]
    radii, wide = _squared_radii(y)[:, [K_MANIFOLD, K_DENSITY]].T  # of precision, and of density and coverage
    precise, dense = np.empty(len(x), bool), np.empty(len(x))
    recalled, covered = np.zeros(len(y), bool), np.zeros(len(y), bool)
    for rows, squared in squared_distances(x, y):
        precise[rows] = (squared <= radii).any(axis=1)
        recalled |= (squared <= own_radii[rows, None]).any(axis=0)
        within = squared <= wide
        dense[rows] = within.sum(axis=1) / K_DENSITY
        covered |= within.any(axis=0)
    return {
        "precision": intervals.of_share(precise),
        "recall": intervals.of_share(recalled),
        "density": intervals.of_mean(dense),
        "coverage": intervals.of_share(covered),
    }


def _squared_radii(features: np.ndarray) -> np.ndarray:
    """Computes the squared distances to the k-th nearest other row, for k from 0 on, times REACH."""
    return REACH * nearest(features, features, K_DENSITY + 1).distances ** 2
