import math

import jax.numpy as jnp
import numpy as np
import pytest

from genjax.config import OptimConfig, TrainConfig
from genjax.data.config import DataConfig
from genjax.vae import losses
from genjax.vae.config import VaeConfig, VaeRun
from linear_gaussian import LinearGaussian

OPTIM, TRAIN = OptimConfig(learning_rate=1e-3), TrainConfig(num_steps=1)


def terms(model, noise, beta=1.0):
    return losses.elbo_terms(model, {}, model.images(), noise, beta)


def elbo(model):
    """E_q by a cubature rule that is exact for the quadratic integrand."""
    points = [sign * math.sqrt(2) * np.eye(2)[i] for i in range(2) for sign in (1, -1)]
    return np.mean([terms(model, jnp.broadcast_to(point, (5, 2))).elbo for point in points], axis=0)


def test_elbo_terms_is_exact_at_true_posterior(x64):
    model = LinearGaussian()
    np.testing.assert_allclose(elbo(model), model.log_prob(), rtol=1e-10)


@pytest.mark.parametrize("widen", [-0.5, 0.3])
def test_elbo_terms_is_below_by_the_divergence(x64, widen):
    model = LinearGaussian(widen)
    gap = model.log_prob() - elbo(model)
    np.testing.assert_allclose(gap, 2 * (0.5 * (np.exp(2 * widen) - 1) - widen), rtol=1e-9)  # KL(q || posterior)
    assert (gap > 0.05).all()


def test_elbo_terms_weighs_loss_alone_by_beta(x64):
    one, four = (terms(LinearGaussian(), jnp.zeros((5, 2)), beta) for beta in (1.0, 4.0))
    np.testing.assert_array_equal(one.elbo, four.elbo)
    np.testing.assert_allclose(four.loss - one.loss, 3 * one.rate, rtol=1e-12)
    np.testing.assert_allclose(one.loss, -one.elbo, rtol=1e-12)


def test_bits_per_dim_of_uniform_images(x64):
    """A uniform density on [0, 1) gives every grey level 8 bits; a fair coin gives every binary pixel one."""

    def bits(elbo, channels=1, likelihood="gaussian", **data):
        data = DataConfig(source="x", image_size=(8, 8), channels=(channels,), batch_size=1, **data)
        config = VaeRun(workdir="", data=data, optim=OPTIM, train=TRAIN, vae=VaeConfig(likelihood=likelihood))
        return losses.bits_per_dim(config, jnp.asarray(elbo))

    assert bits(0.0, dequantize=True) == 8
    np.testing.assert_allclose(bits(64 * math.log(0.5), likelihood="bernoulli", binarize="fixed"), 1, rtol=1e-12)
    np.testing.assert_allclose(bits(64 * math.log(1 / 256), likelihood="logistic_mixture"), 8, rtol=1e-12)
    assert bits(0.0) is None
    np.testing.assert_allclose(bits(3 * 64 * math.log(0.5), channels=3, dequantize=True), 9, rtol=1e-12)
