"""Objectives against closed forms and the identities of their papers."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special

from genjax import keys, parallel
from genjax.evaluation import perceptual
from genjax.vae import objectives
from genjax.vae.config import LossConfig
from genjax.vae.distributions import Gaussian
from genjax.vae.model import from_config
from genjax.vae.posterior import Latents, Posterior
from linear_gaussian import LinearGaussian
from studies.reproducibility.stepping import mesh_of
from tiny import tiny_run

KL = np.array([0.1, 0.2, 0.3, 3.0, 1.1, 1.2, 0.1, 0.8])[:, None] * [0.5, 0.5, 2.0]
"""Of eight images in three dimensions, whose means over one of four devices lie on either side of a limit of 1."""


def on_four_devices(fn):
    """`fn` of KL [8, 3] and its gradient by it, split over four devices."""

    def both(kl):
        return fn(kl), jax.grad(lambda kl: jnp.sum(fn(kl)))(kl)

    return parallel.pmap(both, mesh_of(4), parallel.SPLIT, (parallel.SPLIT, parallel.SPLIT))(KL)


@pytest.mark.parametrize(
    "per, costs, free",  # the mean KL of the dimensions is 0.425, 0.425 and 1.7
    [("group", 1.0 + KL[:, 2], [0.0, 0.0, 1.0]), ("dimension", 2.0 + KL[:, 2], [0.0, 0.0, 1.0])],
)
def test_with_free_bits_floors_the_mean_kl_of_each_group_or_dimension(per, costs, free):
    def counted(kl):
        return objectives.with_free_bits(Latents((jnp.zeros((2, 2)), jnp.zeros((2, 1))), None, kl), 1.0, per)

    found, grad = on_four_devices(counted)
    np.testing.assert_allclose(found, costs, rtol=1e-6)
    np.testing.assert_array_equal(grad, np.broadcast_to(free, (8, 3)))


def test_with_free_bits_counts_groups_and_dimensions_apart():
    """0.6 of a group's nats is 0.3 of each of its dimensions."""

    def counted(per):
        return on_four_devices(
            lambda kl: objectives.with_free_bits(Latents((jnp.zeros((2, 2)), jnp.zeros((2, 1))), None, kl), 0.6, per)
        )[0].mean()

    assert counted("group") == pytest.approx(0.85 + 1.7) and counted("dimension") == pytest.approx(1.2 + 1.7)


@pytest.mark.parametrize("capacity, sign", [(2.0, 1), (3.0, -1)])
def test_distance_is_that_of_the_mean_over_devices(capacity, sign):
    found, grad = on_four_devices(lambda kl: objectives.distance(jnp.sum(kl, axis=1), jnp.asarray(capacity)))
    assert found.mean() == pytest.approx(abs(KL.sum(axis=1).mean() - capacity), rel=1e-6)
    np.testing.assert_array_equal(grad, np.full((8, 3), sign))


def test_training_terms_weigh_the_distance_to_the_capacity():
    """Of a VAE whose rate of five images is far above the capacity (Burgess et al. 2018)."""
    config = tiny_run("unused", vae={"objective": "capacity", "capacity": 0.25, "capacity_warmup": 0.0, "beta": 3.0})
    images = jnp.asarray(LinearGaussian().images(), jnp.float32)

    def terms(images, noise):
        found = objectives.training_terms(config, Trainable(), Trainable.params(), images, noise, jnp.int32(0))
        return found.loss, found.distortion, found.rate

    split = parallel.SPLIT
    loss, distortion, rate = parallel.pmap(terms, mesh_of(1), (split, split), split)(images, jnp.zeros((5, 1, 2)))
    assert rate.mean() > 0.5
    np.testing.assert_allclose(loss.mean(), distortion.mean() + 3 * (rate.mean() - 0.25), rtol=1e-5)


