"""Forecasts of posterior collapse against the loss itself, at a linear VAE that ignores its latents."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.vae import CONFIGS
from genjax.data import sources
from genjax.data.splits import Splits
from genjax.vae import collapse, losses
from genjax.vae.model import FlatVae
from tiny import tiny_run

GAUSSIAN = {"likelihood": "gaussian", "sigma": 0.3}
GREY = {"binarize": "none"}


def splits(images):
    return Splits((images,), (images,), (images,))


def correlated(num=400):
    """Images of 2x2 pixels, uint8: two directions matter, and the third less."""
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(num, 3)) * [1.0, 0.4, 0.1]
    mixed = factors @ rng.normal(size=(3, 4)) * 0.2 + [0.4, 0.5, 0.6, 0.5]
    return np.rint(255 * mixed.clip(0, 1)).astype(np.uint8).reshape(num, 2, 2, 1)


def small_run(likelihood, **changes):
    vae = GAUSSIAN if likelihood == "gaussian" else {}
    return tiny_run("unused", data={"image_size": (2, 2), **GREY}, vae={**vae, **changes})


class Linear:
    """A network of one product, without Linen: {"params": [inputs, outputs]}."""

    def __init__(self, shape, halves):
        self.shape, self.halves = shape, halves

    def apply(self, variables, x):
        params = variables["params"]
        y = x.reshape(len(x), -1) @ params["kernel"] + params["bias"][None]
        return (y, jnp.zeros_like(y)) if self.halves else y.reshape(len(x), *self.shape)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_relative_variances_tell_which_directions_lower_the_loss(x64, likelihood):
    """With beta just below a variance, its direction and those above lower the loss: negative curvatures as many."""
    images, config = correlated(), small_run(likelihood)
    variances = collapse.relative_variances(config, splits(images))
    x = jnp.asarray(images / 255)
    mean = x.mean(axis=0)
    bias = mean if likelihood == "gaussian" else jnp.log(mean / (1 - mean))
    model = FlatVae(Linear((1,), True), Linear((2, 2, 1), False), (2, 2, 1), 1, likelihood, config.vae.sigma)

    def loss(flat, beta):
        encoder = {"kernel": flat[:4, None], "bias": -(mean.reshape(-1) @ flat[:4])[None]}
        decoder = {"kernel": flat[None, 4:], "bias": bias.reshape(-1)}
        params = {"encoder": encoder, "decoder": decoder}
        # Noise of 1 and -1 has the moments of the normal that a second derivative sees.
        noises = jnp.ones((len(x), 1)), -jnp.ones((len(x), 1))
        return sum(jnp.mean(losses.elbo_terms(model, params, x, noise, beta).loss) for noise in noises)

    curvatures = jax.jit(lambda beta: jnp.linalg.eigvalsh(jax.hessian(loss)(jnp.zeros(8), beta)))
    for direction, variance in enumerate(variances[:3]):
        for aside in (0.95, 1.05):
            assert int(np.sum(curvatures(aside * variance) < 0)) == direction + (aside < 1)


@pytest.mark.parametrize("shape", [(40, 2, 2, 1), (40, 8, 8, 3)])
def test_relative_variances_are_those_of_principal_components(shape):
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    config = tiny_run("unused", data={"image_size": shape[1:3], "channels": (shape[3],), **GREY}, vae=GAUSSIAN)
    found = collapse.relative_variances(config, splits(images))
    expected = np.linalg.svd(images.reshape(40, -1) / 255 - images.reshape(40, -1).mean(axis=0) / 255)[1] ** 2
    np.testing.assert_allclose(found[: len(expected)], expected / 40 / 0.3**2, rtol=1e-4, atol=1e-4)


def test_relative_variances_of_binarised_pixels_are_of_draws():
    images = np.full((4000, 2, 2, 1), 128, np.uint8)
    noise = collapse.relative_variances(tiny_run("unused", data={"image_size": (2, 2)}), splits(images))
    np.testing.assert_allclose(noise, 1, atol=0.15)  # four independent coins


def test_foresee_counts_directions_above_beta():
    images, at = splits(correlated()), lambda **vae: small_run("gaussian", **vae)
    variances = collapse.relative_variances(at(), images)
    assert variances[0] > 1.5 * variances[1] > 2 * variances[2]
    between = float(np.sqrt(variances[0] * variances[1]))
    assert collapse.foresee(at(beta=between), images, 4)[:2] == (1, 2)  # two directions hold 90%
    assert collapse.foresee(at(beta=between), images, 1)[:2] == (1, 1)  # one latent
    wider = collapse.foresee(at(sigma=0.6, beta=between / 4), images, 4)
    assert wider.worth == 1 and wider.largest == pytest.approx(variances[0] / 4)  # beta sigma^2 counts


def test_foresee_is_silent_where_it_knows_nothing():
    learned = tiny_run(
        "unused", data={**GREY, "dequantize": True}, vae={"likelihood": "gaussian_learned", "beta": 99.0}
    )
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), np.uint8)
    assert collapse.foresee(learned, splits(images), 4) is None
    assert collapse.foresee(tiny_run("unused", vae={"beta": 99.0, "free_bits": 1.0}), splits(images), 4) is None
    capacity = tiny_run("unused", vae={"beta": 99.0, "objective": "capacity"})
    assert collapse.foresee(capacity, splits(images), 4) is None
    assert collapse.foresee(tiny_run("unused", data=GREY), splits(images[:1].repeat(5, axis=0)), 4) is None
    black = np.zeros((20, 8, 8, 1), np.uint8)
    assert collapse.foresee(tiny_run("unused"), splits(black), 4) is None


@pytest.mark.parametrize(
    ("vae", "said"),
    [
        ({"beta": 20.0}, ["0 of the data's top 4", "beta = 20", "a lower --vae.beta"]),
        ({"likelihood": "gaussian", "sigma": 2.0}, ["sigma^2 = 4 (", "a smaller --vae.sigma", "gaussian_learned"]),
    ],
)
def test_warn_of_collapse_says_numbers_and_remedy(caplog, vae, said):
    config = tiny_run("unused", vae=vae, data=GREY if "sigma" in vae else {})
    collapse.warn_of_collapse(config, sources.load(config.data, 0), 4)
    assert len(caplog.messages) == 1 and all(part in caplog.text for part in said)


@pytest.mark.parametrize("name", ["digits", pytest.param("quickstart", marks=pytest.mark.slow)])
def test_warn_of_collapse_is_silent_about_named_configurations(caplog, name):
    config = CONFIGS[name]()
    images = sources.load(config.data, 0)
    with caplog.at_level(logging.WARNING):
        collapse.warn_of_collapse(config, images, config.vae.latent_dim)
    assert caplog.messages == []
