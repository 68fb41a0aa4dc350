"""The layers with two lowerings, against their definitions in NumPy, Flax's own, and each other; in float64."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import layers

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


def outputs_and_gradients(fn, *inputs):
    """What `fn` returns for arrays, and the gradients with respect to them of a sum with fixed weights."""

    @jax.jit
    def both(*inputs):
        outputs, pull = jax.vjp(fn, *inputs)
        return outputs, pull(jnp.cos(jnp.arange(outputs.size, dtype=outputs.dtype)).reshape(outputs.shape))

    return jax.tree.leaves(both(*map(jnp.array, inputs)))


def assert_same(found, expected):
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(f, e, **EXACT)


def lowered(fn, platform, *inputs):
    return jax.jit(fn).trace(*inputs).lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize("size", [3, 7])
@pytest.mark.parametrize("by_rows", [False, True])
@pytest.mark.parametrize("shape", [(1, 4, 4, 1, 2), (3, 5, 8, 2, 3)], ids=str)
def test_reflect_conv_is_its_definition(shape, by_rows, size):
    b, h, w, channels, features = shape
    params, x, border = parameters(size, channels, features), numbers((b, h, w, channels)), size // 2
    mirrored = np.pad(x, ((0, 0), (border, border), (border, border), (0, 0)), mode="reflect")
    found = layers.ReflectConv(features, size, by_rows).apply({"params": params}, jnp.array(x))
    np.testing.assert_allclose(found, correlate(mirrored, params["kernel"]) + params["bias"], **EXACT)


def test_a_flat_image_stays_flat_between_mirrors_but_not_between_zeros():
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
def test_conv_is_its_definition_and_that_of_flax(shape, size, stride):
    b, h, w, channels, features = shape
    params, x = parameters(size, channels, features), jnp.array(numbers((b, h, w, channels)))
    found = layers.Conv(features, size, stride).apply({"params": params}, x)
    np.testing.assert_allclose(found, strided_correlate(x, params["kernel"], stride) + params["bias"], **EXACT)
    flax = nn.Conv(features, (size, size), stride, padding=1).apply({"params": params}, x)
    np.testing.assert_allclose(found, flax, **EXACT)


@pytest.mark.parametrize("padding", [((0, 0), (0, 0)), ((1, 1), (1, 1)), ((0, 1), (1, 0))], ids=str)
@pytest.mark.parametrize(("size", "stride"), [(1, 1), (3, 1), (3, 2), (4, 2), (7, 1)])
@pytest.mark.parametrize("channels", [2, 9])
def test_convolution_on_cpu_is_the_native_one_with_its_gradients(channels, size, stride, padding):
    x, kernel = numbers((2, 9, 8, channels)), numbers((size, size, channels, 3), 1)
    cpu, native = (
        outputs_and_gradients(functools.partial(fn, stride, padding), x, kernel)
        for fn in (layers._conv_on_cpu, layers._conv_native)
    )
    assert_same(cpu, native)


def test_convolution_on_cpu_has_the_second_derivatives_that_gradient_penalties_take():
    x, kernel = numbers((2, 6, 5, 9)), numbers((3, 3, 9, 3), 1)

    def penalty(fn):
        def of(x, kernel):
            slope = jax.grad(lambda x: jnp.sum(jnp.sin(fn(2, ((1, 1), (1, 1)), x, kernel))))(x)
            return jnp.sum(slope**2, keepdims=True)

        return of

    cpu, native = (outputs_and_gradients(penalty(fn), x, kernel) for fn in (layers._conv_on_cpu, layers._conv_native))
    assert_same(cpu, native)


@pytest.mark.parametrize("size", [3, 7])
@pytest.mark.parametrize("shape", [(1, 9, 7, 1, 3), (3, 8, 11, 2, 1)], ids=str)
def test_convolution_by_rows_is_the_native_one_with_its_gradients(shape, size):
    b, h, w, channels, features = shape
    given = numbers((b, h, w, channels)), parameters(size, channels, features)["kernel"]
    rows, native = (outputs_and_gradients(fn, *given) for fn in (layers._conv_by_rows, layers.conv))
    assert rows[0].shape == (b, h - size + 1, w - size + 1, features)
    assert_same(rows, native)


@pytest.mark.parametrize("size", [3, 4])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_transposed_convolution_by_phases_is_the_native_one_with_its_gradients(shape, size):
    b, h, w, channels, features = shape
    given = numbers((b, h, w, channels)), parameters(size, channels, features)["kernel"]
    functions = layers._conv_transpose_by_phases, layers._conv_transpose
    phases, native = (outputs_and_gradients(fn, *given) for fn in functions)
    assert phases[0].shape == (b, 2 * h, 2 * w, features)
    assert_same(phases, native)


@pytest.mark.parametrize("size", [3, 4])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_conv_transpose_is_its_definition_and_flax_with_the_right_borders(shape, size):
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
def test_parameters_are_those_of_flax(layer):
    x = jax.ShapeDtypeStruct((2, 6, 6, 3), jnp.float32)
    params = jax.eval_shape(layer.init, jax.random.key(0), x)["params"]
    plain = nn.Conv(5, (layer.kernel_size,) * 2)
    expected = jax.eval_shape(plain.init, jax.random.key(0), x)["params"]
    shapes, expected = (jax.tree.map(lambda leaf: leaf.shape, tree) for tree in (params, expected))
    assert shapes == expected


@pytest.mark.parametrize("size", [3, 4])
def test_transposed_convolution_is_by_phases_on_cpu_and_native_elsewhere(size):
    params, x = parameters(size, 2, 3), numbers((1, 5, 6, 2))

    def total(params, x):
        return jnp.sum(layers.ConvTranspose(3, size).apply({"params": params}, x) ** 2)

    # Zeros between pixels are what a CPU multiplies slowly, in the layer and in the gradient of its kernel.
    for fn in (total, jax.grad(total, (0, 1))):
        compiled = jax.jit(fn).lower(params, x).compile().as_text()
        assert compiled.count("lhs_dilate") == compiled.count("rhs_dilate") == 0
        cpu = lowered(fn, "cpu", params, x)
        assert "stablehlo.convolution" in cpu
        assert "lhs_dilate = [2, 2]" not in cpu and "rhs_dilate = [2, 2]" not in cpu
    for platform in ("cuda", "tpu"):
        native = lowered(total, platform, params, x)
        assert native.count("stablehlo.convolution") == 1 and "lhs_dilate = [2, 2]" in native


@pytest.mark.parametrize("stride", [1, 2])
def test_the_gradient_of_a_kernel_is_along_the_height_alone_on_cpu_and_native_elsewhere(stride):
    params, x = parameters(3, 8, 5), numbers((2, 12, 10, 8))

    def total(params, x):
        return jnp.sum(layers.Conv(5, 3, stride).apply({"params": params}, x) ** 2)

    def convolved(platform):
        lines = lowered(jax.grad(total), platform, params, x).splitlines()
        operands = [line.split(" : (")[1] for line in lines if "stablehlo.convolution" in line]
        return [operand.split(">")[0].count("x") for operand in operands]  # dimensions of what is convolved

    assert convolved("cpu") == [4, 3]
    assert convolved("cuda") == convolved("tpu") == [4, 4]


def test_convolution_is_by_rows_on_cpu_and_native_elsewhere():
    params, x = parameters(7, 2, 3), numbers((1, 8, 8, 2))

    def apply(by_rows):
        return lambda params, x: layers.ReflectConv(3, 7, by_rows).apply({"params": params}, x)

    rows, square = "tensor<1x7x2x21xf64>", "tensor<7x7x2x3xf64>"
    convolution = [line for line in lowered(apply(True), "cpu", params, x).splitlines() if "convolution" in line]
    assert len(convolution) == 1 and rows in convolution[0]
    for by_rows, platform in ((True, "cuda"), (True, "tpu"), (False, "cpu")):
        text = lowered(apply(by_rows), platform, params, x)
        convolution = [line for line in text.splitlines() if "convolution" in line]
        assert len(convolution) == 1 and square in convolution[0]
