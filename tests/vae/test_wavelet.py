"""Wavelets as latents: an orthogonal basis, and the exact posterior of the last group."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from genjax import keys
from genjax.vae import wavelet
from genjax.vae.inference import InferenceConfig
from genjax.vae.model import from_config, log_normal
from genjax.vae.operators import Downsample, Mask
from genjax.vae.restoration import Settings, check_method, draw_rows
from tiny import tiny_run

VAE = {
    "architecture": "wavelet", "latent_dim": 32, "hidden_sizes": (4, 3), "groups": (1, 5, 3),
    "likelihood": "gaussian", "sigma": 0.05,
}  # fmt: skip
DATA = {"channels": (3,), "image_size": (12, 8), "binarize": "none", "source": "satellite"}


@pytest.mark.slow
@pytest.mark.parametrize("shape, num_levels", [((8, 8, 1), 3), ((12, 8, 3), 2), ((4, 6, 4), 1)], ids=str)
def test_decoder_inverts_encoder(x64, shape, num_levels):
    groups = (1, 3 * shape[-1] - 1)
    images = np.random.default_rng(0).uniform(size=(2, *shape))
    observed = wavelet.Encoder(num_levels, groups).apply({}, jnp.asarray(images))
    maps = wavelet.map_shapes(shape, num_levels, groups)
    assert [each.shape[1:] for each in observed] == list(maps)
    z = jnp.concatenate([each.reshape(2, -1) for each in observed], axis=1)
    np.testing.assert_allclose(wavelet.Decoder(maps, shape[-1], num_levels).apply({}, z), images, atol=1e-12)


def test_analyse_tells_brightness_of_colour_and_rows_of_columns(x64):
    """A grey ramp from left to right is brightness alone, and has no vertical or diagonal details."""
    ramp = jnp.broadcast_to(jnp.arange(8.0).reshape(1, 1, 8, 1) / 8, (1, 8, 8, 3))
    mean, coarse, fine = wavelet.analyse(ramp, 2)
    np.testing.assert_allclose(mean[..., 1:], 0, atol=1e-12)
    for details, step in ((coarse, -2 / 16), (fine, -1 / 16)):
        np.testing.assert_allclose(details[..., 1:], 0, atol=1e-12)
        np.testing.assert_allclose(details[..., 0], step * np.sqrt(3) / wavelet.UNIT, rtol=1e-12)


def test_differences_are_zero_across_the_edge(x64):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 3, 4, 2)))
    found = wavelet.differences(x).reshape(1, 3, 4, 8, 2)
    np.testing.assert_array_equal(found[0, 0, :, 1], np.zeros((4, 2)))  # above the first row
    np.testing.assert_array_equal(found[0, 1:, :, 1], x[0, :-1] - x[0, 1:])
    np.testing.assert_array_equal(found[0, :, 1:, 3], x[0, :, :-1] - x[0, :, 1:])


@pytest.mark.slow
def test_posterior_of_the_last_group_is_exact():
    """p(x, e) / q(e|x) does not depend on the last group's draw, as nothing comes after it."""
    model = from_config(tiny_run("unused", data=DATA, vae=VAE))
    last = wavelet.map_shapes((12, 8, 3), 2, VAE["groups"])[-1]
    rng = np.random.default_rng(0)
    image, noise = rng.uniform(0.4, 0.6, (1, 12, 8, 3)), np.tile(rng.normal(size=(1, 288)), (5, 1))
    noise[:, -np.prod(last) :] = rng.normal(size=(5, np.prod(last)))

    def ratio(key, images, noise):
        params = jax.tree.map(lambda p: (1.5 * p).astype(float), jax.jit(model.init)(key))
        latents = model.infer(params, images, noise)
        e = latents.posterior.sample(noise)
        joint = model.decode(params, latents.groups).log_prob(images) + log_normal(e)
        return joint - latents.posterior.log_prob(e)

    with jax.enable_x64(True):
        found = np.asarray(jax.jit(ratio)(keys.root_key(0), np.repeat(image, 5, axis=0), noise))
        others = np.asarray(jax.jit(ratio)(keys.root_key(0), image, noise[:1] + 0.1))
    assert np.ptp(found) < 1e-8 < abs(others[0] - found[0])


@pytest.mark.slow
def test_ancestral_draws_agree_and_leave_fine_noise_free():
    """Given y, p(y, e) depends on the fine part of e by its prior alone, which the draws come from."""
    model = from_config(tiny_run("unused", data=DATA, vae=VAE | {"sigma": 1e-3}))
    operator, settings = Downsample(2), Settings("ancestral", 20, InferenceConfig())
    params = jax.tree.map(lambda p: 1.5 * p, jax.jit(model.init)(keys.root_key(0)))
    truth = np.random.default_rng(0).normal(size=(1, model.latent_dim))
    decode = jax.jit(lambda params, e: model.decode(params, model.generate(params, e)).mean())
    y = operator.apply(np.asarray(decode(params, jnp.asarray(truth))))

    def draw(y):
        cold = Settings("ancestral", 2, InferenceConfig(temperature=0.0))
        _, mode = draw_rows(model, cold, params, keys.root_key(1), jnp.arange(1), y, operator)
        target, draws = draw_rows(model, settings, params, keys.root_key(1), jnp.arange(1), y, operator)
        one_y = draws.e.at[:, :, : y.size].set(draws.e[:, :1, : y.size])
        return draws.e[0, :, y.size :], target.decode(draws.e).mean()[0], target.log_joint(one_y)[0], mode.e[0]

    fine, images, joint, mode = map(np.asarray, jax.jit(draw)(y.astype(np.float32)))
    np.testing.assert_allclose(operator.apply(images), np.repeat(y, 20, axis=0), atol=6 * 1e-3 / 2)
    assert stats.kstest(fine.reshape(-1), "norm").pvalue > 0.01
    assert (mode[:, y.size :] == 0).all() and (mode[0] == mode[1]).all() and mode.any()
    free = joint - np.asarray(log_normal(fine))
    assert np.ptp(free) < 1e-5 * np.abs(free).max()


def test_check_method_refuses_ancestral_elsewhere():
    wavelets = tiny_run("unused", data=DATA, vae=VAE).vae
    check_method("ancestral", wavelets, Downsample(4))
    check_method("hmc", tiny_run("unused").vae, Downsample(8))
    for config, operator in (
        (wavelets, Downsample(8)), (wavelets, Downsample(2, "bicubic")), (tiny_run("unused").vae, Downsample(2)),
        (wavelets, Mask(np.zeros((12, 8), bool))),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="method ancestral enlarges means of blocks"):
            check_method("ancestral", config, operator)
