import numpy as np
import pytest

from genjax.evaluation import coverage, set_distances, whole_sets
from genjax.evaluation.intervals import Interval

GENERATED, REFERENCE = (np.random.default_rng(seed).normal(size=(30 + seed, 4)) for seed in (0, 1))


def test_set_metrics_equal_their_functions():
    found = whole_sets.set_metrics(GENERATED, REFERENCE, seed=3)
    assert tuple(found) == whole_sets.NAMES
    assert found["kid"] == set_distances.kid(GENERATED, REFERENCE, 3)
    assert found["frechet"] == Interval(set_distances.frechet(GENERATED, REFERENCE))
    assert found["mind"] == Interval(set_distances.mind(GENERATED, REFERENCE, 3))
    assert {name: found[name] for name in whole_sets.COVERAGE} == coverage.prdc(GENERATED, REFERENCE)
    some = whole_sets.set_metrics(GENERATED, REFERENCE, ["recall", "kid"], seed=3)
    assert list(some.items()) == [(name, found[name]) for name in ("recall", "kid")]
    at_seed_zero = whole_sets.set_metrics(GENERATED, REFERENCE, list(whole_sets.DISTANCES))
    assert {name: fn(GENERATED, REFERENCE) for name, fn in whole_sets.DISTANCES.items()} == {
        name: metric.value for name, metric in at_seed_zero.items()
    }


def test_set_metrics_refuse_unknown_names():
    with pytest.raises(ValueError, match="unknown metrics fid: give some of kid, frechet, mind, precision"):
        whole_sets.set_metrics(GENERATED, REFERENCE, ["kid", "fid"])
