"""Mixtures of normals, and fits of them to encodings whose distribution is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from genjax.vae import aggregated
from genjax.vae.aggregated import FitConfig
from genjax.vae.mixture import Mixture

CONSTANT = 0.5 * np.log(2 * np.pi)  # what the log densities leave out, for each dimension


def mixtures():
    """Two normals in three dimensions, with diagonal and with full covariances."""
    rng = np.random.default_rng(0)
    mean, factor = rng.normal(size=(2, 3)), np.tril(rng.normal(size=(2, 3, 3)))
    factor[:, np.arange(3), np.arange(3)] = rng.uniform(0.5, 2, (2, 3))
    log_weight = np.log([0.3, 0.7])
    return Mixture(log_weight, mean, np.exp(rng.normal(size=(2, 3)))), Mixture(log_weight, mean, factor)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("number", [0, 1])
def test_mixture_log_prob_is_that_of_scipy(number):
    mixture = mixtures()[number]
    factors = [np.diag(scale) if scale.ndim == 1 else scale for scale in mixture.scale]
    e = np.random.default_rng(1).normal(size=(5, 3))
    each = [
        scipy.stats.multivariate_normal(mean, factor @ factor.T).logpdf(e)
        for mean, factor in zip(mixture.mean, factors, strict=True)
    ]
    expected = np.log(np.exp(mixture.log_weight) @ np.exp(each)) + 3 * CONSTANT
    np.testing.assert_allclose(jax.tree.map(jnp.asarray, mixture).log_prob(jnp.asarray(e)), expected, rtol=1e-10)


@pytest.mark.parametrize("number", [0, 1])
def test_mixture_sample_moves_noise_to_a_component(number):
    """To one of its weights' share of uniform numbers: mean + factor noise."""
    mixture = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), mixtures()[number])
    rng = np.random.default_rng(2)
    uniform, noise = rng.uniform(size=2000), rng.normal(size=(2000, 3))
    drawn = np.asarray(mixture.sample(jnp.asarray(uniform), jnp.asarray(noise)))
    first = uniform < 0.3
    for component, rows in ((0, first), (1, ~first)):
        mean, scale = (np.asarray(of[component]) for of in (mixture.mean, mixture.scale))
        factor = np.diag(scale) if scale.ndim == 1 else scale
        np.testing.assert_allclose(drawn[rows], mean + noise[rows] @ factor.T, rtol=1e-4, atol=1e-5)


def test_mixture_sample_never_draws_weight_0():
    mixture = Mixture(jnp.log(jnp.array([0.0, 1.0, 0.0])), jnp.arange(3.0)[:, None], jnp.full((3, 1), 1e-3))
    drawn = mixture.sample(jnp.array([0.0, 0.5, 1.0 - 2**-24]), jnp.zeros((3, 1)))
    np.testing.assert_array_equal(drawn[:2], 1)


def encodings(num=4000):
    """Draws of a normal of two dimensions, and two dimensions of N(0, 1) around it."""
    rng = np.random.default_rng(3)
    inner = rng.normal(size=(num, 2)) @ [[0.6, 0.3], [0.0, 0.2]] + [1.0, -0.5]
    return np.insert(inner, [0, 2], rng.normal(size=(num, 2)), axis=1), np.array([False, True, True, False])


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_fit_gaussian_mixture_of_one_component_has_the_moments(covariance):
    e, in_use = encodings()
    found = aggregated.fit_gaussian_mixture(e, in_use, FitConfig(components=1, covariance=covariance, draws=1))
    moments = np.cov(e[:, in_use].T, bias=True)
    expected = np.eye(4)
    expected[1:3, 1:3] = moments if covariance == "full" else np.diag(np.diag(moments))
    factor = found.scale[0] if covariance == "full" else np.diag(found.scale[0])
    np.testing.assert_allclose(factor @ factor.T, expected, atol=2e-6)  # scikit-learn adds 1e-6 to variances
    np.testing.assert_allclose(found.mean[0], np.where(in_use, e.mean(axis=0), 0), atol=1e-9)
    assert found.log_weight == pytest.approx(0.0, abs=1e-9)


def test_fit_gaussian_mixture_finds_clusters():
    rng = np.random.default_rng(4)
    centres = np.array([[-4.0, 0.0], [4.0, 1.0], [0.0, 6.0]])
    e = centres[rng.choice(3, 3000, p=[0.2, 0.3, 0.5])] + 0.5 * rng.normal(size=(3000, 2))
    found = aggregated.fit_gaussian_mixture(e, np.ones(2, bool), FitConfig(components=3, draws=1))
    order = [int(np.argmin(np.linalg.norm(found.mean - centre, axis=1))) for centre in centres]
    np.testing.assert_allclose(found.mean[order], centres, atol=0.1)
    np.testing.assert_allclose(np.exp(found.log_weight[order]), [0.2, 0.3, 0.5], atol=0.03)


def test_fit_gaussian_mixture_refuses_what_cannot_be():
    e, in_use = encodings(30)
    with pytest.raises(ValueError, match="no latent has a rate above 0.01 nats, so the aggregated posterior is N"):
        aggregated.fit_gaussian_mixture(e, np.zeros(4, bool), FitConfig())
    with pytest.raises(ValueError, match="16 full covariances of 2 latents in use need 32 training images, and 30 are"):
        aggregated.fit_gaussian_mixture(e, in_use, FitConfig(components=16, draws=1))
