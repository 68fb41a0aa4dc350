import numpy as np
import pytest
from scipy import stats

from studies.seeds import statistics


def test_summarize_gives_students_interval():
    for values in ([1.0, 2.0], [3.0, 1.0, 4.0, 1.0, 5.0]):
        found, n = statistics.summarize(values), len(values)
        sd = np.std(values, ddof=1)
        expected = stats.t.interval(0.95, n - 1, loc=np.mean(values), scale=sd / np.sqrt(n))
        np.testing.assert_allclose(found, (np.mean(values), sd, *expected), rtol=1e-12)
    np.testing.assert_allclose(
        statistics.summarize([1.0, 2.0]).high, 1.5 + 12.7062047 / 2, rtol=1e-7
    )  # from the tables


SLEEP = [
    [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0],
    [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4],
]
"""Hours of sleep that the same ten people gained with two drugs (Student 1908). Intervals and p are from R's t.test."""


def test_paired_difference_is_clear_where_intervals_overlap():
    old, new = map(statistics.summarize, SLEEP)
    assert old.high > new.low  # so that neither interval alone tells the drugs apart
    found = statistics.paired_difference(*SLEEP)
    np.testing.assert_allclose(found, (1.58, 0.7001142, 2.4598858, 0.00283289), rtol=1e-6)


def test_welch_difference_matches_published_values_and_scipy():
    found = statistics.welch_difference(*SLEEP)
    np.testing.assert_allclose(found, (1.58, -0.2054832, 3.3654832, 0.07939414), rtol=1e-6)
    old, new = [1.0, 2.0, 4.0], [0.5, 9.0, 3.0, 7.0, 8.0]
    expected = stats.ttest_ind(new, old, equal_var=False)
    found, interval = statistics.welch_difference(old, new), expected.confidence_interval()
    np.testing.assert_allclose(found[1:], (interval.low, interval.high, expected.pvalue), rtol=1e-12)


def test_hedges_g_is_unbiased():
    rng = np.random.default_rng(0)
    np.testing.assert_allclose(statistics.hedges_g([0.0, 2.0], [2.0, 4.0]), np.sqrt(2) / np.sqrt(np.pi))
    for old, new in ((3, 3), (4, 8)):
        pairs = ((rng.normal(size=old), 1.5 + rng.normal(size=new)) for _ in range(8000))
        np.testing.assert_allclose(np.mean([statistics.hedges_g(*pair) for pair in pairs]), 1.5, rtol=0.03)


def test_bootstrap_difference_matches_what_draws_can_be():
    """Two differences, 1 and 4, are drawn as (1, 1), (1, 4), (4, 1), (4, 4)."""
    assert statistics.bootstrap_difference([3.0, 5.0], [4.0, 9.0], paired=True) == (1, 4)
    assert statistics.bootstrap_difference([3.0, 5.0], [4.0, 9.0], paired=False) == (-1, 6)
    rng = np.random.default_rng(0)
    old, new = rng.normal(size=200), rng.normal(size=100)
    half = 1.96 * np.sqrt(np.var(old) / 200 + np.var(new) / 100)
    expected = new.mean() - old.mean() + np.array([-half, half])
    np.testing.assert_allclose(statistics.bootstrap_difference(old, new, paired=False), expected, atol=0.06 * half)


def test_differences_take_equal_and_nan_values():
    equal, worse = [1.0, 1.0], [3.0, 3.0]
    for difference in (statistics.paired_difference, statistics.welch_difference):
        np.testing.assert_equal(tuple(difference(equal, worse)), (2, 2, 2, np.nan))
        assert all(np.isnan(difference(equal, [1.0, np.nan])))
    assert np.isnan(statistics.hedges_g(equal, worse)) and np.isnan(statistics.hedges_g(equal, [1.0, np.nan]))
    assert all(np.isnan(statistics.bootstrap_difference(equal, [1.0, np.nan], paired=False)))


def test_decompose_finds_additive_effects_exactly():
    a, b, c = np.array([0.0, 2.0, 7.0]), np.array([1.0, 0.0, 0.0]), np.array([4.0, -4.0, 0.0])
    found = statistics.decompose(5 + a[:, None, None] + b[:, None] + c, ["a", "b", "c"])
    assert [part.df for part in found.values()] == [2, 2, 2, 20]
    for name, effect in zip("abc", (a, b, c), strict=True):
        np.testing.assert_allclose(found[name].sd, np.std(effect, ddof=1), rtol=1e-12)
        np.testing.assert_allclose(found[name].share, np.var(effect) / sum(map(np.var, (a, b, c))), rtol=1e-12)
    assert found["rest"].share < 1e-30 and found["rest"].sd < 1e-14


def test_decompose_matches_a_table_by_hand():
    """The grand mean is 5. Row means 3 and 7, column means 4 and 6, an interaction of 1: sums of squares 16, 4, 4."""
    found = statistics.decompose(np.array([[3.0, 3.0], [5.0, 9.0]]), ["row", "column"])
    np.testing.assert_allclose([part.share for part in found.values()], [16 / 24, 4 / 24, 4 / 24], rtol=1e-12)
    np.testing.assert_allclose([part.sd**2 for part in found.values()], [(16 - 4) / 2, 0, 4], rtol=1e-12)
    negative = statistics.decompose(np.array([[0.0, 1.0], [1.0, 0.0]]), ["row", "column"])
    assert [part.sd for part in negative.values()] == [0, 0, 1]  # all is interaction


def test_share_without_effect_matches_simulated_studies():
    rng = np.random.default_rng(0)
    for levels, streams in ((2, "abc"), (3, "ab")):
        shape = (levels,) * len(streams)
        found = [statistics.decompose(rng.normal(size=shape), streams) for _ in range(4000)]
        np.testing.assert_allclose(np.mean([parts["rest"].sd ** 2 for parts in found]), 1, rtol=0.06)
        mean, rarely = statistics.share_without_effect(levels - 1, levels ** len(streams) - 1)
        shares = np.array([parts["a"].share for parts in found])
        np.testing.assert_allclose(shares.mean(), mean, rtol=0.05)
        np.testing.assert_allclose((shares > rarely).mean(), 0.05, atol=0.012)


def test_sd_factors_cover_95_percent():
    rng = np.random.default_rng(0)
    for n in (2, 3, 8):
        low, high = statistics.sd_factors(n - 1)
        found = rng.normal(size=(4000, n)).std(1, ddof=1)
        np.testing.assert_allclose(((low * found < 1) & (1 < high * found)).mean(), 0.95, atol=0.012)


def test_decompose_takes_equal_and_nan_values():
    equal = statistics.decompose(np.ones((2, 2)), ["a", "b"])
    assert [part.sd for part in equal.values()] == [0, 0, 0] and all(np.isnan(p.share) for p in equal.values())
    assert all(np.isnan(statistics.summarize([1.0, float("nan")])))
    assert np.isnan(statistics.decompose(np.array([[1.0, np.nan], [1.0, 2.0]]), ["a", "b"])["a"].share)


def test_decompose_refuses_one_stream():
    with pytest.raises(ValueError, match="two or more streams"):
        statistics.decompose(np.arange(3.0), ["a"])
