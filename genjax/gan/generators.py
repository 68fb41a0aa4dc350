"""Generators of CycleGAN (Zhu et al. 2017, section 7.1), layer for layer those of its PyTorch implementation.

    generator = resnet(channels=3, base_channels=32, num_blocks=6)
    params = init(generator, key, image_shape=(128, 128, 3))
    outputs = apply(generator, params, images)

Images are [b, h, w, c] in [-1, 1]. A generator is an encoder, then a decoder, and its parameters are
{"encoder": ..., "decoder": ...}: an encoder can be used alone (CUT's contrastive loss) or shared (UNIT).
"""

from typing import Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from genjax.gan import params as parameters
from genjax.gan.params import apply
from genjax.nn import layers
from genjax.nn.layers import Map, NormKind
from genjax.optim import Params

__all__ = ["Generator", "apply", "init", "resnet", "unet"]

Features = tuple[Map, ...]  # encoder outputs: one map of a ResNet; one for each scale of a U-Net, finest first


class Decoder(Protocol):
    """A Linen module from features to images, which names its last layer."""

    @property
    def last_layer(self) -> str: ...
    def __call__(self, features: Features) -> Map: ...


class Generator(nn.Module):
    """G(x) = tanh(T(E(x))) with encoder E and decoder T, or x + T(E(x)) if `residual`."""

    encoder: nn.Module
    decoder: Decoder
    residual: bool = False

    def __call__(self, x: Map) -> Map:
        """Maps images [b, h, w, c] to images [b, h, w, c'], within [-1, 1] unless `residual`."""
        # Layers may compute in bfloat16; images keep their type.
        change = self.decoder(self.encoder(x))
        if self.residual:
            return layers.pointwise(lambda x, change: x + change.astype(x.dtype), x, change)
        return layers.pointwise(lambda change: jnp.tanh(change.astype(x.dtype)), change)


def resnet(
    channels: int,
    base_channels: int = 64,
    num_blocks: int = 9,
    residual: bool = False,
    norm: NormKind = "instance",
    affine: bool = False,
    dtype: jnp.dtype | None = None,
) -> Generator:
    """Makes a ResNet generator (Johnson et al. 2016) of images with `channels`; defaults are the paper's at 256x256."""
    encoder = ResnetEncoder(base_channels, num_blocks, norm, affine, dtype)
    return Generator(encoder, ResnetDecoder(channels, base_channels, norm, affine, dtype), residual)


def unet(
    channels: int,
    base_channels: int = 64,
    num_downs: int = 8,
    residual: bool = False,
    norm: NormKind = "instance",
    affine: bool = False,
    dtype: jnp.dtype | None = None,
) -> Generator:
    """Makes a U-Net generator (Isola et al. 2017) of images with `channels`; defaults are the paper's at 256x256."""
    encoder = UnetEncoder(base_channels, num_downs, norm, affine, dtype)
    return Generator(encoder, UnetDecoder(channels, base_channels, num_downs, norm, affine, dtype), residual)


def init(generator: Generator, key: Array, image_shape: tuple[int, ...]) -> Params:
    """Draws parameters for images of `image_shape` (height, width, channels)."""
    shapes = parameters.shapes(generator, image_shape)
    # ORDER MATTERS: which part has which key is part of every result.
    encoder_key, decoder_key = jax.random.split(key)
    params = {
        "encoder": parameters.draw(shapes["encoder"], encoder_key),
        "decoder": parameters.draw(shapes["decoder"], decoder_key),
    }
    if generator.residual:  # begin as the identity: T(E(x)) = 0
        last = generator.decoder.last_layer
        params["decoder"][last] = jax.tree.map(jnp.zeros_like, params["decoder"][last])
    return params


class ResnetEncoder(nn.Module):
    """A 7x7 convolution, two of stride 2, and residual blocks."""

    base_channels: int
    num_blocks: int
    norm: NormKind = "instance"
    affine: bool = False
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Map) -> Features:
        """Maps [b, h, w, c], h and w multiples of 4, to one map [b, h/4, w/4, 4 base_channels]."""
        # In the paper's notation c7s1-64, d128, d256, then R256 for each block.
        x = layers.ReflectConv(self.base_channels, 7, dtype=self.dtype)(x)
        x = layers.Norm(self.norm, self.affine)(nn.relu, x)
        for channels in (2 * self.base_channels, 4 * self.base_channels):
            x = layers.Conv(channels, 3, 2, self.dtype)(x)
            x = layers.Norm(self.norm, self.affine)(nn.relu, x)
        return (_residual_blocks(x, self.num_blocks, self.norm, self.affine, self.dtype),)


