"""Sets of features [n, d]: their checks, and nearest neighbours, with distances in blocks of bounded memory."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

BLOCK = 2**23  # distances computed at once: 64 MiB
ROUNDING = 1e-12  # of |x|^2 + |y|^2; a smaller squared distance is that of equal features


class Neighbours(NamedTuple):
    """The k nearest rows of a set, nearest first: Euclidean distances and row numbers, [n, k] each."""

    distances: np.ndarray
    rows: np.ndarray


def checked(least: int, **sets: np.ndarray) -> list[np.ndarray]:
    """Converts sets of features to float64.

    Raises ValueError, with the name of the set, if it is not [n, d], has fewer than `least` rows, another d than the
    first set, or a row that is not finite.
    """
    dims = {name: features.shape[-1] for name, features in sets.items() if features.ndim == 2}
    for name, features in sets.items():
        if name not in dims:
            raise ValueError(f"expected {name} features of shape [n, d], got {list(features.shape)}")
        if len(features) < least:
            raise ValueError(f"at least {least} {name} images are needed, got {len(features)}: give more images")
        finite = np.isfinite(features).all(axis=1)
        if not finite.all():
            raise ValueError(
                f"row {int(finite.argmin())} of the {name} features is not finite ({int((~finite).sum())} of "
                f"{len(features)} rows are not): find out what makes it so, or leave such images out"
            )
    if len(set(dims.values())) > 1:
        found = ", ".join(f"{dim} of {name} images" for name, dim in dims.items())
        raise ValueError(f"numbers of features differ ({found}): use one feature network for all")
    return [np.asarray(features, np.float64) for features in sets.values()]


def squared_distances(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields rows of x, and their squared Euclidean distances to all rows of y, [rows, m]."""
    norms_x, norms_y = (np.einsum("nd,nd->n", z, z) for z in (x, y))
    size = max(1, BLOCK // len(y))
    for start in range(0, len(x), size):
        rows = slice(start, start + size)
        norms = norms_x[rows, None] + norms_y
        squared = norms - 2 * (x[rows] @ y.T)  # |x|^2 + |y|^2 - 2 x.y, a product of matrices
        squared[squared < ROUNDING * norms] = 0  # so that a copy is at distance 0
        yield rows, squared


def nearest(x: np.ndarray, y: np.ndarray, k: int = 1) -> Neighbours:
    """Finds the k nearest rows of features y [m, d] for each row of x [n, d].

    Where x and y are one set, the first neighbour of a row is itself, or an equal row.
    """
    distances, neighbours = [], []
    for _, squared in squared_distances(x, y):
        found = np.argpartition(squared, k - 1, axis=1)[:, :k]  # the k nearest, in any order
        order = np.argsort(np.take_along_axis(squared, found, axis=1), axis=1)
        neighbours.append(np.take_along_axis(found, order, axis=1))
        distances.append(np.sqrt(np.take_along_axis(squared, neighbours[-1], axis=1)))
    return Neighbours(np.concatenate(distances), np.concatenate(neighbours))
