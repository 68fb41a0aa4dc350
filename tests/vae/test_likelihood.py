"""Estimates of log p(x) against closed forms, by a linear VAE with Gaussian pixels."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from genjax import keys, parallel
from genjax.vae import likelihood, usage
from genjax.vae.likelihood import Estimate
from genjax.vae.model import Posterior, from_config
from genjax.vae.sampler import Sampler
from linear_gaussian import LinearGaussian
from tiny import tiny_run

REPEATS = 200
CHAIN = {
    "architecture": "chain", "latent_dim": 32, "groups": (2, 1, 3), "hidden_sizes": (8, 7), "upper_sizes": (6, 5),
}  # fmt: skip


def estimate(model, num_samples, at_once=50, repeats=1):
    """Estimates [repeats, 5] for the model's five images, each repeat with noise of its own."""
    images = jnp.tile(model.images().astype(float), (repeats, 1, 1, 1))

    @jax.jit
    def run(key):
        image_keys = keys.per_example(key, jnp.arange(len(images)))
        target = likelihood.target_of(model, {}, images)
        return likelihood.importance_weighted(target, image_keys, num_samples, at_once)

    found = run(keys.root_key(0))
    return jax.tree.map(lambda leaf: np.asarray(leaf).reshape(repeats, 5, *leaf.shape[1:]), found)


def test_importance_weighted_is_exact_at_true_posterior():
    np.testing.assert_allclose(estimate(LinearGaussian(), 3).log_prob[0], LinearGaussian().log_prob(), rtol=1e-5)


def test_log_joint_is_that_of_the_target(x64):
    model = LinearGaussian()
    target = likelihood.target_of(model, {}, model.images())
    e = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3, 2)))
    np.testing.assert_allclose(likelihood.log_joint(target, e), target.log_joint(e), rtol=1e-12)
    assert (likelihood.log_joint(target, e * jnp.nan) == -jnp.inf).all()