class ResidualBlocks(nn.Module):
    """Residual blocks alone, which generators may share."""

    num_blocks: int
    norm: NormKind = "instance"
    affine: bool = False
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, features: Features) -> Features:
        """Maps one map to one of the same shape."""
        (x,) = features
        return (_residual_blocks(x, self.num_blocks, self.norm, self.affine, self.dtype),)


class ResnetDecoder(nn.Module):
    """Two transposed convolutions and a 7x7 one, after residual blocks if there are any."""

    channels: int
    base_channels: int
    norm: NormKind = "instance"
    affine: bool = False
    dtype: jnp.dtype | None = None
    num_blocks: int = 0

    @property
    def last_layer(self) -> str:
        """Names the output layer."""
        return f"ReflectConv_{2 * self.num_blocks}"

    @nn.compact
    def __call__(self, features: Features) -> Map:
        """Maps one map [b, h/4, w/4, 4 base_channels] to [b, h, w, channels], not bounded."""
        # In the paper's notation u128, u64, c7s1-3.
        (x,) = features
        x = _residual_blocks(x, self.num_blocks, self.norm, self.affine, self.dtype)
        for channels in (2 * self.base_channels, self.base_channels):
            x = layers.ConvTranspose(channels, 3, dtype=self.dtype)(x)
            x = layers.Norm(self.norm, self.affine)(nn.relu, x)
        # By rows: a form that is faster for few output channels.
        return layers.ReflectConv(self.channels, 7, by_rows=True, dtype=self.dtype)(x)


class UnetEncoder(nn.Module):
    """4x4 convolutions of stride 2, down to the innermost map."""

    base_channels: int
    num_downs: int
    norm: NormKind = "instance"
    affine: bool = False
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Map) -> Features:
        """Maps [b, h, w, c] to num_downs maps, each half the size of the last. Sides are multiples of 2^num_downs."""
        # The image gets no activation, the outermost and the innermost map no norm.
        maps: list[Map] = []
        for level in range(self.num_downs):
            x = layers.pointwise(_leaky_relu, x) if level > 0 else x
            x = layers.Conv(_unet_channels(self.base_channels, level), 4, 2, self.dtype)(x)
            x = layers.Norm(self.norm, self.affine)(_unchanged, x) if 0 < level < self.num_downs - 1 else x
            maps.append(x)
        return tuple(maps)


class UnetDecoder(nn.Module):
    """4x4 transposed convolutions, each followed by the encoder's map of the same size (a skip connection)."""

    channels: int
    base_channels: int
    num_downs: int
    norm: NormKind = "instance"
    affine: bool = False
    dtype: jnp.dtype | None = None

    @property
    def last_layer(self) -> str:
        """Names the output layer."""
        return f"ConvTranspose_{self.num_downs - 1}"

    @nn.compact
    def __call__(self, features: Features) -> Map:
        """Maps num_downs maps to [b, h, w, channels], not bounded."""
        # From the innermost map outwards. An encoder's map meets the decoder's before its own activation.
        *skips, x = features
        for level in reversed(range(1, self.num_downs)):
            channels = _unet_channels(self.base_channels, level - 1)
            x = layers.ConvTranspose(channels, 4, dtype=self.dtype)(layers.pointwise(nn.relu, x))
            x = layers.Norm(self.norm, self.affine)(
                lambda x, skip: jnp.concatenate([skip, x], axis=-1), x, skips[level - 1]
            )
        # The outermost level has no norm and no skip connection: its output is the image.
        return layers.ConvTranspose(self.channels, 4, dtype=self.dtype)(layers.pointwise(nn.relu, x))


def _residual_blocks(x: Map, num: int, norm: NormKind, affine: bool, dtype: jnp.dtype | None) -> Map:
    """Applies residual blocks, as layers of the module that calls."""
    for _ in range(num):
        y = layers.ReflectConv(x.shape[-1], 3, dtype=dtype)(x)
        y = layers.Norm(norm, affine)(nn.relu, y)
        y = layers.ReflectConv(x.shape[-1], 3, dtype=dtype)(y)
        x = layers.Norm(norm, affine)(lambda y, x: x + y, y, x)  # no ReLU after the sum
    return x


def _leaky_relu(x: Array) -> Array:
    return nn.leaky_relu(x, 0.2)


def _unchanged(x: Array) -> Array:
    return x


def _unet_channels(base_channels: int, level: int) -> int:
    return base_channels * min(2**level, 8)
