"""Linen layers for the networks of all families. Modules draw no random numbers: noise is an argument.

Layers with a fast form on some platforms call nn/kernels/, where each form stands beside a native reference.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import Array

from genjax.config import Precision
from genjax.nn import canvas, streams
from genjax.nn.canvas import Canvas
from genjax.nn.kernels.convolutions import (
    NO_PADDING,
    conv,
    conv_by_rows,
    conv_narrow,
    conv_transpose,
    mirror,
)  # fmt: skip
from genjax.nn.kernels.instance_norm import group_norm, instance_norm
from genjax.nn.streams import Stream

NormKind = Literal["instance", "group", "layer", "none"]

GROUPS = 32
"""Groups of channels with norm group (Wu and He 2018), or the most that divide both."""

Map = Any  # an Array, a Canvas or a Stream: layers give what they were given

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
    def __call__(self, x: Map) -> Map:
        """Maps [b, h, w, c] to [b, h', w', features]. h' is (h + 2 - kernel_size) // stride + 1, w' alike."""
        parameters = _parameters(self, x.shape[-1])
        if isinstance(x, Canvas | Stream):
            # Canvases and streams bring the border with them.
            inner = _Biased(conv, (self.stride, NO_PADDING), self.dtype)
            return _module(x).convolve(inner, parameters, x, border=1, down=self.stride)
        return _Biased(conv, (self.stride, ((1, 1), (1, 1))), self.dtype)(x, *parameters)


class ReflectConv(nn.Module):
    """A convolution of odd kernel size with reflection padding, edge excluded; it keeps the image size."""

    features: int
    kernel_size: int
    by_rows: bool = False  # a form that is faster on CPU and GPU for few output channels and a large kernel
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Map) -> Map:
        """Maps [b, h, w, c] to [b, h, w, features]; height and width exceed kernel_size // 2."""
        parameters, border = _parameters(self, x.shape[-1]), self.kernel_size // 2
        if isinstance(x, Canvas | Stream):
            # Trained networks alone run on canvases and streams, so no gradient has to be fast.
            inner = _Biased(conv_by_rows if self.by_rows else conv_narrow, (), self.dtype)
            return _module(x).convolve(inner, parameters, x, border, mirrored=True)
        return _Biased(_mirrored, (border, self.by_rows), self.dtype)(x, *parameters)


class ConvTranspose(nn.Module):
    """Doubles height and width: a transposed convolution of stride 2 (PyTorch: padding 1, for 3x3 output_padding 1).

    The parameters are those of `nn.ConvTranspose`; a PyTorch kernel is flipped in height and width.
    """

    features: int
    kernel_size: int
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Map) -> Map:
        """Maps [b, h, w, c] to [b, 2h, 2w, features]; kernel_size is 3 or 4."""
        parameters = _parameters(self, x.shape[-1])
        if isinstance(x, Canvas | Stream):
            return _module(x).convolve(_Biased(_transposed_inside, (), self.dtype), parameters, x, border=1, up=2)
        return _Biased(conv_transpose, (), self.dtype)(x, *parameters)


def pointwise(fn: Callable[..., Array], x: Map, *others: Map) -> Map:
    """Applies a function of pixels to maps of one size."""
    return _module(x).pointwise(fn, x, *others) if isinstance(x, Canvas | Stream) else fn(x, *others)


class Norm(nn.Module):
    """A normalisation of maps by their own mean and variance, and a function of pixels after it.

    instance: over each channel (Ulyanov et al. 2016). group: over each of GROUPS groups of channels (Wu and He 2018).
    layer: over all channels. none: no normalisation. With `affine`, a learned gain and a learned offset for each
    channel follow: y (1 + scale) + bias, both 0 at first.
    """

    kind: NormKind = "instance"
    affine: bool = False

    @nn.compact
    def __call__(self, fn: Callable[..., Array], x: Map, *others: Map) -> Map:
        """Computes fn(norm(x), *others) for a function of pixels; x is [b, h, w, c]."""
        if self.kind == "none":
            return pointwise(fn, x, *others)
        channels = x.shape[-1]
        if self.affine:
            scale, bias = (self.param(name, nn.initializers.zeros, (channels,)) for name in ("scale", "bias"))
            # Gain and offset become part of the function of pixels, for every kind of map.
            after = fn

            def fn(x: Array, *others: Array) -> Array:
                gain, offset = (leaf.reshape(1, 1, 1, -1).astype(x.dtype) for leaf in (1 + scale, bias))
                return after(x * gain + offset, *others)

        groups = {"instance": channels, "group": math.gcd(GROUPS, channels), "layer": 1}[self.kind]
        if isinstance(x, Canvas | Stream):
            return _module(x).normalized(fn, x, *others, groups=groups)
        return fn(instance_norm(x) if self.kind == "instance" else group_norm(x, groups), *others)


@dataclasses.dataclass(frozen=True)
class _Biased:
    """A convolution and a bias. Equal ones are equal and have one hash, by which streams share their programs."""

    form: Callable[..., Array]  # of x, kernel and `arguments`
    arguments: tuple[Any, ...]
    dtype: jnp.dtype | None

    def __call__(self, x: Array, kernel: Array, bias: Array) -> Array:
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        return self.form(x, kernel, *self.arguments) + bias.reshape(1, 1, 1, -1)


def _mirrored(x: Array, kernel: Array, border: int, by_rows: bool) -> Array:
    x = mirror(x, border)
    return conv_by_rows(x, kernel) if by_rows else conv(x, kernel, 1, NO_PADDING)


def _transposed_inside(x: Array, kernel: Array) -> Array:
    return conv_transpose(x, kernel)[:, 2:-2, 2:-2]  # outputs of a border of one pixel are not the map's


def _module(x: Canvas | Stream) -> Any:
    """Returns the module with the operations of maps of this kind."""
    return canvas if isinstance(x, Canvas) else streams


def _parameters(module: Conv | ReflectConv | ConvTranspose, channels: int) -> tuple[Array, Array]:
    """Returns kernel and bias."""
    # Names, shapes and initial values are those of nn.Conv and nn.ConvTranspose.
    shape = (module.kernel_size, module.kernel_size, channels, module.features)
    kernel = module.param("kernel", nn.initializers.lecun_normal(), shape)
    bias = module.param("bias", nn.initializers.zeros, (module.features,))
    return kernel, bias
