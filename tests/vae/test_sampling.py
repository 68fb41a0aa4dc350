import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import keys
from genjax.vae import sampling
from genjax.vae.model import draw_noise, from_config


@pytest.fixture
def networks(make_run):
    """A model, its first parameters, and two images."""
    model = from_config(make_run(data={"binarize": "none"}))
    params = jax.jit(model.init)(keys.root_key(0))
    return model, params, np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1), np.uint8)


def test_prior_scales_noise_by_temperature(networks):
    model, params, _ = networks
    noise = draw_noise(model, keys.root_key(1), jnp.arange(5))
    assert np.std(noise) > 0.5
    for temperature in (0.0, 0.5, 1.0):
        drawn = sampling.prior(model, params, keys.root_key(1), temperature, jnp.arange(5))
        np.testing.assert_allclose(drawn, model.decode(params, (temperature * noise,)).mean(), rtol=1e-5)


def test_interpolate_runs_between_posterior_means(networks):
    model, params, images = networks
    starts, ends = (jnp.repeat(jnp.asarray(image)[None], 3, 0) for image in images)
    path = sampling.interpolate(model, params, starts, ends, jnp.array([0.0, 0.5, 1.0]))
    means = model.encode(params, jnp.asarray(images) / 255).mean
    z = jnp.stack([means[0], (means[0] + means[1]) / 2, means[1]])
    np.testing.assert_allclose(path, model.decode(params, (z,)).mean(), rtol=1e-5)


def test_traverse_sets_one_dimension(networks):
    model, params, images = networks
    mean = model.encode(params, jnp.asarray(images[:1]) / 255).mean[0]
    twice = jnp.repeat(jnp.asarray(images[:1]), 2, 0)
    rows = sampling.traverse(model, params, twice, jnp.array([2, 3]), jnp.array([-3.0, mean[3]]))
    z = jnp.stack([mean.at[2].set(-3.0), mean])
    np.testing.assert_allclose(rows, model.decode(params, (z,)).mean(), rtol=1e-5)


def test_reconstruct_draws_latents(networks, make_run):
    model, params, images = networks
    same = np.repeat(images[:1], 2, axis=0)
    data = make_run(data={"binarize": "none"}).data
    found = sampling.reconstruct(model, data, params, keys.root_key(1), jnp.arange(2), jnp.asarray(same))
    posterior = model.encode(params, jnp.asarray(same) / 255)
    assert np.abs(found[0] - found[1]).max() > 1e-3
    middle = model.decode(params, (posterior.mean,)).mean()
    assert np.abs(found - middle).max() > 1e-3