@pytest.mark.slow
def test_perceptual_loss_is_added_to_the_elbos(small_lpips):
    """LPIPS to the mean of p(x|z), as a mean over the draws; the bound stays as it is."""
    plain = tiny_run("unused", vae={"train_draws": 3})
    config = dataclasses.replace(plain, loss=LossConfig(perceptual=2.0))
    model = from_config(config)
    params, rng = jax.jit(model.init)(keys.root_key(0)), np.random.default_rng(0)
    images, noise = rng.random((2, 8, 8, 1), np.float32), rng.normal(size=(2, 3, 4)).astype(np.float32)
    found, without = (
        objectives.training_terms(of, model, params, images, noise, jnp.int32(0), small_lpips) for of in (config, plain)
    )
    draws = [model.decode(params, model.infer(params, images, noise[:, i]).groups).mean() for i in range(3)]
    expected = np.mean([perceptual.distance(small_lpips, mean, images) for mean in draws], axis=0)
    assert expected.min() > 1 and without.perceptual is None
    np.testing.assert_allclose(found.perceptual, expected, rtol=1e-5)
    np.testing.assert_allclose(found.loss, without.loss + 2 * expected, rtol=1e-5)
    np.testing.assert_array_equal(found.elbo, without.elbo)
    with pytest.raises(ValueError, match="perceptual losses need features"):
        objectives.training_terms(config, model, params, images, noise, jnp.int32(0))


def schedule(name, steps, **vae):
    config = tiny_run("unused", vae=vae, train={"num_steps": 100})
    return [float(getattr(objectives, name)(config, jnp.int32(step))) for step in steps]


def test_beta_warms_up_linearly():
    assert schedule("beta", (0, 5, 10, 99, 100), beta=2.0, beta_warmup=0.1) == [0.0, 1.0, 2.0, 2.0, 2.0]
    assert schedule("beta", (0,), beta=0.5) == [0.5]
    assert schedule("beta", (0, 1), beta_warmup=0.01) == [0.0, 1.0]  # a single step


def test_beta_rises_in_cycles():
    """By the equations of Fu et al. 2019, of steps that count from 1: T = 100, M = 4, R = 0.4."""
    found = schedule("beta", range(100), beta_warmup=0.4, beta_cycles=4)
    places = [((t - 1) % math.ceil(100 / 4)) / (100 / 4) for t in range(1, 101)]
    np.testing.assert_allclose(found, [min(1.0, place / 0.4) for place in places], rtol=1e-6)
    assert schedule("beta", (100,), beta_warmup=0.4, beta_cycles=4) == [1.0]  # the evaluation at the end


def test_capacity_rises_linearly():
    given = {"objective": "capacity", "capacity": 8.0, "capacity_warmup": 0.5}
    assert schedule("capacity", (0, 25, 50, 99), **given) == [0.0, 4.0, 8.0, 8.0]
    assert schedule("capacity", (0,), **given | {"capacity_warmup": 0.0}) == [8.0]


@dataclasses.dataclass(frozen=True)
class Trainable(LinearGaussian):
    """The linear model with parameters: of the posterior `shift` and `widen`, of the model `bias`."""

    def encode(self, params, images):
        mean, log_sigma = super().encode(params, images)
        return Posterior(mean + params["shift"][None], log_sigma + params["widen"][None])

    def decode(self, params, groups):
        location, log_sigma = super().decode(params, groups)
        return Gaussian(location + params["bias"], log_sigma)

    @staticmethod
    def params(shift=0.0, widen=0.0):
        return {"shift": jnp.full(2, shift), "widen": jnp.full(2, widen), "bias": jnp.zeros(())}