@pytest.mark.slow
def test_importance_weighted_has_variances_from_two_draws_on():
    """For copies of one image, each with noise of its own, `mean_variance` is the variance of their means."""
    model, num = from_config(tiny_run("unused", vae=CHAIN)), 600

    def run(key, num_samples):
        target = likelihood.target_of(model, jax.jit(model.init)(key), jnp.zeros((num, 8, 8, 1)))
        return likelihood.importance_weighted(target, keys.per_example(key, jnp.arange(num)), num_samples, 1)

    one, *more = (jax.jit(run, static_argnums=1)(keys.root_key(0), num_samples) for num_samples in (1, 2, 3))
    assert np.isnan(one.mean_variance).all() and np.isnan(one.variance).all()
    for found in more:
        assert (found.variance > 0).all()
        np.testing.assert_allclose(found.mean_variance.mean(axis=0), found.mean.var(axis=0, ddof=1), rtol=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("widen", [-0.2, 0.4])
def test_importance_weighted_rises_to_the_likelihood(widen):
    model = LinearGaussian(widen)
    means = [estimate(model, k, repeats=REPEATS).log_prob.mean() for k in (1, 4, 30)]
    exact = model.log_prob().mean()
    assert means[0] < means[1] - 0.02 and means[1] < means[2] < exact + 0.002 and means[2] > exact - 0.02
    kl = 2 * (0.5 * (np.exp(2 * widen) - 1) - widen)
    assert means[0] == pytest.approx(exact - kl, abs=0.06)  # one draw: the ELBO
    np.testing.assert_allclose(estimate(model, 5000, 1000).log_prob[0], model.log_prob(), atol=0.02)


def test_variance_is_that_of_estimates_with_other_noise():
    found = estimate(LinearGaussian(0.4), 60, repeats=REPEATS)
    np.testing.assert_allclose(found.log_prob.var(axis=0, ddof=1), found.variance.mean(axis=0), rtol=0.3)
    assert np.isnan(estimate(LinearGaussian(0.4), 1).variance).all()


def test_summarize_splits_the_elbo(make_run):
    model = LinearGaussian(0.4)
    found = jax.tree.map(lambda leaf: leaf[0], estimate(model, 5000, 1000))
    summary = likelihood.summarize(found, make_run(), [1, 1])
    elbo = model.log_prob().mean() - 2 * (0.5 * (np.exp(0.8) - 1) - 0.4)
    assert summary["negative_elbo"] == pytest.approx(-elbo, abs=0.05)
    assert summary["negative_elbo"] == pytest.approx(summary["distortion"] + summary["rate"])
    assert summary["rate"] == pytest.approx(sum(summary["kl_per_group"]))


def mixture(num=400, apart=10.0):
    """Posteriors about two points, far apart in the first of two latents, and a draw from each."""
    rng = np.random.default_rng(0)
    mean = np.stack([np.where(np.arange(num) < num / 2, apart, -apart), np.zeros(num)], axis=1)
    return Posterior(mean, np.zeros((num, 2))), mean + rng.normal(size=mean.shape)


def test_mutual_information_of_two_clusters_is_one_bit():
    assert likelihood.mutual_information(*mixture()) == pytest.approx(math.log(2), abs=1e-9)
    assert likelihood.mutual_information(*mixture(apart=0.0)) == pytest.approx(0, abs=1e-9)


def test_mutual_information_is_its_definition(monkeypatch):
    rng = np.random.default_rng(0)
    mean, log_sigma = rng.normal(size=(2, 30, 2))
    e = mean + np.exp(log_sigma) * rng.normal(size=mean.shape)
    log_q = scipy.stats.norm(mean, np.exp(log_sigma)).logpdf(e[:, None]).sum(axis=2)
    expected = np.mean(np.diag(log_q) - np.log(np.exp(log_q).mean(axis=1)))
    monkeypatch.setattr(likelihood, "ROWS", 7)
    assert likelihood.mutual_information(Posterior(mean, log_sigma), e) == pytest.approx(expected, rel=1e-9)


def test_mutual_information_is_exact_for_small_sigma():
    num = 50
    mean = np.random.default_rng(0).normal(size=(num, 2)) * 30
    posterior = Posterior(mean, np.full((num, 2), -6.0))
    assert likelihood.mutual_information(posterior, mean) == pytest.approx(math.log(num), rel=1e-9)


def test_active_units_have_more_variance_than_the_threshold(make_run, monkeypatch):
    monkeypatch.setattr(usage, "ACTIVE", 0.25)
    mean = np.array([[0.5, 0.75], [-0.5, -0.75]])
    posterior, ones = Posterior(mean, np.zeros((2, 2))), np.ones(2)
    found = Estimate(-ones, ones, ones, posterior.kl_per_dimension(), mean, 0 * mean, posterior, mean)
    assert likelihood.summarize(found, make_run(), [1, 1])["active_units_per_group"] == [0, 1]


def test_active_units_are_those_whose_mean_varies(make_run):
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(1000, 3)) * [1.0, 0.05, 0.2]
    ones = np.ones(1000)
    posterior = Posterior(mean, np.zeros((1000, 3)))
    found = Estimate(-ones, ones, ones, posterior.kl_per_dimension(), mean, 0 * mean, posterior, mean)
    summary = likelihood.summarize(found, make_run(), [2, 1])
    assert summary["active_units"] == 2 and "mutual_information" not in summary
    of_one_group = likelihood.summarize(found, make_run(), [3])
    assert of_one_group["mutual_information"] == likelihood.mutual_information(posterior, mean)
    assert [len(group) for group in summary["kl_per_dimension"]] == [2, 1]
    np.testing.assert_allclose(np.concatenate(summary["kl_per_dimension"]), (mean**2).mean(axis=0) / 2, rtol=1e-5)
    assert summary["bits_per_dim"] == pytest.approx(1 / 64 / math.log(2))
    assert summary["nll_draw_se"] == pytest.approx(1 / math.sqrt(1000)) and summary["nll_image_se"] == 0


@pytest.mark.slow
def test_estimate_likelihood_is_the_same_for_any_chunk_and_devices(make_run):
    run = make_run()
    model = from_config(run)
    params = jax.jit(model.init)(keys.root_key(0))
    images = np.random.default_rng(0).integers(0, 256, (13, 8, 8, 1), np.uint8)

    def found(num_devices, at_once, rows=slice(None)):
        sampler = Sampler(run, model, params, 0, parallel.make_mesh(jax.devices()[:num_devices]))
        return sampler.estimate_likelihood(images[rows], 50, 0, at_once, np.arange(13)[rows])

    one = found(1, 50)
    for other in (found(8, 50), found(1, 7)):
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(found(1, 7, slice(4, 6)).log_prob, one.log_prob[4:6], rtol=1e-6)
    assert likelihood.group_sizes(model, params) == [4]
