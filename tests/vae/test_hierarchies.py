"""VAEs with several groups of latents: what holds for any networks, and the sizes of published ones."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from genjax import keys, parallel
from genjax.vae import likelihood
from genjax.vae.inference import InferenceConfig
from genjax.vae.model import from_config
from genjax.vae.operators import Downsample, Mask
from genjax.vae.posterior import Groups, Latents, Posterior
from genjax.vae.sampler import Sampler
from genjax.vae.sandwich import AnnealingConfig
from tiny import tiny_run

CHANGES = {
    "ladder": {"hidden_sizes": (8,), "groups": (2, 1, 3)},
    "spatial": {"hidden_sizes": (4, 3), "groups": (1, 2, 1), "strides": (4, 4, 2)},
    "wavelet": {"hidden_sizes": (4, 3), "groups": (1, 2), "likelihood": "gaussian", "sigma": 0.05},
    "chain": {"hidden_sizes": (8, 7), "groups": (2, 1, 3), "upper_sizes": (6, 5)},
}
BOTH = pytest.mark.parametrize("architecture", CHANGES)
SIZES = {"ladder": [2, 1, 3], "spatial": [4, 8, 16], "wavelet": [4, 4, 8, 16, 32], "chain": [2, 1, 3]}
"""Latents of each group of 8x8 images."""


def tiny(architecture, **changes):
    vae = {"architecture": architecture, "latent_dim": 32, **CHANGES[architecture]}
    data = {"binarize": "none"} if architecture == "wavelet" else {}
    return tiny_run("unused", vae=vae, data=data, **changes)


class Drawn(NamedTuple):
    """Draws of the latents of one image, as NumPy arrays."""

    noise: np.ndarray
    latents: Latents
    e: np.ndarray
    again: Groups  # what generate makes of e
    jacobian: np.ndarray  # of e by noise at the first draw
    encoded: Posterior
    still: Posterior  # that of a draw without noise


@functools.cache
def drawn(architecture, num=20_000):
    """Draws in float64, with parameters far enough from the first ones that groups matter to each other."""
    model = from_config(tiny(architecture))

    def run(key, image, noise):
        params = jax.tree.map(lambda p: (1.5 * p).astype(float), jax.jit(model.init)(key))
        observed = jax.tree.map(lambda leaf: jnp.repeat(leaf, num, axis=0), model.observe(params, image))
        latents = model.draw(params, observed, noise)
        e = latents.posterior.sample(noise)

        def of(noise):
            return model.infer(params, image, noise[None]).posterior.sample(noise[None])[0]

        still = model.infer(params, image, jnp.zeros((1, model.latent_dim))).posterior
        jacobian, again = jax.jacobian(of)(noise[0]), model.generate(params, e)
        return Drawn(noise, latents, e, again, jacobian, model.encode(params, image), still)

    rng = np.random.default_rng(0)
    image, noise = rng.integers(0, 2, (1, 8, 8, 1)).astype(float), rng.normal(size=(num, model.latent_dim))
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, jax.jit(run)(keys.root_key(0), image, noise))


@pytest.mark.slow
@BOTH
def test_generate_rebuilds_latents_that_draw_drew(architecture):
    found = drawn(architecture)
    assert [group.shape[1] for group in found.again] == SIZES[architecture]
    for group, again in zip(found.latents.groups, found.again, strict=True):
        np.testing.assert_allclose(again, group, rtol=1e-8, atol=1e-8)


@pytest.mark.slow
@BOTH
def test_posterior_is_density_of_drawn_noise(architecture):
    """By change of variables from the noise, whose Jacobian is taken by automatic differentiation."""
    found = drawn(architecture)
    # A group's normal depends on other groups: the Jacobian is not diagonal.
    assert np.abs(found.jacobian - np.diag(np.diag(found.jacobian))).max() > 0.01
    expected = -0.5 * np.sum(found.noise[0] ** 2) - np.linalg.slogdet(found.jacobian)[1]
    with jax.enable_x64(True):
        np.testing.assert_allclose(found.latents.posterior.log_prob(found.e)[0], expected, rtol=1e-9)


@BOTH
def test_kl_is_mean_log_ratio_of_draws(architecture):
    found = drawn(architecture)
    normal = scipy.stats.norm
    scale = np.exp(found.latents.posterior.log_sigma)
    ratio = normal(found.latents.posterior.mean, scale).logpdf(found.e) - normal.logpdf(found.e)
    for group in np.split(np.arange(len(ratio[0])), np.cumsum(SIZES[architecture])[:-1]):
        kl, sampled = (leaf[:, group].sum(axis=1) for leaf in (found.latents.kl_per_dimension, ratio))
        assert abs(np.mean(kl - sampled)) <= 4 * np.std(kl - sampled) / math.sqrt(len(kl)) + 1e-9 and kl.mean() > 0.01
    # The noise of its own does not enter the closed form: the first group of a ladder has one KL, whatever is drawn.
    assert np.ptp(found.latents.kl_per_dimension[:, 0]) < 1e-9 or architecture == "chain"


@BOTH
def test_encode_is_draw_without_noise(architecture):
    found = drawn(architecture)
    for a, b in zip(found.encoded, found.still, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.slow
@BOTH
def test_importance_weighted_draws_a_group_given_those_before(architecture, num=3000):
    """KL and means of single draws against other draws of the posterior, and weights against the ELBO, their mean."""
    found, model = drawn(architecture), from_config(tiny(architecture))

    def run(key, image):
        params = jax.tree.map(lambda p: (1.5 * p).astype(float), jax.jit(model.init)(key))
        target = likelihood.target_of(model, params, jnp.repeat(image, num, axis=0))
        return likelihood.importance_weighted(target, keys.per_example(key, jnp.arange(num)), 1, 1)

    image = np.random.default_rng(0).integers(0, 2, (1, 8, 8, 1)).astype(float)
    with jax.enable_x64(True):
        estimate = jax.tree.map(np.asarray, jax.jit(run)(keys.root_key(0), image))
    z = np.concatenate(found.latents.groups, axis=1)
    for one, other in ((estimate.kl, found.latents.kl_per_dimension), (estimate.mean, z)):
        error = other.std(axis=0) * math.sqrt(1 / num + 1 / len(other))
        assert (np.abs(one.mean(axis=0) - other.mean(axis=0)) <= 4.5 * error + 1e-9).all()
    gap = estimate.log_prob + estimate.distortion + estimate.kl.sum(axis=1)
    assert abs(gap.mean()) <= 4 * gap.std() / math.sqrt(num) and gap.std() > 0.1
    assert np.isnan(estimate.mean_variance).all()


@pytest.mark.slow
@BOTH
def test_hierarchy_trains_every_parameter_in_float32(architecture):
    model = from_config(tiny(architecture, precision="bfloat16"))  # which is for computing alone
    images = jnp.asarray(np.random.default_rng(0).uniform(size=(4, 8, 8, 1)), jnp.float32)

    def loss(params):
        latents = model.infer(
            params, images, jnp.asarray(np.random.default_rng(1).normal(size=(4, model.latent_dim)), jnp.float32)
        )
        return jnp.sum(latents.kl - model.decode(params, latents.groups).log_prob(images))

    params = jax.jit(model.init)(keys.root_key(0))
    value, grads = jax.jit(jax.value_and_grad(loss))(params)
    assert value.dtype == jnp.float32
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        assert np.abs(grad).max() > 0 and grad.dtype == jnp.float32, path


@pytest.mark.parametrize("shape", [(8, 8, 1), (33, 20, 3), (64, 64, 3)], ids=str)
@pytest.mark.parametrize("strides", [(8, 4, 2), (8, 8), (4, 2, 2)], ids=str)
def test_spatial_keeps_any_image_shape(shape, strides):
    data = {"image_size": shape[:2], "channels": shape[2:]}
    vae = {"architecture": "spatial", "hidden_sizes": (3, 4, 5), "groups": (2,) * len(strides), "strides": strides}
    model = from_config(tiny_run("unused", data=data, vae={"latent_dim": 32, **vae}))
    assert model.latent_dim == sum(2 * -(-shape[0] // stride) * -(-shape[1] // stride) for stride in strides)
    params = jax.eval_shape(model.init, keys.root_key(0))
    images, noise = (jax.ShapeDtypeStruct((3, *size), jnp.float32) for size in (shape, (model.latent_dim,)))
    latents = jax.eval_shape(model.infer, params, images, noise)
    assert jax.eval_shape(model.decode, params, latents.groups).logits.shape == (3, *shape)


def num_parameters(**vae):
    run = tiny_run("unused", data={"image_size": (28, 28)}, vae=vae)
    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(from_config(run).init, keys.root_key(0))))


def test_networks_of_burda_2016_have_published_sizes():
    sizes = {"hidden_sizes": (200, 200), "activation": "tanh"}
    assert num_parameters(**sizes, latent_dim=50) == 425_284
    pixels = (784 + 1) * 200 + 201 * 200 + 2 * 201 * 100, (100 + 1) * 200 + 201 * 200 + 201 * 784
    upper = 101 * 100 + 101 * 100 + 2 * 101 * 50, 51 * 100 + 101 * 100 + 2 * 101 * 100
    two = num_parameters(**sizes, architecture="chain", groups=(50, 100), latent_dim=32)
    assert two == sum(pixels) + sum(upper) == 521_084


def make_sampler(architecture):
    run = tiny(architecture)
    model = from_config(run)
    params = jax.jit(model.init)(keys.root_key(0))
    return Sampler(run, model, params, 0, parallel.make_mesh(jax.devices()[:1]))


@pytest.mark.slow
@BOTH
def test_sampler_serves_any_groups(architecture):
    """That it serves them; what it draws is right by the tests of each method."""
    sampler, images = make_sampler(architecture), np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), np.uint8)
    key, few = keys.root_key(0), InferenceConfig(num_particles=4, num_warmup=2, num_ascent_steps=5, num_proposals=10)
    num = len(SIZES[architecture])
    cold = sampler.prior(key, np.arange(3), (1.0, 0.0) + (0.5,) * (num - 2))
    assert np.abs(sampler.prior(key, np.arange(3), (1.0, 1.0) + (0.5,) * (num - 2)) - cold).max() > 1e-4
    np.testing.assert_array_equal(sampler.prior(key, np.arange(3), (0.5,) * num), sampler.prior(key, np.arange(3), 0.5))
    with pytest.raises(ValueError, match=f"{num} groups of latents need as many temperatures, got 2"):
        sampler.prior(key, np.arange(3), (1.0, 0.5))
    assert sampler.interpolate(images[0], images[1], 4).shape == (4, 8, 8, 1)
    assert sampler.traverse(images[0], 5, np.linspace(-3, 3, 4)).shape == (4, 8, 8, 1)
    assert np.isfinite(sampler.estimate_likelihood(images, 20).log_prob).all()
    left = Mask(np.arange(64).reshape(8, 8) % 8 < 4)
    restored = sampler.restore(left, images, key, "metropolis", 2, few)
    assert restored.images.shape == (3, 2, 8, 8, 1)
    if architecture == "ladder":  # the methods that need a gradient by e alone, which one architecture shows
        restored = sampler.restore(Downsample(2), images[:, ::2, ::2], key, "hmc", 2, few)
        assert restored.images.shape == (3, 2, 8, 8, 1)
        assert np.isfinite(sampler.bound_likelihood(images, AnnealingConfig(num_chains=2, num_steps=3))).all()
