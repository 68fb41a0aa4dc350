"""Each form of a convolution against XLA's own, with its gradients, in float64; and where each form is used."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.nn.kernels import convolutions

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]

EXACT = dict(rtol=1e-12, atol=1e-12)
SHAPES = [(1, 4, 4, 1, 2), (3, 5, 7, 2, 3)]
"""Batch, height, width, channels in and out."""


def numbers(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def kernel_of(size, channels, features):
    return numbers((size, size, channels, features), 1)


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


def convolutions_in(text):
    return [line for line in text.splitlines() if "stablehlo.convolution" in line]


PADDINGS = [((0, 0), (0, 0)), ((1, 1), (1, 1)), ((0, 1), (1, 0))]
CHANNELS = [(2, PADDINGS[0]), (2, PADDINGS[1]), (2, PADDINGS[2]), (3, PADDINGS[2]), (9, PADDINGS[2])]
"""Channels in and padding: which gradients are computed how depends on channels alone."""


@pytest.mark.parametrize("cached", [0, convolutions.CACHED_SIZE])
@pytest.mark.parametrize(("size", "stride"), [(1, 1), (2, 1), (3, 1), (3, 2), (4, 1), (4, 2), (7, 1)])
@pytest.mark.parametrize(("channels", "padding"), CHANNELS, ids=str)
def test_conv_cpu_equals_native_with_gradients(monkeypatch, channels, size, stride, padding, cached):
    """Fewer channels than features, as many, more; where what is multiplied fits a cache, and where it does not."""
    monkeypatch.setattr(convolutions, "CACHED_SIZE", cached)
    x, kernel = numbers((2, 9, 8, channels)), kernel_of(size, channels, 3)
    cpu, native = (
        outputs_and_gradients(functools.partial(fn, stride, padding), x, kernel)
        for fn in (convolutions.conv_cpu, convolutions.conv_native)
    )
    assert_same(cpu, native)


@pytest.mark.parametrize("cached", [0, convolutions.CACHED_SIZE])
@pytest.mark.parametrize(("channels", "stride"), [(2, 1), (2, 2), (9, 2)])
def test_conv_cpu_has_native_second_derivatives(monkeypatch, channels, stride, cached):
    monkeypatch.setattr(convolutions, "CACHED_SIZE", cached)
    x, kernel = numbers((2, 6, 5, channels)), kernel_of(3, channels, 3)

    def penalty(fn):
        def of(x, kernel):
            grad = jax.grad(lambda x: jnp.sum(jnp.sin(fn(stride, ((1, 1), (1, 1)), x, kernel))))(x)
            return jnp.sum(grad**2, keepdims=True)

        return of

    functions = convolutions.conv_cpu, convolutions.conv_native
    cpu, native = (outputs_and_gradients(penalty(fn), x, kernel) for fn in functions)
    assert_same(cpu, native)


@pytest.mark.parametrize("size", [3, 7])
@pytest.mark.parametrize("shape", [(1, 9, 7, 1, 3), (3, 8, 11, 2, 1)], ids=str)
def test_conv_rows_as_features_equals_native_with_gradients(shape, size):
    b, h, w, channels, features = shape
    given = numbers((b, h, w, channels)), kernel_of(size, channels, features)
    rows, native = (
        outputs_and_gradients(fn, *given)
        for fn in (
            convolutions.conv_rows_as_features,
            functools.partial(convolutions.conv_native, 1, convolutions.NO_PADDING),
        )
    )
    assert rows[0].shape == (b, h - size + 1, w - size + 1, features)
    assert_same(rows, native)


@pytest.mark.parametrize("padding", PADDINGS, ids=str)
@pytest.mark.parametrize("size", [1, 3, 4, 7])
def test_conv_rows_as_channels_equals_native_with_gradients(size, padding):
    given = numbers((2, 9, 8, 3)), kernel_of(size, 3, 5)
    found, native = (
        outputs_and_gradients(functools.partial(fn, padding), *given)
        for fn in (convolutions.conv_rows_as_channels, functools.partial(convolutions.conv_native, 1))
    )
    assert_same(found, native)


@pytest.mark.parametrize(("channels", "stride", "expected"), [(3, 1, "1x7x21x5"), (8, 1, "7x7x8x5"), (3, 2, "7x7x3x5")])
def test_conv_stacks_rows_for_narrow_gpu_inputs(channels, stride, expected):
    x, kernel = numbers((1, 11, 12, channels)), kernel_of(7, channels, 5)

    def conv(x, kernel):
        return convolutions.conv(x, kernel, stride, ((1, 1), (1, 1)))

    for platform, kernel_shape in (("cuda", expected), ("tpu", f"7x7x{channels}x5")):
        (convolution,) = convolutions_in(lowered(conv, platform, x, kernel))
        assert f"tensor<{kernel_shape}xf64>" in convolution


@pytest.mark.parametrize("form", [convolutions.transpose_by_phases, convolutions.transpose_by_depth])
@pytest.mark.parametrize("size", [3, 4])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_transpose_forms_equal_native_with_gradients(shape, size, form):
    b, h, w, channels, features = shape
    given = numbers((b, h, w, channels)), kernel_of(size, channels, features)
    found, native = (outputs_and_gradients(fn, *given) for fn in (form, convolutions.transpose_native))
    assert found[0].shape == (b, 2 * h, 2 * w, features)
    assert_same(found, native)


@pytest.mark.parametrize("border", [1, 3])
def test_mirror_forms_equal_numpy(border):
    x = numbers((2, 4, 5, 3))
    expected = np.pad(x, ((0, 0), (border, border), (border, border), (0, 0)), mode="reflect")
    for form in (convolutions.mirror_native, convolutions.mirror_by_gather):
        np.testing.assert_array_equal(form(border, jnp.array(x)), expected)
    np.testing.assert_array_equal(convolutions.mirror(jnp.array(x), border), expected)


@pytest.mark.parametrize("border", [1, 3])
def test_mirror_has_native_first_and_second_derivatives(border):
    def native(x):
        return convolutions.mirror_native(border, x)

    def mirror(x):
        return convolutions.mirror(x, border)

    def penalty(fn):
        return lambda x: jnp.sum(jax.grad(lambda x: jnp.sum(jnp.sin(fn(x))))(x) ** 2, keepdims=True)

    x = numbers((2, 4, 5, 3))
    assert_same(outputs_and_gradients(mirror, x), outputs_and_gradients(native, x))
    assert_same(outputs_and_gradients(penalty(mirror), x), outputs_and_gradients(penalty(native), x))


@pytest.mark.parametrize("border", [1, 3])
def test_mirror_gradient_counts_each_pixel_as_shown(border):
    rows, columns = (np.bincount(np.pad(np.arange(size), border, mode="reflect")) for size in (4, 5))
    found = jax.grad(lambda x: jnp.sum(convolutions.mirror(x, border)))(jnp.zeros((1, 4, 5, 1)))
    np.testing.assert_array_equal(found[0, :, :, 0], np.outer(rows, columns))


@pytest.mark.parametrize("size", [3, 4])
def test_conv_transpose_chooses_form_by_platform(size):
    kernel, x = kernel_of(size, 8, 3), numbers((1, 5, 6, 8))

    def loss(kernel, x):
        return jnp.sum(convolutions.conv_transpose(x, kernel) ** 2)

    # Zeros between pixels are what a CPU multiplies slowly, in the layer and in the gradient of its kernel, and a GPU
    # in the latter.
    for fn in (loss, jax.grad(loss, (0, 1))):
        compiled = jax.jit(fn).lower(kernel, x).compile().as_text()
        assert compiled.count("lhs_dilate") == compiled.count("rhs_dilate") == 0
        for platform in ("cpu", "cuda"):
            text = lowered(fn, platform, kernel, x)
            assert convolutions_in(text)
            assert "lhs_dilate = [2, 2]" not in text and "rhs_dilate = [2, 2]" not in text
    assert len(convolutions_in(lowered(loss, "cpu", kernel, x))) == 4
    (convolution,) = convolutions_in(lowered(loss, "cuda", kernel, x))
    assert "tensor<2x2x8x12xf64>" in convolution
    (convolution,) = convolutions_in(lowered(loss, "tpu", kernel, x))
    assert "lhs_dilate = [2, 2]" in convolution
    assert "rhs_dilate" in lowered(jax.grad(lambda kernel: loss(kernel, x)), "tpu", kernel)


@pytest.mark.parametrize("stride", [1, 2])
def test_kernel_grad_convolves_along_height_on_cpu_alone(stride):
    kernel, x = kernel_of(3, 8, 5), numbers((2, 12, 10, 8))

    def loss(kernel, x):
        return jnp.sum(convolutions.conv(x, kernel, stride, ((1, 1), (1, 1))) ** 2)

    def convolved(platform):
        lines = convolutions_in(lowered(jax.grad(loss), platform, kernel, x))
        operands = [line.split(" : (")[1] for line in lines]
        return [operand.split(">")[0].count("x") for operand in operands]  # dimensions of what is convolved

    assert convolved("cpu") == [4, 3]
    assert convolved("cuda") == convolved("tpu") == [4, 4]


@pytest.mark.parametrize(
    ("shape", "size", "features", "expected"),
    [
        ((1, 18, 18, 8), 3, 8, "dot"),
        ((1, 18, 18, 8), 3, 4, "native"),  # too few features
        ((32, 42, 42, 8), 3, 8, "row"),  # too many products for a cache
        ((32, 57, 57, 8), 2, 8, "native"),  # whose kernel has too few rows to gain
    ],
)
def test_input_grad_multiplies_matrices_within_cache_on_cpu(shape, size, features, expected):
    kernel, x = kernel_of(size, shape[-1], features), jnp.zeros(shape)

    def loss(x):
        return jnp.sum(convolutions.conv(x, kernel, 1, convolutions.NO_PADDING) ** 2)

    text = lowered(jax.grad(loss), "cpu", x)
    kernels = [line.split(" : (")[1].split(", ")[1].split(">")[0] for line in convolutions_in(text)]
    gradient = {"dot": [], "row": [f"tensor<1x{size}x{features}x{size * shape[-1]}xf64"],
                "native": [f"tensor<{size}x{size}x{shape[-1]}x{features}xf64"]}[expected]  # fmt: skip
    assert [k.removesuffix(")") for k in kernels[1:]] == gradient
    assert ("stablehlo.dot_general" in text) == (expected == "dot")
    assert len(convolutions_in(lowered(jax.grad(loss), "cuda", x))) == 2


@pytest.mark.parametrize(
    ("channels", "features", "size", "copied"),
    [(4, 8, 300, "x"), (8, 8, 20, "x"), (8, 8, 300, "cotangent"), (8, 4, 20, "cotangent")],
)
def test_kernel_grad_copies_narrower_map_or_small_input(channels, features, size, copied):
    x, cotangent = jnp.zeros((1, size, size, channels)), jnp.zeros((1, size - 2, size - 2, features))
    text = lowered(lambda x, cotangent: convolutions.kernel_grad(x, cotangent, 1, 3, 3), "cpu", x, cotangent)
    (convolution,) = convolutions_in(text)
    operands = convolution.split(" : (")[1].split(") ->")[0]
    along, c, f = {"x": (size - 2, 3 * channels, features), "cotangent": (size, channels, 3 * features)}[copied]
    assert operands == f"tensor<{size}x{along}x{c}xf64>, tensor<{size - 2}x{along}x{f}xf64>"


def test_conv_by_rows_is_native_on_tpu_alone():
    kernel, x = kernel_of(7, 2, 3), numbers((1, 8, 8, 2))
    rows, square = "tensor<1x7x2x21xf64>", "tensor<7x7x2x3xf64>"
    for platform, expected in (("cpu", rows), ("cuda", rows), ("tpu", square)):
        (convolution,) = convolutions_in(lowered(convolutions.conv_by_rows, platform, x, kernel))
        assert expected in convolution


def test_mirror_gathers_on_gpu_alone_and_scatters_nowhere():
    def loss(x):
        return jnp.sum(convolutions.mirror(x, 1) ** 2)

    for platform, gathers in (("cuda", True), ("cpu", False), ("tpu", False)):
        text = lowered(jax.grad(loss), platform, numbers((1, 5, 6, 2)))
        assert ("stablehlo.gather" in text) == gathers
        assert "scatter" not in text
