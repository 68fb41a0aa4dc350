"""What a few runs tell of all that might have been: a mean with its interval, and where a spread comes from."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Summary(NamedTuple):
    """Of independent runs, in the unit of their figures; low to high is the 95% interval of the mean."""

    mean: float
    sd: float
    low: float
    high: float


class Component(NamedTuple):
    """What one stream, or the rest, has of the spread of a crossed design."""

    df: int
    """Degrees of freedom."""
    share: float
    """Of the total sum of squares, in [0, 1]; not a number where all runs are equal."""
    sd: float
    """Standard deviation that it adds, in the unit of the figures."""


def summarize(values: Sequence[float] | np.ndarray) -> Summary:
    """Mean, standard deviation (n - 1) and Student's t interval (Student 1908) of two or more independent runs."""
    mean, sd = float(np.mean(values)), float(np.std(values, ddof=1))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * sd / math.sqrt(len(values))
    return Summary(mean, sd, mean - half, mean + half)


def decompose(values: np.ndarray, streams: Sequence[str]) -> dict[str, Component]:
    """Additive random-effects analysis of variance of `values`, one axis for each stream, one run for each cell.

    The variance of a stream is (MS_stream - MS_rest) / (runs per level), or 0 where that is negative (Searle, Casella
    and McCulloch 1992, section 4.4); the rest is what the streams do not add up to. ValueError if there is no rest, as
    with fewer than two streams.
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
    """The mean share of a stream that has no effect, and what 1 study of 20 exceeds, if the runs were normal."""
    return df / df_total, float(stats.beta.ppf(0.95, df / 2, (df_total - df) / 2))


def sd_factors(df: int) -> tuple[float, float]:
    """The 95% interval of a normal standard deviation with `df` degrees of freedom, as multiples of its estimate."""
    return tuple(math.sqrt(df / float(stats.chi2.ppf(p, df))) for p in (0.975, 0.025))  # type: ignore[return-value]


def _share(square: float, total: float) -> float:
    return square / total if total > 0 else math.nan
