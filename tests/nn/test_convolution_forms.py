"""Which form a convolution has on which platform: programs are lowered for it, and not run."""

import jax
import jax.numpy as jnp
import pytest

from genjax.nn.kernels import convolutions

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]


def lowered(fn, platform, *inputs):
    return jax.jit(fn).trace(*inputs).lower(lowering_platforms=(platform,)).as_text()


def convolutions_in(text):
    return [line for line in text.splitlines() if "stablehlo.convolution" in line]


@pytest.mark.parametrize(("channels", "stride", "expected"), [(3, 1, "1x7x21x5"), (8, 1, "7x7x8x5"), (3, 2, "7x7x3x5")])
def test_conv_stacks_rows_for_narrow_gpu_inputs(channels, stride, expected):
    x, kernel = jnp.zeros((1, 11, 12, channels)), jnp.zeros((7, 7, channels, 5))

    def conv(x, kernel):
        return convolutions.conv(x, kernel, stride, ((1, 1), (1, 1)))

    for platform, kernel_shape in (("cuda", expected), ("tpu", f"7x7x{channels}x5")):
        (convolution,) = convolutions_in(lowered(conv, platform, x, kernel))
        assert f"tensor<{kernel_shape}xf64>" in convolution


@pytest.mark.parametrize("size", [3, 4])
def test_conv_transpose_chooses_form_by_platform(size):
    kernel, x = jnp.zeros((size, size, 8, 3)), jnp.zeros((1, 5, 6, 8))

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
    kernel, x = jnp.zeros((3, 3, 8, 5)), jnp.zeros((2, 12, 10, 8))

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
    kernel, x = jnp.zeros((size, size, shape[-1], features)), jnp.zeros(shape)

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
    kernel, x = jnp.zeros((7, 7, 2, 3)), jnp.zeros((1, 8, 8, 2))
    rows, square = "tensor<1x7x2x21xf64>", "tensor<7x7x2x3xf64>"
    for platform, expected in (("cpu", rows), ("cuda", rows), ("tpu", square)):
        (convolution,) = convolutions_in(lowered(convolutions.conv_by_rows, platform, x, kernel))
        assert expected in convolution


def test_mirror_gathers_on_gpu_alone_and_scatters_nowhere():
    def loss(x):
        return jnp.sum(convolutions.mirror(x, 1) ** 2)

    for platform, gathers in (("cuda", True), ("cpu", False), ("tpu", False)):
        text = lowered(jax.grad(loss), platform, jnp.zeros((1, 5, 6, 2)))
        assert ("stablehlo.gather" in text) == gathers
        assert "scatter" not in text
