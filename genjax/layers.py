"""Linen pieces that networks of any family are built from. Modules hold no randomness: noise is an argument."""

import functools
import operator
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import Array, lax

from genjax.config import Precision

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"relu": nn.relu, "gelu": nn.gelu, "silu": nn.silu, "tanh": jnp.tanh}


def compute_dtype(precision: Precision) -> jnp.dtype | None:
    """The type of the layers' arithmetic; None keeps that of inputs and parameters (float32, or float64 in tests)."""
    return jnp.dtype(jnp.bfloat16) if precision == "bfloat16" else None


def matmul_precision(precision: Precision) -> str:
    """For `jax.default_matmul_precision`: true float32 products, also where the hardware's default is coarser."""
    return "highest" if precision == "float32" else "default"


class UpConv(nn.Module):
    """Doubles height and width: a 3x3 convolution to four times the channels, then depth to space (Shi et al. 2016).

    The same linear maps as a transposed 6x6 convolution of stride 2, in a form that every backend runs fast.
    """

    features: int
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[b, h, w, c] to [b, 2h, 2w, features]."""
        x = nn.Conv(4 * self.features, (3, 3), dtype=self.dtype)(x)
        b, h, w, _ = x.shape
        x = x.reshape(b, h, w, 2, 2, self.features).transpose(0, 1, 3, 2, 4, 5)
        return x.reshape(b, 2 * h, 2 * w, self.features)


class Conv(nn.Module):
    """A convolution between zeros, one pixel wide (PyTorch: padding 1), with the parameters of `nn.Conv`."""

    features: int
    kernel_size: int
    stride: int = 1
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[b, h, w, c] to [b, h', w', features], h' = (h + 2 - kernel_size) // stride + 1 and w' alike."""
        x, kernel, bias = _with_parameters(self, x)
        x = conv(x, kernel, self.stride, ((1, 1), (1, 1)))
        return x + bias.reshape(1, 1, 1, -1)


class ReflectConv(nn.Module):
    """A convolution of odd kernel size over borders that mirror the image, edge excluded; the size stays.

    With few output channels and a large kernel, `by_rows` says the same in a form that a CPU runs several times faster:
    one row of the kernel after another as output channels of one convolution, then a sum of shifted rows.
    """

    features: int
    kernel_size: int
    by_rows: bool = False
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[b, h, w, c] to [b, h, w, features]; height and width exceed kernel_size // 2."""
        border = self.kernel_size // 2
        x, kernel, bias = _with_parameters(self, x)
        x = jnp.pad(x, ((0, 0), (border, border), (border, border), (0, 0)), mode="reflect")
        x = lax.platform_dependent(x, kernel, cpu=_conv_by_rows, default=conv) if self.by_rows else conv(x, kernel)
        return x + bias.reshape(1, 1, 1, -1)


class ConvTranspose(nn.Module):
    """Doubles height and width: a transposed convolution of stride 2 (PyTorch: padding 1, for 3x3 output_padding 1).

    The parameters are those of `nn.ConvTranspose`; a PyTorch kernel is flipped in height and width. On CPU it is four
    convolutions, one for each parity of row and column, whose gradients run many times faster there.
    """

    features: int
    kernel_size: int
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[b, h, w, c] to [b, 2h, 2w, features]; kernel_size is 3 or 4."""
        x, kernel, bias = _with_parameters(self, x)
        x = lax.platform_dependent(x, kernel, cpu=_conv_transpose_by_phases, default=_conv_transpose)
        return x + bias.reshape(1, 1, 1, -1)


def _with_parameters(module: "Conv | ReflectConv | ConvTranspose", x: Array) -> tuple[Array, Array, Array]:
    """x, and the kernel and bias that the module learns, named and shaped as Flax's, in its type."""
    shape = (module.kernel_size, module.kernel_size, x.shape[-1], module.features)
    kernel = module.param("kernel", nn.initializers.lecun_normal(), shape)
    bias = module.param("bias", nn.initializers.zeros, (module.features,))
    x, kernel, bias = promote_dtype(x, kernel, bias, dtype=module.dtype)
    return x, kernel, bias


DIMENSIONS = ("NHWC", "HWIO", "NHWC")

Padding = tuple[tuple[int, int], tuple[int, int]]
"""Zeros above and below, left and right."""

NO_PADDING: Padding = ((0, 0), (0, 0))

PHASES = {
    3: ((slice(1, 2), (0, 0)), (slice(0, 3, 2), (0, 1))),
    4: ((slice(0, 4, 2), (1, 0)), (slice(1, 4, 2), (0, 1))),
}
"""For even and odd outputs along one axis: which taps of the kernel meet inputs that are not zeros, and the borders."""


