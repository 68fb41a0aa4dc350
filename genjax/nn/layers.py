"""Linen layers for the networks of all families. Modules draw no random numbers: noise is an argument.

Layers with a fast form on some platforms call nn/kernels/, where each form stands beside a native reference.
"""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import Array

from genjax.config import Precision
from genjax.nn.kernels.convolutions import NO_PADDING, conv, conv_by_rows, conv_transpose, mirror
from genjax.nn.kernels.instance_norm import instance_norm as instance_norm  # networks take it from here

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"relu": nn.relu, "gelu": nn.gelu, "silu": nn.silu, "tanh": jnp.tanh}


def compute_dtype(precision: Precision) -> jnp.dtype | None:
    """Returns the dtype that layers compute in; None keeps that of inputs and parameters (float32 or float64)."""
    return jnp.dtype(jnp.bfloat16) if precision == "bfloat16" else None


class UpConv(nn.Module):
    """Doubles height and width: a 3x3 convolution to 4 * features channels, then depth to space (Shi et al. 2016).

    It computes the same linear maps as a transposed 6x6 convolution of stride 2, and is fast on every platform.
    """

    features: int
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [b, h, w, c] to [b, 2h, 2w, features]."""
        x = nn.Conv(4 * self.features, (3, 3), dtype=self.dtype)(x)
        b, h, w, _ = x.shape
        # The channels of a pixel are a block of 2x2 pixels.
        x = x.reshape(b, h, w, 2, 2, self.features).transpose(0, 1, 3, 2, 4, 5)
        return x.reshape(b, 2 * h, 2 * w, self.features)


class Conv(nn.Module):
    """A convolution with zero padding of one pixel (PyTorch: padding 1), with the parameters of `nn.Conv`."""

    features: int
    kernel_size: int
    stride: int = 1
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [b, h, w, c] to [b, h', w', features]; h' is (h + 2 - kernel_size) // stride + 1, w' alike."""
        x, kernel, bias = _with_parameters(self, x)
        x = conv(x, kernel, self.stride, ((1, 1), (1, 1)))
        return x + bias.reshape(1, 1, 1, -1)


class ReflectConv(nn.Module):
    """A convolution of odd kernel size with reflection padding, edge excluded; it keeps the image size."""

    features: int
    kernel_size: int
    by_rows: bool = False  # a form that is faster on CPU and GPU for few output channels and a large kernel
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [b, h, w, c] to [b, h, w, features]; height and width exceed kernel_size // 2."""
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
        """Maps [b, h, w, c] to [b, 2h, 2w, features]; kernel_size is 3 or 4."""
        x, kernel, bias = _with_parameters(self, x)
        x = conv_transpose(x, kernel)
        return x + bias.reshape(1, 1, 1, -1)


def _with_parameters(module: Conv | ReflectConv | ConvTranspose, x: Array) -> tuple[Array, Array, Array]:
    """Returns x, kernel and bias in the module's dtype."""
    # Names, shapes and initial values are those of nn.Conv and nn.ConvTranspose.
    shape = (module.kernel_size, module.kernel_size, x.shape[-1], module.features)
    kernel = module.param("kernel", nn.initializers.lecun_normal(), shape)
    bias = module.param("bias", nn.initializers.zeros, (module.features,))
    x, kernel, bias = promote_dtype(x, kernel, bias, dtype=module.dtype)
    return x, kernel, bias
