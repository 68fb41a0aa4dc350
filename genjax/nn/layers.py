"""Linen pieces that networks of any family are built from. Modules hold no randomness: noise is an argument."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import Array, lax

from genjax.config import Precision
from genjax.nn.kernels.convolutions import NO_PADDING, conv, conv_by_rows, conv_transpose, mirror

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"relu": nn.relu, "gelu": nn.gelu, "silu": nn.silu, "tanh": jnp.tanh}

NORM_EPS = 1e-5
"""Added to the variance that `instance_norm` divides by."""


def compute_dtype(precision: Precision) -> jnp.dtype | None:
    """The type of the layers' arithmetic; None keeps that of inputs and parameters (float32, or float64 in tests)."""
    return jnp.dtype(jnp.bfloat16) if precision == "bfloat16" else None


def matmul_precision(precision: Precision) -> str:
    """For `jax.default_matmul_precision`: what the hardware may round factors to; nothing for float32.

    tensorfloat32 is TF32 on an NVIDIA GPU, three passes of bfloat16 on a TPU, and float32 on a CPU.
    """
    return {"float32": "highest", "tensorfloat32": "tensorfloat32", "bfloat16": "default"}[precision]


@jax.custom_vjp
def instance_norm(x: Array) -> Array:
    """Each channel of each image to mean 0 and variance 1, eps 1e-5, with nothing to learn: [b, h, w, c] to the same.

    Its arithmetic is at least float32. The gradient is written out, as what JAX derives goes over the map once more:

        dx = (dy - mean(dy) - y mean(dy y)) / sqrt(variance + eps)

    On an NVIDIA GPU both directions read the map twice and keep nothing between; XLA's own form writes a wide map.
    """
    return _norm_forward(x)[0]


def _norm_forward(x: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    y, mean, scale = lax.platform_dependent(x, cuda=_normalised_in_two_passes, default=_normalised)
    return y, (x, mean, scale)


def _norm_backward(saved: tuple[Array, Array, Array], slope: Array) -> tuple[Array]:
    dx: Array = lax.platform_dependent(*saved, slope, cuda=_norm_slope_in_two_passes, default=_norm_slope)
    return (dx,)


instance_norm.defvjp(_norm_forward, _norm_backward)


def _normalised(x: Array) -> tuple[Array, Array, Array]:
    """y, and what it comes from: (x - mean) scale."""
    wide = _widened(x)
    mean = jnp.mean(wide, axis=(1, 2), keepdims=True)
    scale = lax.rsqrt(jnp.mean(jnp.square(wide - mean), axis=(1, 2), keepdims=True) + NORM_EPS)
    return ((wide - mean) * scale).astype(x.dtype), mean, scale


def _normalised_in_two_passes(x: Array) -> tuple[Array, Array, Array]:
    """`_normalised`, the variance from distances to the first pixel: from zero it would lose digits of a large mean."""
    first = _widened(x[:, :1, :1])
    distance, square = _means(x - first, jnp.square(x - first))
    scale = lax.rsqrt(jnp.maximum(square - jnp.square(distance), 0) + NORM_EPS)
    x, mean, scale = lax.optimization_barrier((x, first + distance, scale))
    return ((x - mean) * scale).astype(x.dtype), mean, scale


def _norm_slope(x: Array, mean: Array, scale: Array, slope: Array) -> Array:
    y, slope = (x - mean) * scale, slope.astype(mean.dtype)
    along_1, along_y = (jnp.mean(s, axis=(1, 2), keepdims=True) for s in (slope, slope * y))
    return ((slope - along_1 - y * along_y) * scale).astype(x.dtype)


def _norm_slope_in_two_passes(x: Array, mean: Array, scale: Array, slope: Array) -> Array:
    along_1, along_y = _means(_widened(slope), slope * ((x - mean) * scale))
    x, slope, mean, scale, along_1, along_y = lax.optimization_barrier((x, slope, mean, scale, along_1, along_y))
    return ((slope - along_1 - (x - mean) * scale * along_y) * scale).astype(x.dtype)


def _means(*maps: Array) -> list[Array]:
    """Of each [b, h, w, c] to [b, 1, 1, c], of the rows first: of a whole map XLA takes it several times slower."""
    rows = lax.optimization_barrier([jnp.mean(values, axis=2, keepdims=True) for values in maps])
    return [jnp.mean(row, axis=1, keepdims=True) for row in rows]


def _widened(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


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

    `by_rows`, for few output channels and a large kernel, computes the same in a form that is faster on CPU and GPU.
    """

    features: int
    kernel_size: int
    by_rows: bool = False
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[b, h, w, c] to [b, h, w, features]; height and width exceed kernel_size // 2."""
        x, kernel, bias = _with_parameters(self, x)
        x = mirror(x, self.kernel_size // 2)
        x = conv_by_rows(x, kernel) if self.by_rows else conv(x, kernel, 1, NO_PADDING)
        return x + bias.reshape(1, 1, 1, -1)


class ConvTranspose(nn.Module):
    """Doubles height and width: a transposed convolution of stride 2 (PyTorch: padding 1, for 3x3 output_padding 1).

    The parameters are those of `nn.ConvTranspose`; a PyTorch kernel is flipped in height and width.
    """

    features: int
    kernel_size: int
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[b, h, w, c] to [b, 2h, 2w, features]; kernel_size is 3 or 4."""
        x, kernel, bias = _with_parameters(self, x)
        x = conv_transpose(x, kernel)
        return x + bias.reshape(1, 1, 1, -1)


def _with_parameters(module: "Conv | ReflectConv | ConvTranspose", x: Array) -> tuple[Array, Array, Array]:
    """x, and the kernel and bias that the module learns, named and shaped as Flax's, in its type."""
    shape = (module.kernel_size, module.kernel_size, x.shape[-1], module.features)
    kernel = module.param("kernel", nn.initializers.lecun_normal(), shape)
    bias = module.param("bias", nn.initializers.zeros, (module.features,))
    x, kernel, bias = promote_dtype(x, kernel, bias, dtype=module.dtype)
    return x, kernel, bias
