"""Statistics of a few runs: a mean, a difference of two means, and analysis of variance of a crossed design."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Summary(NamedTuple):
    """Mean, standard deviation, and 95% interval (low, high) of the mean of independent runs, in the metric's unit."""

    mean: float
    sd: float
    low: float
    high: float


class Difference(NamedTuple):
    """Difference of two means, its 95% interval (low, high), and the two-sided p value of no difference."""

    mean: float
    low: float
    high: float
    p: float
    """NaN where the runs do not vary."""


class Component(NamedTuple):
    """The part of the variance of a crossed design that is due to one stream, or to the rest."""

    df: int
    """Degrees of freedom."""
    share: float
    """Share of the total sum of squares, in [0, 1]; NaN where all runs are equal."""
    sd: float
    """Standard deviation due to the stream, in the metric's unit."""


def summarize(values: Sequence[float] | np.ndarray) -> Summary:
    """Computes mean, standard deviation (n - 1) and t interval (Student 1908) of two or more independent runs."""
    mean, sd = float(np.mean(values)), float(np.std(values, ddof=1))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * sd / math.sqrt(len(values))
    return Summary(mean, sd, mean - half, mean + half)


def paired_difference(old: Sequence[float], new: Sequence[float]) -> Difference:
    """Computes Student's paired t interval and test (1908) of new - old, where runs i of both share a seed."""
    difference = summarize(np.subtract(new, old))
    return _difference(difference.mean, difference.sd**2 / len(new), len(new) - 1)


def welch_difference(old: Sequence[float], new: Sequence[float]) -> Difference:
    """Computes Welch's t interval and test (1947) of new - old: independent runs with unequal variances."""
    parts = [float(np.var(runs, ddof=1)) / len(runs) for runs in (old, new)]
    below = sum(part**2 / (len(runs) - 1) for part, runs in zip(parts, (old, new), strict=True))
    df = sum(parts) ** 2 / below if below else math.nan  # Satterthwaite's
    return _difference(float(np.mean(new) - np.mean(old)), sum(parts), df)


def _difference(mean: float, variance: float, df: float) -> Difference:
    if variance == 0:
        return Difference(mean, mean, mean, math.nan)
    error = math.sqrt(variance)
    half = float(stats.t.ppf(0.975, df)) * error
    return Difference(mean, mean - half, mean + half, 2 * float(stats.t.sf(abs(mean) / error, df)))


def hedges_g(old: Sequence[float], new: Sequence[float]) -> float:
    """Computes new - old in standard deviations of a run, Hedges' effect size (1981), unbiased for few runs.

    The standard deviation is the root of the mean of both variances. NaN where the runs do not vary.
    """
    sd = math.sqrt((np.var(old, ddof=1) + np.var(new, ddof=1)) / 2)
    half_df = (len(old) + len(new) - 2) / 2
    unbiased = math.exp(math.lgamma(half_df) - math.lgamma(half_df - 0.5)) / math.sqrt(half_df)
    return float(np.mean(new) - np.mean(old)) / sd * unbiased if sd else math.nan


def bootstrap_difference(old: Sequence[float], new: Sequence[float], paired: bool) -> tuple[float, float]:
    """Computes the 95% percentile interval of new - old over 9,999 draws of the runs (Efron 1979), always the same.

    With fewer than about ten runs it is too narrow: draws of n values have (n - 1) / n of their variance.
    """
    if not np.isfinite([*old, *new]).all():
        return math.nan, math.nan
    found = stats.bootstrap((new, old), _mean_difference, paired=paired, method="percentile", rng=0)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _mean_difference(new: np.ndarray, old: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.mean(new, axis) - np.mean(old, axis)


def decompose(values: np.ndarray, streams: Sequence[str]) -> dict[str, Component]:
    """Computes the additive random-effects analysis of variance of `values`, with one axis for each stream.

    Each cell holds one run. The variance of a stream is (MS_stream - MS_rest) / (runs per level), or 0 if that is
    negative (Searle, Casella and McCulloch 1992, section 4.4). The rest is the variance that the sum of the streams
    does not explain. Raises ValueError with fewer than two streams or two levels of one.
    """
    shape = values.shape
    df_rest = values.size - 1 - sum(levels - 1 for levels in shape)
    if len(shape) != len(streams) or df_rest < 1:
        raise ValueError(f"a decomposition needs two or more streams with two or more levels each, got {shape}")
    centred = values - values.mean()
    effects = [centred.mean(tuple(other for other in range(len(shape)) if other != axis)) for axis in range(len(shape))]
    squares = [values.size / len(effect) * float(effect @ effect) for effect in effects]
    total = float(np.sum(centred**2))
    rest = float(np.sum((centred - sum(np.ix_(*effects))) ** 2))
    components = {}
    for stream, levels, square in zip(streams, shape, squares, strict=True):
        variance = (square / (levels - 1) - rest / df_rest) / (values.size / levels)
        components[stream] = Component(levels - 1, _share(square, total), math.sqrt(max(variance, 0.0)))
    return components | {"rest": Component(df_rest, _share(rest, total), math.sqrt(rest / df_rest))}


def share_without_effect(df: int, df_total: int) -> tuple[float, float]:
    """Returns the mean share of a stream without effect, and its 95% quantile if runs are normal."""
    return df / df_total, float(stats.beta.ppf(0.95, df / 2, (df_total - df) / 2))


def sd_factors(df: int) -> tuple[float, float]:
    """Returns the 95% interval of a normal standard deviation, as multiples of its estimate with `df` degrees."""
    low, high = (math.sqrt(df / float(stats.chi2.ppf(p, df))) for p in (0.975, 0.025))
    return low, high


def _share(square: float, total: float) -> float:
    return square / total if total > 0 else math.nan
