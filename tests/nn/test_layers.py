"""The layers against their definitions in NumPy and Flax's own, in float64."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.compiled import matmul_precision
from genjax.nn import layers

pytestmark = pytest.mark.usefixtures("x64")

EXACT = dict(rtol=1e-12, atol=1e-12)
SHAPES = [(1, 4, 4, 1, 2), (3, 5, 7, 2, 3)]
"""Batch, height, width, channels in and out."""


def numbers(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def parameters(size, channels, features):
    return {"kernel": numbers((size, size, channels, features), 1), "bias": numbers(features, 2)}


def correlate(x, kernel):
    """Each window of `x` [b, h, w, c] times the kernel: a "VALID" convolution by definition."""
    (rows, columns), (height, width) = kernel.shape[:2], x.shape[1:3]
    out = np.zeros((len(x), height - rows + 1, width - columns + 1, kernel.shape[3]))
    for i in range(out.shape[1]):
        for j in range(out.shape[2]):
            out[:, i, j] = np.einsum("nabc,abcd->nd", x[:, i : i + rows, j : j + columns], kernel)
    return out


def transpose_convolve(x, kernel):
    """Each pixel adds the kernel, turned by 180 degrees as PyTorch has it, to an output of twice the size; padding 1.

    A 3x3 kernel reaches one row and column less than the output has, which stay (output_padding 1).
    """
    turned, (b, height, width, _), size = kernel[::-1, ::-1], x.shape, len(kernel)
    out = np.zeros((b, 2 * height + 2, 2 * width + 2, kernel.shape[3]))
    for i in range(height):
        for j in range(width):
            out[:, 2 * i : 2 * i + size, 2 * j : 2 * j + size] += np.einsum("nc,abcd->nabd", x[:, i, j], turned)
    return out[:, 1:-1, 1:-1]


@pytest.mark.parametrize("size", [3, 7])
@pytest.mark.parametrize("by_rows", [False, True])
@pytest.mark.parametrize("shape", [(1, 4, 4, 1, 2), (3, 5, 8, 2, 3)], ids=str)
def test_reflect_conv_equals_its_definition(shape, by_rows, size):
    b, h, w, channels, features = shape
    params, x, border = parameters(size, channels, features), numbers((b, h, w, channels)), size // 2
    mirrored = np.pad(x, ((0, 0), (border, border), (border, border), (0, 0)), mode="reflect")
    found = layers.ReflectConv(features, size, by_rows).apply({"params": params}, jnp.array(x))
    np.testing.assert_allclose(found, correlate(mirrored, params["kernel"]) + params["bias"], **EXACT)


@pytest.mark.parametrize(("by_rows", "expected"), [(True, "1x7x2x21"), (False, "7x7x2x3")])
def test_reflect_conv_goes_by_rows_when_asked(by_rows, expected):
    layer, params, x = layers.ReflectConv(3, 7, by_rows), parameters(7, 2, 3), numbers((1, 8, 8, 2))
    text = jax.jit(layer.apply).lower({"params": params}, x).as_text()
    (convolution,) = [line for line in text.splitlines() if "stablehlo.convolution" in line]
    assert f"tensor<{expected}xf64>" in convolution


def test_reflect_conv_keeps_a_flat_image_flat():
    params, x = parameters(7, 2, 3), jnp.full((1, 8, 9, 2), 0.7)
    found = np.asarray(layers.ReflectConv(3, 7).apply({"params": params}, x))
    expected = 0.7 * params["kernel"].sum((0, 1, 2)) + params["bias"]
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), **EXACT)
    zeros = np.asarray(nn.Conv(3, (7, 7)).apply({"params": params}, x))
    np.testing.assert_allclose(zeros[0, 4, 4], expected, **EXACT)
    assert np.abs(zeros - expected).max() > 0.1


def strided_correlate(x, kernel, stride):
    """`correlate` between zeros, one pixel wide, at each `stride`-th place."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return correlate(padded, kernel)[:, ::stride, ::stride]


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (4, 1), (4, 2)])
@pytest.mark.parametrize("shape", [(1, 4, 6, 1, 2), (3, 7, 8, 9, 3)], ids=str)
def test_conv_equals_its_definition_and_flax(shape, size, stride):
    b, h, w, channels, features = shape
    params, x = parameters(size, channels, features), jnp.array(numbers((b, h, w, channels)))
    found = layers.Conv(features, size, stride).apply({"params": params}, x)
    np.testing.assert_allclose(found, strided_correlate(x, params["kernel"], stride) + params["bias"], **EXACT)
    flax = nn.Conv(features, (size, size), stride, padding=1).apply({"params": params}, x)
    np.testing.assert_allclose(found, flax, **EXACT)


@pytest.mark.parametrize("size", [3, 4])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_conv_transpose_equals_its_definition_and_flax(shape, size):
    b, h, w, channels, features = shape
    params, x = parameters(size, channels, features), numbers((b, h, w, channels))

    def flax(padding):
        module = nn.ConvTranspose(features, (size, size), (2, 2), padding)
        return np.asarray(module.apply({"params": params}, jnp.array(x)))

    found = layers.ConvTranspose(features, size).apply({"params": params}, jnp.array(x))
    np.testing.assert_allclose(found, transpose_convolve(x, params["kernel"]) + params["bias"], **EXACT)
    borders = {3: (1, 2), 4: (2, 2)}[size]
    np.testing.assert_allclose(found, flax((borders, borders)), **EXACT)
    if size == 3:  # where "SAME" is (2, 1): the same pixels, shifted by one
        np.testing.assert_allclose(found[:, :-1, :-1], flax("SAME")[:, 1:, 1:], **EXACT)
        assert np.abs(found - flax("SAME")).max() > 0.5
    else:
        np.testing.assert_allclose(found, flax("SAME"), **EXACT)


