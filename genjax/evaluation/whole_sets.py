"""The table of metrics that compare the features of generated and reference images."""

from collections.abc import Callable, Sequence

import numpy as np

from genjax.evaluation import coverage, set_distances
from genjax.evaluation.intervals import Interval

DISTANCES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "kid": lambda generated, reference: set_distances.kid(generated, reference).value,
    "frechet": set_distances.frechet,
    "mind": set_distances.mind,
}
"""Metrics that can choose a checkpoint, (generated [n, d], reference [m, d]) -> value: lower is better."""

COVERAGE = ("precision", "recall", "density", "coverage")
NAMES = (*DISTANCES, *COVERAGE)


def set_metrics(
    generated: np.ndarray, reference: np.ndarray, names: Sequence[str] = NAMES, seed: int = 0
) -> dict[str, Interval]:
    """Computes the metrics `names` of generated [n, d] and reference features [m, d], in the order of `names`.

    Raises ValueError for an unknown name, and as the metrics do.
    """
    if unknown := [name for name in names if name not in NAMES]:
        raise ValueError(f"unknown metrics {', '.join(unknown)}: give some of {', '.join(NAMES)}")
    compute: dict[str, Callable[[], Interval]] = {
        "kid": lambda: set_distances.kid(generated, reference, seed),
        "frechet": lambda: Interval(set_distances.frechet(generated, reference)),
        "mind": lambda: Interval(set_distances.mind(generated, reference, seed)),
    }
    # The four share their distances, which take the time.
    shares = coverage.prdc(generated, reference) if set(names) & set(COVERAGE) else {}
    return {name: shares[name] if name in shares else compute[name]() for name in names}
