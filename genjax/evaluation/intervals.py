"""Values with an interval that holds the truth in 95 of 100 samples."""

import math
from typing import NamedTuple

import numpy as np

QUANTILE = 1.959963984540054  # of the normal distribution, at 0.975


class Interval(NamedTuple):
    """Value, and the ends of its 95% interval; None where no interval is known."""

    value: float
    low: float | None = None
    high: float | None = None


def of_mean(values: np.ndarray) -> Interval:
    """Computes the mean of independent values [n], n at least 2, with a normal interval."""
    values = np.asarray(values, np.float64)
    return normal(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values)))


def of_share(hits: np.ndarray) -> Interval:
    """Computes the share of true values in bool [n], with the interval of Wilson 1927.

    It has a width even where all or none are true.
    """
    from scipy import stats  # not above: its import takes a second, and trainings import this module

    ends = stats.binomtest(int(np.sum(hits)), len(hits)).proportion_ci(method="wilson")
    return Interval(float(np.mean(hits)), float(ends.low), float(ends.high))


def normal(value: float, standard_error: float) -> Interval:
    """Returns the interval of a value that is normally distributed with `standard_error`."""
    return Interval(value, value - QUANTILE * standard_error, value + QUANTILE * standard_error)
