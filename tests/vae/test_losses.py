import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from genjax import keys
from genjax.config import DataConfig
from genjax.vae import losses, nets
from genjax.vae.config import VaeConfig


def test_bernoulli_is_scipys_log_probability(x64):
    rng = np.random.default_rng(0)
    logits, x = rng.normal(scale=3, size=(4, 5, 6, 1)), rng.integers(0, 2, (4, 5, 6, 1))
    expected = scipy.stats.bernoulli.logpmf(x, 1 / (1 + np.exp(-logits))).sum((1, 2, 3))
    np.testing.assert_allclose(losses.bernoulli_log_prob(jnp.asarray(logits), jnp.asarray(x)), expected, rtol=1e-10)


@pytest.mark.parametrize("logit", [1e4, -1e4, 104.0, -104.0, 0.0])
@pytest.mark.parametrize("x", [0.0, 1.0])
def test_bernoulli_and_its_gradient_are_finite_and_exact_for_any_logit(logit, x):
    value, grad = jax.value_and_grad(lambda logits: losses.bernoulli_log_prob(logits, jnp.full((1, 1), x))[0])(
        jnp.full((1, 1), logit)
    )
    expected = {0.0: -math.log(2)}.get(logit, 0.0 if (logit > 0) == (x == 1) else -abs(logit))
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(grad[0, 0], x - 1 / (1 + math.exp(-min(max(logit, -700), 700))), atol=1e-6)


def test_gaussian_is_scipys_log_density(x64):
    rng = np.random.default_rng(1)
    mean, x = rng.normal(size=(2, 3, 4, 5, 1))
    expected = scipy.stats.norm.logpdf(x, mean, np.exp(-0.7)).sum((1, 2, 3))
    np.testing.assert_allclose(losses.gaussian_log_prob(jnp.asarray(mean), jnp.asarray(-0.7), jnp.asarray(x)), expected)


def test_sigma_squared_one_half_is_the_squared_error_with_its_normaliser(x64):
    vae = VaeConfig(likelihood="gaussian")
    rng = np.random.default_rng(2)
    mean, x = rng.uniform(size=(2, 3, 4, 5, 1))
    pixels = nets.Pixels(jnp.asarray(mean), jnp.log(vae.sigma))
    expected = -((x - mean) ** 2).sum((1, 2, 3)) - 20 / 2 * math.log(math.pi)
    np.testing.assert_allclose(losses.log_prob(vae, pixels, jnp.asarray(x)), expected, rtol=1e-12)


def test_kl_is_the_integral_of_its_definition(x64):
    mean, log_sigma = np.array([[0.3, -1.2, 0.0]]), np.array([[0.4, -0.9, 0.0]])
    expected = 0.0
    for m, s in zip(mean[0], np.exp(log_sigma[0]), strict=True):
        q = scipy.stats.norm(m, s)
        expected += scipy.integrate.quad(lambda z, q=q: q.pdf(z) * (q.logpdf(z) - scipy.stats.norm.logpdf(z)), -15, 15)[
            0
        ]
    np.testing.assert_allclose(losses.gaussian_kl(jnp.asarray(mean), jnp.asarray(log_sigma)), [expected], rtol=1e-7)


def test_kl_is_the_mean_of_samples_drawn_as_training_draws_them(x64):
    posterior = nets.Posterior(jnp.array([[0.5, -1.0]]), jnp.array([[-0.5, 0.3]]))
    noise = keys.normal(keys.per_example(keys.root_key(0), np.arange(200_000)), 2)
    z = np.asarray(losses.sample_posterior(posterior, noise))
    q = scipy.stats.norm(np.asarray(posterior.mean), np.exp(posterior.log_sigma))
    ratio = (q.logpdf(z) - scipy.stats.norm.logpdf(z)).sum(1)
    kl = float(losses.gaussian_kl(*posterior)[0])
    assert abs(ratio.mean() - kl) < 4 * ratio.std() / math.sqrt(len(ratio))


