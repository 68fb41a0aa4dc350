"""Does a model copy? Nearest training images, authenticity, and a gap between training and test images.

Features are those of generated [n, d], training [N, d] and test images [m, d]. Each function raises ValueError, by
`neighbours.checked`, for too few images, numbers of features that differ, and rows that are not finite.
"""

import numpy as np

from genjax.evaluation import intervals
from genjax.evaluation.intervals import Interval
from genjax.evaluation.neighbours import Neighbours, checked, nearest


def nearest_training(generated: np.ndarray, training: np.ndarray, k: int = 1) -> Neighbours:
    """Finds the k training images nearest to each generated one: distances and row numbers [n, k], nearest first."""
    x, _ = checked(1, generated=generated, training=training)
    (y,) = checked(k, training=training)
    return nearest(x, y, k)


def authenticity(generated: np.ndarray, training: np.ndarray) -> Interval:
    """Computes the share of generated images that are no copies, 0 to 1; lower means more copies.

    A copy is closer to its nearest training image than that image to any other (AuthPct, Alaa et al. 2022, section 3).
    Its level without copies depends on the data, and blur lowers it too: compare it with that of test images.
    """
    x, y = checked(2, generated=generated, training=training)
    found = nearest(x, y)
    between = nearest(y[found.rows[:, 0]], y, 2).distances[:, 1]  # its first neighbour is itself
    return intervals.of_share(found.distances[:, 0] > between)


def train_test_gap(generated: np.ndarray, training: np.ndarray, test: np.ndarray) -> Interval:
    """Computes how much closer to training images generated images are than test images: 1 if copied, 0 if not.

    The closeness of an image is its distance to the nearest training image, relative to the sum of that and the
    distance to the nearest (other) test image, so that blur counts little. The gap is P(generated is closer) - P(test
    image is closer) over all pairs, -1 to 1: the rank test of Meehan, Chaudhuri and Dasgupta 2020. Noise lowers it.
    """
    x, y, held_out = checked(2, generated=generated, training=training, test=test)
    of_generated = _closeness(nearest(x, y).distances[:, 0], nearest(x, held_out).distances[:, 0])
    of_test = _closeness(nearest(held_out, y).distances[:, 0], nearest(held_out, held_out, 2).distances[:, 1])
    # Of all pairs, won minus lost, for each image: differences of ranks, without a matrix of pairs.
    won = _above_minus_below(of_generated, of_test)
    lost = _above_minus_below(of_test, of_generated)
    return intervals.normal(
        float(won.mean()), float(np.sqrt(won.var(ddof=1) / len(won) + lost.var(ddof=1) / len(lost)))
    )


def _closeness(to_training: np.ndarray, to_test: np.ndarray) -> np.ndarray:
    """Computes the share of the distance to training images, 0 (a copy) to 1; 0.5 where both distances are 0."""
    both = to_training + to_test
    return np.where(both > 0, to_training / np.where(both > 0, both, 1), 0.5)


def _above_minus_below(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Computes for each of `values` the share of `others` above it minus the share below it."""
    others = np.sort(others)
    below, not_above = np.searchsorted(others, values, "left"), np.searchsorted(others, values, "right")
    return 1 - (below + not_above) / len(others)  # above = len(others) - not_above
