import numpy as np
import pytest
from scipy import linalg, stats

from genjax.evaluation import set_distances
from genjax.evaluation.set_distances import frechet, kid, mind


def normal(num, dims, seed, mean=0.0, scale=1.0):
    return mean + scale * np.random.default_rng(seed).normal(size=(num, dims))


def with_moments(mean, covariance, num, seed):
    """A set with exactly this mean and unbiased covariance."""
    x = normal(num, len(mean), seed)
    x -= x.mean(axis=0)
    whitened = x @ np.linalg.inv(np.linalg.cholesky(np.atleast_2d(np.cov(x, rowvar=False)))).T
    return mean + whitened @ np.linalg.cholesky(covariance).T


def covariance(dims, seed):
    root = normal(2 * dims, dims, seed)
    return root.T @ root / dims


def test_frechet_equals_closed_form_for_normal_distributions():
    for dims in (1, 5, 40):
        (m_x, m_y), (s_x, s_y) = normal(2, dims, 0), [covariance(dims, seed) for seed in (1, 2)]
        expected = np.sum((m_x - m_y) ** 2) + np.trace(s_x + s_y - 2 * linalg.sqrtm(s_x @ s_y).real)
        found = frechet(with_moments(m_x, s_x, 100, 3), with_moments(m_y, s_y, 150, 4))
        assert found == pytest.approx(expected, rel=1e-9)
    # Covariances that commute: the sum of (a - b)^2 over their standard deviations.
    a, b = np.array([1.0, 2, 3]), np.array([2.0, 2, 5])
    x, y = with_moments(np.zeros(3), np.diag(a**2), 50, 5), with_moments(np.ones(3), np.diag(b**2), 50, 6)
    assert frechet(x, y) == pytest.approx(3 + 1 + 0 + 4, abs=1e-6)


def test_frechet_is_exact_for_fewer_images_than_features():
    x, y = normal(7, 30, 0, 0.3), normal(12, 30, 1)
    s_x, s_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    roots = np.sqrt(np.linalg.eigvals(s_x @ s_y).astype(complex)).real  # singular: sqrtm has no digits here
    expected = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(s_x + s_y) - 2 * roots.sum()
    assert frechet(x, y) == pytest.approx(expected, rel=1e-6)
    turned = np.linalg.qr(normal(30, 30, 2))[0]
    assert frechet(x @ turned, y @ turned) == pytest.approx(frechet(x, y), rel=1e-9)
    assert frechet(x, x) == pytest.approx(0, abs=1e-9)


def unbiased_mmd(x, y):
    x, y = list(x), list(y)
    kernel = lambda a, b: np.mean([(u @ v / len(u) + 1) ** 3 for u in a for v in b if u is not v])  # noqa: E731
    return kernel(x, x) + kernel(y, y) - 2 * kernel(x, y)


def mean_kernel(a, b):
    """E[(x.y / d + 1)^3] for x of N(a, I) and y of N(b, I), from the moments of x.y given x."""
    dims, dot, of_a, of_b = len(a), a @ b, a @ a + len(a), b @ b
    second = dot**2 + of_b + of_a
    third = dot**3 + 3 * dot * of_b + 3 * dot * (of_a + 2)
    return 1 + 3 * dot / dims + 3 * second / dims**2 + third / dims**3


def test_kid_is_mmd_over_all_pairs():
    for num in (3, 29, 230):  # fewer than, and no multiple of, the number of blocks
        x, y = normal(num, 4, 0, 0.2), normal(17, 4, 1)
        assert kid(x, y).value == pytest.approx(unbiased_mmd(x, y), rel=1e-9)


def test_kid_of_split_against_split_is_unbiased(monkeypatch):
    monkeypatch.setattr(set_distances, "DRAWS", 200)
    halves = [kid(*np.split(normal(200, 8, seed), 2), seed=seed) for seed in range(60)]
    values = np.array([half.value for half in halves])
    assert abs(values.mean()) < 3 * values.std(ddof=1) / np.sqrt(len(values))
    errors = np.array([half.high - half.low for half in halves]) / 3.92
    assert np.max(abs(values) / errors) < 3
    assert errors.mean() / values.std(ddof=1) == pytest.approx(1.1, rel=0.25)  # a plain bootstrap is at 1.7
    assert np.mean([half.low <= 0 <= half.high for half in halves]) >= 0.95


def test_kid_interval_covers_the_distance(monkeypatch):
    """In about 95 of 100 samples, and shrinks with the square root of their number."""
    monkeypatch.setattr(set_distances, "DRAWS", 200)
    dims, mean = 8, np.full(8, 0.5)
    truth = mean_kernel(mean, mean) + mean_kernel(0 * mean, 0 * mean) - 2 * mean_kernel(mean, 0 * mean)
    widths = {}
    for num in (50, 200):
        found = [kid(normal(num, dims, 10 + i, mean), normal(num, dims, 500 + i), seed=i) for i in range(50)]
        assert np.mean([each.low <= truth <= each.high for each in found]) >= 0.88
        widths[num] = np.mean([each.high - each.low for each in found])
    assert widths[50] / widths[200] == pytest.approx(2, rel=0.25)