def conv(x: Array, kernel: Array, stride: int = 1, padding: Padding = NO_PADDING) -> Array:
    """Cross-correlation of x [b, h, w, c] between zeros with kernel [rows, columns, c, features]."""
    native, on_cpu = (functools.partial(fn, stride, padding) for fn in (_conv_native, _conv_on_cpu))
    return lax.platform_dependent(x, kernel, cpu=on_cpu, default=native)


def _conv_native(stride: int, padding: Padding, x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=DIMENSIONS)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _conv_on_cpu(stride: int, padding: Padding, x: Array, kernel: Array) -> Array:
    """The same, with the gradient of the kernel by `_kernel_slope`."""
    if stride > 1 or padding != NO_PADDING:
        return _conv_native(stride, padding, x, kernel)
    # The library that jaxlib 0.10 calls without any border is up to four times slower than what it calls with one, here
    # a row. Later versions are as fast either way.
    return _conv_native(1, ((0, 1), (0, 0)), x, kernel)[:, :-1]


def _conv_forward(stride: int, padding: Padding, x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _conv_on_cpu(stride, padding, x, kernel), (x, kernel)


def _conv_backward(stride: int, padding: Padding, saved: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    x, kernel = saved
    (x_slope,) = jax.vjp(lambda x: _conv_native(stride, padding, x, kernel), x)[1](slope)
    rows, columns, *_ = kernel.shape
    return x_slope, _kernel_slope(jnp.pad(x, ((0, 0), *padding, (0, 0))), slope, stride, rows, columns)


def _kernel_slope(x: Array, slope: Array, stride: int, rows: int, columns: int) -> Array:
    """The gradient of a kernel [rows, columns, c, features] whose outputs, for x [b, h, w, c], have gradient `slope`.

        d[i, j, c, f] = sum over b, h, w of x[b, stride h + i, stride w + j, c] slope[b, h, w, f]

    XLA takes it for a convolution with a kernel of the map's size, for large maps several times slower. Here it is one
    along the height alone, to which a column of an image is a channel, with a copy of the narrower map for each j.
    """
    b, height, width, features = slope.shape
    channels, tall, wide = x.shape[-1], stride * (height - 1) + rows, stride * (width - 1) + columns
    x, slope = x[:, :tall, :wide].swapaxes(0, 1), slope.swapaxes(0, 1)
    copies_of_x = stride > 1 or channels < features
    if copies_of_x:
        x = jnp.stack([x[:, :, j : wide - columns + 1 + j : stride] for j in range(columns)], axis=3)
    else:
        borders = [(j, columns - 1 - j) for j in range(columns)]
        slope = jnp.stack([jnp.pad(slope, ((0, 0), (0, 0), border, (0, 0))) for border in borders], axis=3)
    x, slope = x.reshape(tall, b * x.shape[2], -1), slope.reshape(height, b * x.shape[2], -1)
    dimensions = ("HCN", "HIO", "HNC")
    d = lax.conv_general_dilated(x, slope, (1,), ((0, 0),), rhs_dilation=(stride,), dimension_numbers=dimensions)
    if copies_of_x:
        return d.reshape(rows, columns, channels, features)
    return d.reshape(rows, channels, columns, features).swapaxes(1, 2)


_conv_on_cpu.defvjp(_conv_forward, _conv_backward)


def _conv_by_rows(x: Array, kernel: Array) -> Array:
    rows, columns, channels, features = kernel.shape
    wide = kernel.transpose(1, 2, 0, 3).reshape(1, columns, channels, rows * features)
    parts = _conv_on_cpu(1, NO_PADDING, x, wide)
    height = x.shape[1] - rows + 1
    shifted = [parts[:, row : row + height, :, row * features : (row + 1) * features] for row in range(rows)]
    return functools.reduce(operator.add, shifted)


def _conv_transpose(x: Array, kernel: Array) -> Array:
    borders = {3: (1, 2), 4: (2, 2)}[kernel.shape[0]]  # of the input with zeros between its pixels
    return lax.conv_general_dilated(
        x, kernel, (1, 1), (borders, borders), lhs_dilation=(2, 2), dimension_numbers=DIMENSIONS
    )


def _conv_transpose_by_phases(x: Array, kernel: Array) -> Array:
    b, h, w, _ = x.shape
    phases = PHASES[kernel.shape[0]]
    parts = [_conv_on_cpu(1, (top, left), x, kernel[rows, columns]) for rows, top in phases for columns, left in phases]
    x = jnp.stack(parts, axis=3).reshape(b, h, w, 2, 2, -1)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, -1)
