"""Priors fitted to the encodings of a VAE: the gain in nats, what depends on what, refusals."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import keys, parallel
from genjax.data import sources
from genjax.loading import Sampler
from genjax.train import fingerprint
from genjax.vae import aggregated, likelihood, vampprior
from genjax.vae.aggregated import FitConfig
from genjax.vae.mixture import Mixture
from genjax.vae.model import from_config
from genjax.vae.posterior import Posterior
from linear_gaussian import LinearGaussian
from tiny import tiny_run

# A linear VAE of six pixels, whose q(e|x) has a closed form.


@pytest.fixture
def linear(make_run):
    """The VAE as a sampler, and 400 images."""
    run = make_run(data={"image_size": (6, 1), "binarize": "none"}, vae={"likelihood": "gaussian"})
    pixels = np.random.default_rng(5).beta(0.5, 1.0, size=(400, 6)) * [255, 200, 150, 255, 90, 30]
    images = pixels.astype(np.uint8).reshape(-1, 6, 1, 1)
    return Sampler(run, LinearGaussian(sigma=0.3), {}, 0, parallel.make_mesh(jax.devices()[:1])), images


def exact(sampler, images):
    """q(e|x) of the images, [n, 2] each."""
    return jax.tree.map(np.asarray, sampler.model.encode({}, images / np.float32(255)))


def test_fit_of_one_normal_has_the_moments_of_the_aggregated_posterior(linear):
    """Of the mean of q(e|x) over the images: by the law of total variance, their spread and that of the means."""
    sampler, images = linear
    q = exact(sampler, images)
    found = aggregated.fit(sampler, images, "gaussian-mixture", FitConfig(components=1, draws=64))
    expected = np.cov(q.mean.T, bias=True) + np.diag(np.exp(2 * q.log_sigma).mean(axis=0))
    np.testing.assert_allclose(found.mean[0], q.mean.mean(axis=0), atol=0.01)
    np.testing.assert_allclose(found.scale[0] @ found.scale[0].T, expected, rtol=0.03, atol=0.003)


def test_rate_is_the_kl_from_one_normal(linear):
    sampler, images = linear
    q = exact(sampler, images[:50])
    mean, deviation = np.array([0.5, -0.2], np.float32), np.array([0.8, 1.3], np.float32)
    mixture = Mixture(np.zeros(1, np.float32), mean[None], deviation[None])
    for prior, shift, scale in ((None, 0.0, 1.0), (mixture, mean, deviation)):
        expected = np.asarray(Posterior((q.mean - shift) / scale, q.log_sigma - np.log(scale)).kl())
        found = aggregated.rate(sampler, images[:50], prior, num_draws=200)
        np.testing.assert_allclose(found, expected, atol=0.4)
        assert found.mean() == pytest.approx(expected.mean(), abs=0.03)


def test_fit_of_all_images_is_the_aggregated_posterior(linear):
    """Under it the rate is the mutual information, which likelihood.py estimates in another way."""
    sampler, images = linear
    mixture = aggregated.fit(sampler, images, "vampprior-data", FitConfig(pseudo_inputs=len(images)))
    information = likelihood.mutual_information(exact(sampler, images), sampler.draw_encodings(images).e)
    assert aggregated.rate(sampler, images, mixture, num_draws=1).mean() == pytest.approx(information, abs=1e-4)


def test_vampprior_fit_of_one_is_encoded_to_the_mean(linear):
    """The normal with the highest likelihood of some e has their mean, whatever its variance."""
    sampler, images = linear
    e = jnp.asarray(exact(sampler, images[:100]).mean)
    u = vampprior.fit(sampler.model.encode, {}, jnp.full((1, 6, 1, 1), 0.9), e, 200, 0.02, 4000, 0)
    np.testing.assert_allclose(sampler.model.encode({}, u).mean[0], e.mean(axis=0), atol=0.05)
    assert 0 <= u.min() and u.max() <= 1


def test_fit_orders_priors_by_rate(linear):
    """Learned pseudo-inputs fit better than images, and both better than N(0, I), which is far from these encodings."""
    sampler, images = linear
    config = FitConfig(pseudo_inputs=5, num_steps=150)
    fitted = [None, *(aggregated.fit(sampler, images, kind, config) for kind in ("vampprior-data", "vampprior"))]
    rates = [float(aggregated.rate(sampler, images, prior).mean()) for prior in fitted]
    assert rates[0] > rates[1] + 0.05 > rates[2] + 0.1


# What a fit and its draws depend on.

SMALL = FitConfig(components=3, pseudo_inputs=5, num_steps=4, batch_size=16, draws=2)


@pytest.fixture(scope="module")
def digits():
    """Test images of `digits`, 8x8."""
    return sources.load(tiny_run("").data, 0).test[0]


@pytest.fixture
def make_sampler(make_run):
    """Makes a sampler with first parameters, on some of the devices."""

    def make(num_devices=1, **changes):
        run = make_run(**changes)
        model = from_config(run)
        mesh = parallel.make_mesh(jax.devices()[:num_devices])
        return Sampler(run, model, parallel.replicate(mesh, model.init, keys.root_key(0)), 0, mesh)

    return make


@pytest.mark.slow
@pytest.mark.parametrize("kind", aggregated.KINDS)
def test_fit_gives_the_same_bits_again(make_sampler, digits, kind):
    first, again, other = (
        aggregated.fit(make_sampler(num), digits, kind, dataclasses.replace(SMALL, seed=seed))
        for num, seed in ((1, 0), (8, 0), (1, 1))
    )
    assert fingerprint.tree_digest(first) == fingerprint.tree_digest(again) != fingerprint.tree_digest(other)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gaussian-mixture", "vampprior-data"])
def test_prior_of_a_mixture_draws_each_position_alone(make_sampler, digits, kind):
    one, eight = make_sampler(1), make_sampler(8)
    mixture, key = aggregated.fit(one, digits, kind, SMALL), keys.root_key(1)
    whole = one.prior(key, np.arange(70), mixture=mixture)
    np.testing.assert_array_equal(eight.prior(key, np.array([69, 3]), mixture=mixture), whole[[69, 3]])
    assert len(np.unique(whole.reshape(70, -1), axis=0)) == 70
    assert np.abs(whole - one.prior(key, np.arange(70))).max() > 1e-3


def test_prior_of_a_mixture_at_temperature_0_decodes_its_means(make_sampler, digits):
    sampler = make_sampler()
    mixture = aggregated.fit(sampler, digits, "gaussian-mixture", SMALL)
    cold = sampler.prior(keys.root_key(0), np.arange(40), 0.0, mixture)
    middles = sampler.decode(mixture.mean)
    nearest = np.abs(cold[:, None] - middles[None]).max(axis=(2, 3, 4))
    assert nearest.min(axis=1).max() < 1e-5 and len(np.unique(nearest.argmin(axis=1))) == 3


def test_draw_encodings_depends_on_seed_and_position(make_sampler, digits):
    sampler = make_sampler()
    whole = sampler.draw_encodings(digits[:6])
    part = sampler.draw_encodings(digits[4:6], position=np.array([4, 5]))
    np.testing.assert_array_equal(part.e, whole.e[4:6])
    same = sampler.draw_encodings(np.repeat(digits[:1], 3, axis=0), seed=1).e
    assert len(np.unique(same, axis=0)) == 3 and np.abs(same[0] - whole.e[0]).max() > 1e-3


@pytest.mark.parametrize("augmentation", ["flip", "turns"])
def test_draw_encodings_augments_if_asked(make_sampler, digits, augmentation):
    plain, augmenting = make_sampler().draw_encodings(digits), make_sampler(data={augmentation: True})
    np.testing.assert_array_equal(augmenting.draw_encodings(digits).e, plain.e)
    assert np.any(augmenting.draw_encodings(digits, augmented=True).e != plain.e)


@pytest.mark.slow
def test_fit_takes_several_groups_but_for_a_vampprior(make_sampler, digits):
    groups = {"architecture": "ladder", "groups": (2, 3), "latent_dim": 32}
    sampler = make_sampler(vae=groups)
    mixture = aggregated.fit(sampler, digits, "gaussian-mixture", SMALL)
    assert mixture.mean.shape == (3, 5) and sampler.prior(keys.root_key(0), np.arange(2), mixture=mixture).any()
    with pytest.raises(ValueError, match="which it is not with 2 groups of latents: give the prior gaussian-mixture"):
        aggregated.fit(sampler, digits, "vampprior", SMALL)


# Refusals.


@pytest.mark.parametrize(("kind", "message"), [
    ("gaussian-mixture", "--fit.components 3 needs as many training images, and 2 are encoded: give fewer$"),
    ("vampprior", "--fit.pseudo-inputs 5 needs as many training images, and 2 are encoded: give fewer$"),
    ("vampprior-data", "--fit.pseudo-inputs 5 needs as many"),
])  # fmt: skip
def test_fit_refuses_too_few_images(linear, kind, message):
    sampler, images = linear
    with pytest.raises(ValueError, match=message):
        aggregated.fit(sampler, images[:2], kind, SMALL)
    with pytest.raises(ValueError, match="2 are encoded: give fewer, or more --fit.images"):
        aggregated.fit(sampler, images, kind, dataclasses.replace(SMALL, images=2))


def test_fit_names_the_extra_of_scikit_learn(linear, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.mixture", None)
    with pytest.raises(ValueError, match=r"prior gaussian-mixture needs sklearn.mixture .*pip install '.*\[priors\]'"):
        aggregated.fit(*linear, "gaussian-mixture", SMALL)


def test_fit_refuses_encodings_that_are_not_finite(linear, monkeypatch):
    sampler, images = linear
    broken = dataclasses.replace(sampler, model=dataclasses.replace(sampler.model, widen=np.nan))
    with pytest.raises(ValueError, match="encodings of training images are not finite: check the model's parameters"):
        aggregated.fit(broken, images, "gaussian-mixture", SMALL)


@pytest.mark.parametrize(("changes", "message"), [
    ({"components": 0}, "--fit.components must be positive, got 0"),
    ({"learning_rate": np.nan}, "--fit.learning-rate must be finite, got nan"),
    ({"seed": -1}, r"--fit.seed must lie in \[0, 2\*\*31\), got -1"),
])  # fmt: skip
def test_fit_config_refuses_what_cannot_be(changes, message):
    with pytest.raises(ValueError, match=message):
        FitConfig(**changes)


def test_check_settings_refuses_what_has_no_effect():
    aggregated.check_settings(["vampprior", "gaussian-mixture"], FitConfig(components=5, num_steps=9, draws=3))
    message = "--fit.num-steps 9 has no effect here: it is a setting of the prior vampprior$"
    with pytest.raises(ValueError, match=message):
        aggregated.check_settings(["vampprior-data"], FitConfig(num_steps=9))
    with pytest.raises(ValueError, match="--fit.draws 3 has no effect here"):
        aggregated.check_settings([], FitConfig(draws=3))