def test_kid_interval_follows_from_its_seed():
    x, y = normal(50, 8, 0), normal(40, 8, 1)
    assert kid(x, y, seed=3) == kid(x, y, seed=3) and kid(x, y, seed=3).low != kid(x, y, seed=4).low


def test_mind_is_sliced_wasserstein_distance(monkeypatch):
    x, y = normal(40, 1, 0, 0.5), normal(40, 1, 1)
    squared = np.mean((np.sort(x[:, 0]) - np.sort(y[:, 0])) ** 2)
    assert mind(x, y) == pytest.approx(3 * squared, rel=1e-9)
    # Isotropic: along every line, the distance of two one-dimensional normal distributions.
    far = mind(normal(4000, 6, 0, scale=2), normal(4000, 6, 1))
    assert far == pytest.approx(3 * 6 * (2 - 1) ** 2, rel=0.05)
    monkeypatch.setattr(set_distances, "PROJECTIONS", 20000)
    x, shift = normal(30, 6, 2), np.arange(6.0)
    assert mind(x, x + shift) == pytest.approx(3 * shift @ shift, rel=0.05)


def test_mind_is_a_mean_over_a_thousand_lines():
    x, y = normal(8, 5, 0), normal(8, 5, 1)
    lines = np.random.default_rng(3).normal(size=(1000, 5))
    on_lines = [np.sort(z @ (lines / np.linalg.norm(lines, axis=1)[:, None]).T, axis=0) for z in (x, y)]
    assert mind(x, y, seed=3) == pytest.approx(15 * np.mean((on_lines[0] - on_lines[1]) ** 2), rel=1e-9)


def test_mind_compares_sets_of_two_sizes_exactly():
    x, y = normal(6, 3, 0), normal(4, 3, 1)
    assert mind(x, y) == pytest.approx(mind(np.repeat(x, 2, axis=0), np.repeat(y, 3, axis=0)), rel=1e-9)
    assert mind(x, np.repeat(x, 5, axis=0)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("distance", [frechet, lambda x, y: kid(x, y).value, mind], ids=["frechet", "kid", "mind"])
def test_set_distances_rise_with_noise(distance):
    reference, clean = (np.tanh(normal(400, 20, seed)) for seed in (0, 1))
    found = [distance(clean + normal(400, 20, 2, scale=scale), reference) for scale in (0, 0.4, 0.8, 1.6)]
    assert np.all(np.diff(found) > 0)
    assert distance(clean.astype(np.float32), reference) == pytest.approx(found[0], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("distance", [frechet, kid, mind])
def test_set_distances_refuse_what_is_undefined(distance):
    x, y = normal(5, 3, 0), normal(6, 3, 1)
    broken = y.copy()
    broken[4, 1] = np.nan
    for features, message in [
        (y[:1], "at least 2 reference images are needed, got 1: give more images"),
        (y[:, :2], r"numbers of features differ \(3 of generated images, 2 of reference images\)"),
        (broken, r"row 4 of the reference features is not finite \(1 of 6 rows are not\)"),
        (y[0], r"expected reference features of shape \[n, d\], got \[3\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            distance(x, features)
    with pytest.raises(ValueError, match="row 4 of the generated"):
        distance(broken, y)


@pytest.fixture
def fidelity(torch_fidelity):
    """torch-fidelity's functions of features."""
    import torch
    from torch_fidelity import metric_fid, metric_kid

    def distances(x, y):
        x, y = torch.from_numpy(x), torch.from_numpy(y)
        of_sets = [metric_fid.fid_features_to_statistics(features) for features in (x, y)]
        options = dict(kid_subsets=1, kid_subset_size=len(x), verbose=False)
        return metric_fid.fid_statistics_to_metric(*of_sets, verbose=False) | metric_kid.kid_features_to_metric(
            x, y, **options
        )

    return distances


@pytest.mark.parametrize(("num", "dims"), [(500, 64), (60, 100)])
def test_frechet_and_kid_equal_torch_fidelity(fidelity, num, dims):
    x, y = normal(num, dims, 0, 0.2), stats.gamma.rvs(2, size=(num, dims), random_state=1)
    found = fidelity(x, y)
    assert frechet(x, y) == pytest.approx(found["frechet_inception_distance"], rel=1e-3)
    assert kid(x, y).value == pytest.approx(found["kernel_inception_distance_mean"], rel=1e-6)
