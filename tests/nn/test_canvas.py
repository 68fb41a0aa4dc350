"""Layers on a canvas against the same layers on the map alone, in float64."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import keys
from genjax.nn import canvas, layers


class AffineNorm(nn.Module):
    """A layer of one argument."""

    @nn.compact
    def __call__(self, x):
        return layers.Norm("group", affine=True)(jax.nn.relu, x)


SIZES = [(4, 4), (8, 24), (12, 4), (20, 32), (32, 8)]
LAYERS = {
    "conv": layers.Conv(2, 3),
    "stride 2": layers.Conv(2, 3, 2),
    "4x4": layers.Conv(2, 4, 2),
    "reflected": layers.ReflectConv(2, 3),
    "7x7": layers.ReflectConv(2, 7),
    "7x7 by rows": layers.ReflectConv(2, 7, by_rows=True),
    "transposed 3x3": layers.ConvTranspose(2, 3),
    "transposed 4x4": layers.ConvTranspose(2, 4),
    "norm, affine": AffineNorm(),
}
FUNCTIONS = {
    "norm": lambda x: layers.Norm().apply({}, lambda x, y: x + y, x, x),
    "norm, in place": lambda x: layers.Norm().apply({}, jax.nn.relu, x),
    "norm of all channels": lambda x: layers.Norm("layer").apply({}, jax.nn.relu, x),
    "no norm": lambda x: layers.Norm("none").apply({}, jax.nn.relu, x),
    "pointwise": lambda x: layers.pointwise(lambda x: x[..., :1] + 1, x),
    "pointwise, in place": lambda x: layers.pointwise(lambda x, y: x * y + 1, x, x),
}


def filled(size, strip=8, rows=32, columns=32):
    """A map, and the same map as a canvas."""
    x = np.random.default_rng(0).normal(3, 1, (2, *size, 3))
    on_canvas = np.zeros((2, rows, columns, 3))
    on_canvas[:, : size[0], : size[1]] = x
    return x, on_canvas, strip


def check(fn, strip):
    on_canvas = jax.jit(
        lambda x, size: canvas.take(out, out.shape[1]) if (out := fn(canvas.place(x, size, strip))) else 0
    )
    for size in SIZES:
        x, values, _ = filled(size)
        expected = jax.jit(fn)(x)
        height, width = expected.shape[1:3]
        found = np.array(on_canvas(values, np.array(size, np.int32)))
        np.testing.assert_allclose(found[:, :height, :width], expected, atol=1e-12)
        found[:, :height, :width] = 0
        assert not found.any()


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", LAYERS)
def test_layers_see_the_map_alone(name):
    params = LAYERS[name].init(keys.root_key(0), jnp.ones((1, 8, 8, 3)))
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, float) + 0.1, params)
    check(lambda x: LAYERS[name].apply(params, x), strip=8)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("strip", [8, 32])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_see_the_map_alone(name, strip):
    check(FUNCTIONS[name], strip)


def test_norm_keeps_digits_far_from_zero():
    """Levels of 1e4 with a deviation of 1, in strips whose means differ."""
    x, values, strip = filled((20, 32))
    x = (x + 1e4).astype(np.float32)
    values[:, :20] = x
    out = jax.jit(lambda v, s: layers.Norm().apply({}, lambda x: x, canvas.place(v, s, strip)).values)
    found = out(values.astype(np.float32), np.array((20, 32), np.int32))[:, 3:23, 3:35]
    wide = x.astype(float)
    expected = (wide - wide.mean((1, 2), keepdims=True)) / wide.std((1, 2), keepdims=True)
    np.testing.assert_allclose(found, expected, atol=2e-3)  # the distance of two floats there is 1e-3