@pytest.mark.parametrize(
    "layer",
    [layers.Conv(5, 3), layers.ReflectConv(5, 3), layers.ConvTranspose(5, 4)],
    ids=["zeros", "reflect", "transposed"],
)
def test_layers_have_parameters_of_flax(layer):
    x = jax.ShapeDtypeStruct((2, 6, 6, 3), jnp.float32)
    params = jax.eval_shape(layer.init, jax.random.key(0), x)["params"]
    plain = nn.Conv(5, (layer.kernel_size,) * 2)
    expected = jax.eval_shape(plain.init, jax.random.key(0), x)["params"]
    shapes, expected = (jax.tree.map(lambda leaf: leaf.shape, tree) for tree in (params, expected))
    assert shapes == expected


@pytest.mark.parametrize(
    ("precision", "expected"), [("float32", "HIGHEST"), ("tensorfloat32", "HIGH"), ("bfloat16", "DEFAULT")]
)
def test_matmul_precision_reaches_every_product(precision, expected):
    layer = layers.ReflectConv(3, 7, by_rows=True, dtype=layers.compute_dtype(precision))
    params, x = jax.tree.map(jnp.float32, (parameters(7, 2, 3), numbers((1, 8, 8, 2))))

    def grads(params, x):
        with jax.default_matmul_precision(matmul_precision(precision)):
            return jax.grad(lambda params: jnp.sum(layer.apply({"params": params}, x) ** 2))(params)

    for platform in ("cpu", "cuda", "tpu"):
        text = jax.jit(grads).trace(params, x).lower(lowering_platforms=(platform,)).as_text()
        products = [line for line in text.splitlines() if "stablehlo.convolution" in line]
        asked = {word.split("#stablehlo<precision ")[1] for line in products for word in line.split(">")
                 if "#stablehlo<precision " in word}  # fmt: skip
        assert len(products) == 2 and asked == {expected}
        assert all(("bf16>" in line) == (precision == "bfloat16") for line in products)


def normalized(x, groups):
    """Each image's groups of channels, less their mean, over their deviation."""
    wide = x.reshape(*x.shape[:3], groups, -1)
    mean, variance = (f(wide, axis=(1, 2, 4), keepdims=True) for f in (np.mean, np.var))
    return ((wide - mean) / np.sqrt(variance + 1e-5)).reshape(x.shape)


@pytest.mark.parametrize(
    ("kind", "channels", "groups"), [("instance", 6, 6), ("group", 64, 32), ("group", 12, 4), ("layer", 6, 1)]
)
def test_norm_equals_its_definition(kind, channels, groups):
    x = 3 + 2 * numbers((2, 4, 6, channels))
    params = {"scale": numbers(channels, 1), "bias": numbers(channels, 2)}
    expected = normalized(x, groups)
    plain = layers.Norm(kind).apply({}, lambda y, x: y + x, jnp.array(x), jnp.array(x))
    np.testing.assert_allclose(plain, expected + x, **EXACT)
    affine = layers.Norm(kind, affine=True).apply({"params": params}, jnp.tanh, jnp.array(x))
    np.testing.assert_allclose(affine, np.tanh(expected * (1 + params["scale"]) + params["bias"]), **EXACT)


def test_norm_of_all_channels_tells_levels_apart():
    """Of uniform maps instance normalisation leaves nothing."""
    levels = np.array([0.2, 0.7]).reshape(2, 1, 1, 1) * np.array([1.0, 2, -1]) + np.array([0.5, 0, 1])
    x = jnp.array(np.broadcast_to(levels, (2, 4, 6, 3)))
    found = {kind: layers.Norm(kind).apply({}, lambda y: y, x) for kind in ("instance", "layer")}
    np.testing.assert_allclose(found["instance"], 0, atol=1e-9)
    assert np.abs(np.diff(found["layer"], axis=0)).min(axis=(0, 1, 2)).max() > 0.5


def test_norm_none_keeps_the_map():
    x = jnp.array(numbers((2, 4, 6, 3)))
    assert (layers.Norm("none").apply({}, lambda y: y, x) == x).all()


@pytest.mark.parametrize(("kind", "groups"), [("instance", 64), ("group", 32), ("layer", 1)])
def test_norm_equals_torch(kind, groups):
    torch = pytest.importorskip("torch", reason="parity needs the extra parity: pip install -e '.[parity]'")
    x, gain, bias = numbers((2, 4, 6, 64)), numbers(64, 1), numbers(64, 2)
    theirs = torch.nn.GroupNorm(groups, 64).double()
    with torch.no_grad():
        theirs.weight.copy_(torch.tensor(gain))
        theirs.bias.copy_(torch.tensor(bias))
        expected = theirs(torch.tensor(np.moveaxis(x, -1, 1))).numpy()
    params = {"scale": gain - 1, "bias": bias}
    found = layers.Norm(kind, affine=True).apply({"params": params}, lambda y: y, jnp.array(x))
    np.testing.assert_allclose(found, np.moveaxis(expected, 1, -1), **EXACT)