class LinearGaussian:
    """x = W z + b + sigma e, with orthogonal columns in W: posterior and log p(x) in closed form."""

    def __init__(self):
        rng = np.random.default_rng(3)
        self.w = np.linalg.qr(rng.normal(size=(6, 2)))[0] * [1.5, 0.4]
        self.b, self.sigma = rng.normal(size=6), 0.7
        self.x = rng.normal(size=(5, 6)) @ np.diag([2, 1, 1, 0.5, 1, 1]) + self.b
        self.precision = 1 + (self.w**2).sum(0) / self.sigma**2
        self.config = SimpleNamespace(vae=VaeConfig(likelihood="gaussian", sigma=self.sigma, latent_dim=2))

    def posterior(self, widen=0.0):
        mean = (self.x - self.b) @ self.w / self.sigma**2 / self.precision
        return nets.Posterior(jnp.asarray(mean), jnp.broadcast_to(-0.5 * np.log(self.precision) + widen, mean.shape))

    def log_prob(self):
        cov = self.w @ self.w.T + self.sigma**2 * np.eye(6)
        return scipy.stats.multivariate_normal(self.b, cov).logpdf(self.x)

    def elbo(self, monkeypatch, posterior):
        """E_q by a cubature rule that is exact for the quadratic integrand."""
        decode = lambda config, params, z: nets.Pixels(z @ self.w.T + self.b[None], jnp.log(self.sigma))  # noqa: E731
        monkeypatch.setattr(nets, "encode", lambda config, params, x: posterior)
        monkeypatch.setattr(nets, "decode", decode)
        points = [sign * math.sqrt(2) * np.eye(2)[i] for i in range(2) for sign in (1, -1)]
        noises = [jnp.broadcast_to(point, (5, 2)) for point in points]
        return np.mean([losses.elbo_terms(self.config, {}, jnp.asarray(self.x), n, 1.0).elbo for n in noises], axis=0)


def test_elbo_is_the_exact_log_likelihood_at_the_true_posterior(x64, monkeypatch):
    model = LinearGaussian()
    np.testing.assert_allclose(model.elbo(monkeypatch, model.posterior()), model.log_prob(), rtol=1e-10)


@pytest.mark.parametrize("widen", [-0.5, 0.3])
def test_elbo_is_below_the_exact_log_likelihood_at_any_other(x64, monkeypatch, widen):
    model = LinearGaussian()
    gap = model.log_prob() - model.elbo(monkeypatch, model.posterior(widen))
    np.testing.assert_allclose(gap, 2 * (0.5 * (np.exp(2 * widen) - 1) - widen), rtol=1e-9)  # KL(q || posterior)
    assert (gap > 0.05).all()


def test_beta_weighs_the_objective_and_never_the_elbo(x64, monkeypatch):
    model = LinearGaussian()
    model.elbo(monkeypatch, model.posterior())  # installs the linear networks
    one, four = (
        losses.elbo_terms(model.config, {}, jnp.asarray(model.x), jnp.zeros((5, 2)), beta) for beta in (1.0, 4.0)
    )
    np.testing.assert_array_equal(one.elbo, four.elbo)
    np.testing.assert_allclose(four.objective - one.objective, 3 * one.rate, rtol=1e-12)
    np.testing.assert_allclose(one.objective, -one.elbo, rtol=1e-12)


def test_beta_warms_up_linearly():
    vae = VaeConfig(beta=2.0, beta_warmup_steps=10)
    assert [float(losses.beta(vae, jnp.int32(step))) for step in (0, 5, 10, 99)] == [0.0, 1.0, 2.0, 2.0]
    assert float(losses.beta(VaeConfig(beta=0.5), jnp.int32(0))) == 0.5


def test_bits_per_dim_of_uniform_images(x64):
    """A uniform density on [0, 1) gives every grey level 8 bits; a fair coin gives every binary pixel one."""
    data = dict(source="digits", image_size=(8, 8), channels=(1,), batch_size=1)
    assert losses.bits_per_dim(DataConfig(**data, dequantize=True), jnp.asarray(0.0)) == 8
    coin = losses.bits_per_dim(DataConfig(**data, binarize="fixed"), jnp.asarray(64 * math.log(0.5)))
    np.testing.assert_allclose(coin, 1, rtol=1e-12)
    assert losses.bits_per_dim(DataConfig(**data), jnp.asarray(0.0)) is None
    colour = DataConfig(**data | {"source": "satellite", "channels": (3,)}, dequantize=True)
    np.testing.assert_allclose(losses.bits_per_dim(colour, jnp.asarray(3 * 64 * math.log(0.5))), 9, rtol=1e-12)