def linear_terms(objective, params, noise):
    """Terms for the five images of the linear model, repeated to the number of rows of the noise [b, k, 2]."""
    model, vae = Trainable(), {"objective": objective, "train_draws": noise.shape[1]}
    images = jnp.tile(model.images().astype(noise.dtype), (len(noise) // 5, 1, 1, 1))
    config = tiny_run("unused", vae=vae)
    return objectives.training_terms(config, model, params, images, noise, jnp.int32(0))


def linear_grads(objective, params, noise):
    """Gradients of the loss of each repetition of the five images, which have noise [repeats * 5, k, 2]."""

    def grad(part):
        return jax.grad(lambda params: jnp.mean(linear_terms(objective, params, part).loss))(params)

    return jax.jit(jax.vmap(grad))(noise.reshape(-1, 5, *noise.shape[1:]))


def noise(repeats, k, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(5 * repeats, k, 2)))


@pytest.mark.parametrize("objective", ["iwae", "dreg"])
def test_importance_weighted_losses_are_their_definition(x64, objective):
    params, given = Trainable.params(0.2, 0.4), noise(1, 7)
    posterior = Trainable().encode(params, Trainable().images())
    e = posterior.mean[:, None] + np.exp(posterior.log_sigma)[:, None] * given
    normal = scipy.stats.norm
    mean = np.asarray(e) @ Trainable.w.T + Trainable.b
    log_weight = normal(mean, 0.7).logpdf(Trainable.x[:, None]).sum(2) + normal.logpdf(e).sum(2)
    log_weight -= normal(posterior.mean[:, None], np.exp(posterior.log_sigma)[:, None]).logpdf(e).sum(2)
    expected = scipy.special.logsumexp(log_weight, axis=1) - math.log(7)
    terms = linear_terms(objective, params, given)
    np.testing.assert_allclose(-terms.loss, expected, rtol=1e-10)
    np.testing.assert_allclose(terms.distortion, -normal(mean, 0.7).logpdf(Trainable.x[:, None]).sum(2).mean(1))
    np.testing.assert_allclose(terms.elbo, -(terms.distortion + terms.rate))


@pytest.mark.parametrize("objective", ["iwae", "dreg"])
def test_importance_weighted_loss_is_exact_at_true_posterior(x64, objective):
    np.testing.assert_allclose(
        -linear_terms(objective, Trainable.params(), noise(1, 3)).loss, LinearGaussian().log_prob()
    )


def test_dreg_has_no_gradient_at_true_posterior(x64):
    """All weights are equal whatever is drawn, which the draws of `iwae` tell of by its mean alone."""
    found = {name: linear_grads(name, Trainable.params(), noise(3, 4)) for name in ("iwae", "dreg")}
    for name in ("shift", "widen"):
        assert np.abs(found["dreg"][name]).max() < 1e-10 < 0.01 < np.abs(found["iwae"][name]).max()
    np.testing.assert_allclose(found["dreg"]["bias"], found["iwae"]["bias"], rtol=1e-9)


def test_dreg_has_the_mean_of_iwae_and_less_variance(x64):
    found = {name: linear_grads(name, Trainable.params(0.3, 0.2), noise(4000, 8)) for name in ("iwae", "dreg")}
    for name in ("shift", "widen", "bias"):
        iwae, dreg = found["iwae"][name], found["dreg"][name]
        error = np.std(iwae - dreg, axis=0) / math.sqrt(len(iwae))
        assert (np.abs(np.mean(iwae - dreg, axis=0)) <= 4 * error + 1e-12).all(), name
        if name != "bias":
            assert (np.var(dreg, axis=0) < 0.05 * np.var(iwae, axis=0)).all(), name
    assert (np.abs(found["dreg"]["shift"].mean(axis=0)) > 0.03).all()  # ten errors: there is a mean to agree about


def test_one_draw_of_iwae_is_the_elbo_with_a_sampled_kl(x64):
    params = Trainable.params(0.3, 0.2)
    one, many = linear_terms("iwae", params, noise(1, 1)), linear_terms("iwae", params, noise(2000, 1))
    posterior = Trainable().encode(params, Trainable().images())
    sampled = posterior.log_ratio_per_dimension(noise(1, 1)[:, 0]).sum(axis=1)
    np.testing.assert_allclose(one.loss, one.distortion + sampled, rtol=1e-12)
    gap = np.asarray(many.loss + many.elbo)  # the exact KL has the same mean
    assert abs(gap.mean()) < 4 * gap.std() / math.sqrt(len(gap)) and gap.std() > 0.1


def test_elbo_averages_over_draws(x64):
    params, given = Trainable.params(0.3, 0.2), noise(1, 3)
    parts = [linear_terms("elbo", params, given[:, i : i + 1]) for i in range(3)]
    found = linear_terms("elbo", params, given)
    np.testing.assert_allclose(found.loss, np.mean([part.loss for part in parts], axis=0), rtol=1e-12)


def test_optimal_variance_is_the_maximum_over_all_devices(x64):
    rng = np.random.default_rng(0)
    images, location = rng.normal(size=(2, 8, 3, 2, 1))
    split = parallel.SPLIT
    found = parallel.pmap(objectives.optimal_variance, mesh_of(4), (split, split), parallel.REPLICATED)(
        location, images
    )
    best = scipy.optimize.minimize_scalar(
        lambda log_sigma: -float(jnp.sum(Gaussian(jnp.asarray(location), log_sigma).log_prob(images))), (-3.0, 3.0)
    )
    assert float(found) == pytest.approx(np.exp(2 * best.x), rel=1e-5)
    same = parallel.pmap(objectives.optimal_variance, mesh_of(1), (split, split), parallel.REPLICATED)(images, images)
    assert float(same) == pytest.approx(math.exp(-12))  # a perfect reconstruction
