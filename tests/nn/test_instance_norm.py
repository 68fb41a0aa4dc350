"""Instance normalisation, in both forms on the CPU of the tests, against its definition in float64."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.nn.kernels import instance_norm as forms
from genjax.nn.kernels.instance_norm import instance_norm

pytestmark = pytest.mark.usefixtures("x64")


def numbers(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def normalized(x):
    """The definition."""
    mean, variance = (fn(x, axis=(1, 2), keepdims=True) for fn in (jnp.mean, jnp.var))
    return (x - mean) / jnp.sqrt(variance + 1e-5)


@pytest.fixture(params=["native", "two passes"])
def norm_form(request, monkeypatch):
    """Makes each form, with its gradient, the one that the CPU runs."""
    if request.param == "two passes":
        monkeypatch.setattr(forms, "normalize_native", forms.normalize_in_two_passes)
        monkeypatch.setattr(forms, "input_grad_native", forms.input_grad_in_two_passes)


@pytest.mark.usefixtures("norm_form")
def test_instance_norm_equals_its_definition_far_from_zero():
    x = numbers((2, 5, 6, 3)) * 0.01 + 1000  # a variance near epsilon
    np.testing.assert_allclose(instance_norm(jnp.array(x)), normalized(x), rtol=1e-8, atol=1e-9)


@pytest.mark.usefixtures("norm_form")
@pytest.mark.parametrize("first", [0, 50])
def test_instance_norm_keeps_digits_of_large_means(first):
    x = numbers((2, 32, 32, 3))
    x[:, 0, 0] = first
    x = jnp.array(x + 1000, jnp.float32)
    exact = normalized(x.astype(jnp.float64))
    np.testing.assert_allclose(instance_norm(x), exact, rtol=1e-3, atol=1e-3)


PLACES = {"corner": np.s_[0, 0], "first row": np.s_[0], "first column": np.s_[:, 0], "eighth rows": np.s_[::8]}


@pytest.mark.usefixtures("norm_form")
@pytest.mark.parametrize("place", PLACES)
def test_instance_norm_is_exact_with_pixels_far_off(place):
    x = numbers((1024, 1024))
    x[PLACES[place]] = 1000
    x = jnp.array(x[None, :, :, None], jnp.float32)
    exact = normalized(x.astype(jnp.float64))
    np.testing.assert_allclose(instance_norm(x), exact, rtol=1e-5, atol=1e-5)
    scale = forms.normalize_native(x)[2]
    np.testing.assert_allclose(scale, 1 / np.sqrt(np.var(np.float64(x)) + 1e-5), rtol=1e-5)


@pytest.mark.usefixtures("norm_form")
def test_instance_norm_of_a_constant_is_zero():
    x = jnp.full((1, 4, 4, 2), 0.1, jnp.float32)
    np.testing.assert_allclose(instance_norm(x), 0, atol=1e-5)


@pytest.mark.usefixtures("norm_form")
def test_instance_norm_has_exact_first_and_second_derivatives():
    x, weights = jnp.array(numbers((2, 5, 6, 3))), jnp.array(numbers((2, 5, 6, 3), 1))

    def grad(norm):
        return jax.grad(lambda x: jnp.sum(jnp.sin(norm(x)) * weights))

    def penalty(norm):
        return jax.grad(lambda x: jnp.sum(grad(norm)(x) ** 3))

    for derivative in (grad, penalty):
        np.testing.assert_allclose(derivative(instance_norm)(x), derivative(normalized)(x), rtol=1e-12, atol=1e-12)


def test_instance_norm_reduces_axes_singly_on_gpu():
    x = jnp.zeros((2, 5, 6, 3))

    def reduced(platform):
        traced = jax.jit(jax.grad(lambda x: jnp.sum(instance_norm(x)[0]))).trace(x)
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        return set(re.findall(r"across dimensions = \[([\d, ]+)\]", text)) & {"1", "2", "1, 2"}

    assert reduced("cuda") == {"1", "2"}
    assert reduced("cpu") == reduced("tpu") == {"1, 2"}


@pytest.mark.usefixtures("norm_form")
def test_instance_norm_of_bfloat16_has_float32_statistics():
    x = jnp.array(numbers((2, 64, 64, 3)) + 8, jnp.bfloat16)
    found, (grad,) = instance_norm(x), jax.vjp(instance_norm, x)[1](x)
    exact = x.astype(jnp.float64)
    assert found.dtype == grad.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(float), normalized(exact), atol=2**-7, rtol=2**-8)
    expected = jax.vjp(normalized, exact)[1](exact)[0]
    np.testing.assert_allclose(grad.astype(float), expected, atol=1e-6, rtol=2**-8)
