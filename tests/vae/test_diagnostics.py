"""Diagnostics of chains against closed forms, and against loops after the paper's equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from genjax.vae import diagnostics


def chains(num, k, rho=0.0, seed=0):
    """Steps [num, k] of stationary chains x' = rho x + noise, with variance 1."""
    noise = np.random.default_rng(seed).normal(size=(num, k)) * np.sqrt(1 - rho**2)
    steps = [noise[0] / np.sqrt(1 - rho**2)]
    for each in noise[1:]:
        steps.append(rho * steps[-1] + each)
    return np.stack(steps)


def diagnose(*latents):
    """R-hat and effective sample size of the steps [num, k] of each latent."""
    trace = jnp.asarray(np.stack(latents, axis=-1))[:, None]
    found = jax.jit(diagnostics.diagnose)(trace, jnp.ones(trace.shape[:3]))
    return float(found.r_hat[0]), float(found.effective_sample_size[0])


def by_the_paper(steps):
    """R-hat and effective sample size of steps [num, k], one lag and one chain at a time."""
    half = len(steps) // 2
    halves = np.concatenate([steps[:half], steps[-half:]], axis=1)
    scores, spread = map(scores_by_scipy, (halves, np.abs(halves - np.median(halves))))
    n, m = scores.shape
    within, total = variances(scores)
    rho = [1.0]
    for lag in range(1, n):
        products = [np.sum((x[: n - lag] - x.mean()) * (x[lag:] - x.mean())) / n for x in scores.T]
        rho.append(1 - (within - np.mean(products)) / total)
    time, least = -1.0, np.inf
    for lag in range(0, n, 2):
        pair = sum(rho[lag : lag + 2])
        if lag + 1 == n or pair <= 0:
            time += max(rho[lag], 0)
            break
        least = min(least, pair)
        time += 2 * least
    r_hat = max(np.sqrt(total / within) for within, total in map(variances, (scores, spread)))
    return r_hat, n * m / max(time, 1 / np.log10(n * m))


def scores_by_scipy(x):
    rank = scipy.stats.rankdata(x, axis=None).reshape(x.shape)
    return scipy.stats.norm.ppf((rank - 0.375) / (x.size + 0.25))


def variances(x):
    """Variance within chains, and the estimate of the whole variance."""
    within, n = np.mean(x.var(axis=0, ddof=1)), len(x)
    return within, within * (n - 1) / n + x.mean(axis=0).var(ddof=1)


@pytest.mark.parametrize(("num", "k", "rho"), [(400, 8, 0.9), (61, 4, -0.5), (10, 8, 0.9), (5, 16, 0.5)])
def test_diagnose_is_that_of_the_paper(num, k, rho):
    steps = chains(num, k, rho) + np.arange(k) / k
    steps[1] = steps[0]  # a rejected proposal: ranks that tie
    np.testing.assert_allclose(diagnose(steps), by_the_paper(steps), rtol=1e-4)


@pytest.mark.parametrize("rho", [0.9, 0.5, -0.3])
def test_effective_sample_size_of_an_autoregression(rho):
    r_hat, size = diagnose(chains(4000, 8, rho))
    assert size == pytest.approx(32000 * (1 - rho) / (1 + rho), rel=0.1) and r_hat < 1.01


def test_diagnose_is_that_of_the_worst_latent():
    good, bad = chains(400, 8), chains(400, 8, 0.95, seed=1)
    assert diagnose(good)[1] > 4 * diagnose(bad)[1]
    np.testing.assert_allclose(diagnose(good, bad, good), diagnose(bad), rtol=1e-5)


def test_diagnose_takes_ranks():
    steps = chains(400, 8, 0.5)
    assert diagnose(np.exp(3 * steps))[1] == pytest.approx(diagnose(steps)[1], rel=1e-5)


def test_r_hat_tells_chains_of_other_places_and_widths():
    steps, r_hat = chains(400, 8), lambda steps: diagnose(steps)[0]
    assert r_hat(steps) < 1.01 and r_hat(steps + 3 * np.arange(8)) > 2
    assert r_hat(steps * (1 + np.arange(8))) > 1.1  # all have mean 0
    trend = np.linspace(-3, 3, 400)[:, None]
    assert r_hat(steps + trend) > 1.3  # the chains are alike, and their halves are not


def test_diagnose_of_chains_that_stand_still_or_are_short():
    r_hat, size = diagnose(np.repeat(chains(1, 8), 10, axis=0))
    assert r_hat == np.inf and 8 <= size < 11  # a draw of each chain; halves pass for two
    assert diagnose(np.zeros((10, 8))) == (np.inf, 1)
    assert np.isnan(diagnose(chains(3, 8))).all()


def test_summarize_gives_mean_and_worst():
    found = diagnostics.Diagnostics(np.array([1.0, 1.5]), np.array([40.0, 10.0]), np.array([0.75, 0.25]))
    assert diagnostics.summarize(found) == {
        "r_hat": 1.25, "r_hat_worst": 1.5, "effective_sample_size": 25, "effective_sample_size_worst": 10,
        "acceptance_rate": 0.5, "acceptance_rate_worst": 0.25,
    }  # fmt: skip
    assert diagnostics.summarize(diagnostics.without_chains(2)) == {}
