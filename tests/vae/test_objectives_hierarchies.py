"""Objectives of hierarchies: densities of draws, and gradients of `dreg` against their definition."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax import keys
from genjax.vae import objectives
from genjax.vae.model import from_config
from tiny import tiny_run

HIERARCHIES = {
    "mlp": {"hidden_sizes": (5,), "latent_dim": 3},
    "ladder": {"hidden_sizes": (6,), "groups": (2, 1, 2), "latent_dim": 32},
    "spatial": {"hidden_sizes": (3, 2), "groups": (1, 1), "strides": (4, 2), "latent_dim": 32},
    "wavelet": {"hidden_sizes": (3, 2), "groups": (3,), "latent_dim": 32, "likelihood": "gaussian", "sigma": 0.1},
    "chain": {"hidden_sizes": (6, 5), "groups": (2, 1, 2), "upper_sizes": (4,), "latent_dim": 32},
}


class Case:
    """A model with parameters that tell groups apart, two images, and noise [2, 3, d], in float64."""

    def __init__(self, architecture):
        data = {"binarize": "none" if architecture == "wavelet" else "stochastic"}
        self.config = tiny_run("unused", vae={"architecture": architecture, **HIERARCHIES[architecture]}, data=data)
        self.model = from_config(self.config)
        self.params = jax.tree.map(lambda p: (1.5 * p).astype(float), jax.jit(self.model.init)(keys.root_key(0)))
        rng = np.random.default_rng(0)
        self.images = jnp.asarray(rng.integers(0, 2, (2, 8, 8, 1)).astype(float))
        self.noise = jnp.asarray(rng.normal(size=(2, 3, self.model.latent_dim)))

    def terms(self, objective, params, noise):
        config = dataclasses.replace(self.config, vae=dataclasses.replace(self.config.vae, objective=objective))
        return objectives.training_terms(config, self.model, params, self.images, noise, jnp.int32(0))

    def drawn(self, params, image, noise):
        """e [d] of an image and noise [d]."""
        return self.model.infer(params, image[None], noise[None]).posterior.sample(noise[None])[0]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", HIERARCHIES)
def test_posterior_at_gives_the_normals_that_drew(x64, architecture):
    case = Case(architecture)

    @jax.jit
    def both(params, noise):
        observed = case.model.observe(params, case.images)
        drawn = case.model.draw(params, observed, noise).posterior
        return drawn, case.model.posterior_at(params, observed, drawn.sample(noise))

    for a, b in zip(*both(case.params, case.noise[:, 0]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["ladder", "chain"])
def test_dreg_gradient_is_that_of_its_definition(x64, architecture):
    """By parameters of draws, densities and model that are apart.

    The density of e is that of its noise, found by Newton's method, over the determinant of the Jacobian.
    """
    case = Case(architecture)

    def log_density(params, image, e, start):
        def step(_, guess):
            return guess - jnp.linalg.solve(
                jax.jacobian(case.drawn, 2)(params, image, guess), case.drawn(params, image, guess) - e
            )

        found = jax.lax.fori_loop(0, 4, step, start)
        jacobian = jax.jacobian(case.drawn, 2)(params, image, found)
        return -0.5 * jnp.sum(found**2) - jnp.linalg.slogdet(jacobian)[1]

    def log_joint(params, image, e):
        likelihood = case.model.decode(params, case.model.generate(params, e[None]))
        return likelihood.log_prob(image[None])[0] - 0.5 * jnp.sum(e**2)

    def parts(draws, densities, model):
        """log p and log w of each image and draw [2, 3], with parameters of their own for each use."""

        def one(image, noise):
            e = case.drawn(draws, image, noise)
            log_p = log_joint(model, image, e)
            return log_p, log_p - log_density(densities, image, e, noise)

        return jax.vmap(lambda image, noises: jax.vmap(lambda noise: one(image, noise))(noises))(
            case.images, case.noise
        )

    rng = np.random.default_rng(1)
    still, direction = case.params, jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape)), case.params)

    @jax.jit
    def slopes(params):
        (_, log_weight), (_, by_draws) = jax.jvp(lambda params: parts(params, still, still), (params,), (direction,))
        _, (by_model, _) = jax.jvp(lambda params: parts(still, still, params), (params,), (direction,))
        weight = jax.nn.softmax(log_weight, axis=1)
        loss = jax.grad(lambda params: jnp.sum(case.terms("dreg", params, case.noise).loss))(params)
        return jnp.sum(weight**2 * by_draws + weight * by_model), -optax.tree.vdot(loss, direction)

    expected, found = slopes(still)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["spatial", "chain"])
def test_dreg_gradient_has_the_mean_of_iwae(x64, architecture):
    """Along a random direction, over noise; and both losses are the same number."""
    case = Case(architecture)
    rng = np.random.default_rng(2)
    direction = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape)), case.params)

    def slope(objective, noise):
        def loss(params):
            return jnp.mean(case.terms(objective, params, noise).loss)

        return jax.jvp(loss, (case.params,), (direction,))

    given = jnp.asarray(rng.normal(size=(3000, *case.noise.shape)))
    (values, iwae), (same, dreg) = (
        jax.jit(jax.vmap(lambda noise, name=name: slope(name, noise)))(given) for name in ("iwae", "dreg")
    )
    np.testing.assert_allclose(values, same, rtol=1e-9)
    gap = np.asarray(iwae - dreg)
    assert abs(gap.mean()) < 4 * gap.std() / math.sqrt(len(gap)) and gap.std() > 0.01
