"""The networks of CycleGAN (Zhu et al. 2017, section 7.1), layer for layer those of its PyTorch implementation.

Generators are an encoder, then a decoder, so that the residual form reads as it is written: x + T_y(G_x(x)). All see
images [b, h, w, c] in [-1, 1].
"""

import itertools
import math
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from genjax.cyclegan.config import CycleGanRun
from genjax.nn import layers

Direction = Literal["a2b", "b2a"]

DOMAINS: dict[Direction, tuple[int, int]] = {"a2b": (0, 1), "b2a": (1, 0)}
"""Where a generator comes from and goes to."""

Features = tuple[Array, ...]
"""What a decoder needs of its encoder: one map of a ResNet, one for each scale of a U-Net, finest first."""


class ResnetEncoder(nn.Module):
    """A 7x7 convolution, two of stride 2, and residual blocks."""

    config: CycleGanRun

    @nn.compact
    def __call__(self, x: Array) -> Features:
        """[b, h, w, c], h and w multiples of 4, to one map [b, h/4, w/4, 4 width]."""
        net, dtype = self.config.cyclegan, layers.compute_dtype(self.config.precision)
        x = layers.ReflectConv(net.width, 7, dtype=dtype)(x)
        x = nn.relu(layers.instance_norm(x))
        for features in (2 * net.width, 4 * net.width):
            x = layers.Conv(features, 3, 2, dtype)(x)
            x = nn.relu(layers.instance_norm(x))
        for _ in range(net.blocks):
            y = layers.ReflectConv(4 * net.width, 3, dtype=dtype)(x)
            y = nn.relu(layers.instance_norm(y))
            y = layers.ReflectConv(4 * net.width, 3, dtype=dtype)(y)
            x = x + layers.instance_norm(y)
        return (x,)


class ResnetDecoder(nn.Module):
    """Two transposed convolutions and a 7x7 one."""

    config: CycleGanRun
    channels: int

    @nn.compact
    def __call__(self, features: Features) -> Array:
        """One map [b, h/4, w/4, 4 width] to [b, h, w, channels], not bounded."""
        net, dtype = self.config.cyclegan, layers.compute_dtype(self.config.precision)
        (x,) = features
        for width in (2 * net.width, net.width):
            x = layers.ConvTranspose(width, 3, dtype=dtype)(x)
            x = nn.relu(layers.instance_norm(x))
        return layers.ReflectConv(self.channels, 7, by_rows=True, dtype=dtype)(x)


class UnetEncoder(nn.Module):
    """4x4 convolutions of stride 2, down to the innermost map."""

    config: CycleGanRun

    @nn.compact
    def __call__(self, x: Array) -> Features:
        """[b, h, w, c], h and w multiples of 2^depth, to `depth` maps, each half the size of the one before."""
        net, dtype = self.config.cyclegan, layers.compute_dtype(self.config.precision)
        maps: list[Array] = []
        for level in range(net.depth):
            x = nn.leaky_relu(x, 0.2) if level > 0 else x
            x = layers.Conv(_unet_width(net.width, level), 4, 2, dtype)(x)
            x = layers.instance_norm(x) if 0 < level < net.depth - 1 else x
            maps.append(x)
        return tuple(maps)


class UnetDecoder(nn.Module):
    """4x4 transposed convolutions, each on what came from below beside the encoder's map of the same size."""

    config: CycleGanRun
    channels: int

    @nn.compact
    def __call__(self, features: Features) -> Array:
        """`depth` maps to [b, h, w, channels], not bounded."""
        net, dtype = self.config.cyclegan, layers.compute_dtype(self.config.precision)
        *skips, x = features
        for level in reversed(range(1, net.depth)):
            width = _unet_width(net.width, level - 1)
            x = layers.ConvTranspose(width, 4, dtype=dtype)(nn.relu(x))
            x = jnp.concatenate([skips[level - 1], layers.instance_norm(x)], axis=-1)
        last = layers.ConvTranspose(self.channels, 4, dtype=dtype)
        outputs: Array = last(nn.relu(x))
        return outputs


class PatchDiscriminator(nn.Module):
    """PatchGAN (Isola et al. 2017): a logit for each of many overlapping patches."""

    config: CycleGanRun

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[b, h, w, c] to logits [b, h', w', 1]: 256 to 30, 128 to 14, 64 to 6, 32 to 2 with 3 layers of stride 2."""
        net, dtype = self.config.cyclegan, layers.compute_dtype(self.config.precision)
        num = net.discriminator_layers
        for layer in range(num + 1):
            width, stride = net.discriminator_width * min(2**layer, 8), 2 if layer < num else 1
            x = layers.Conv(width, 4, stride, dtype)(x)
            x = nn.leaky_relu(layers.instance_norm(x) if layer > 0 else x, 0.2)
        return layers.Conv(1, 4, dtype=dtype)(x)


class PixelDiscriminator(nn.Module):
    """A logit for each pixel, from 1x1 convolutions."""

    config: CycleGanRun

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[b, h, w, c] to logits [b, h, w, 1]."""
        net, dtype = self.config.cyclegan, layers.compute_dtype(self.config.precision)
        width = net.discriminator_width
        x = nn.leaky_relu(nn.Conv(width, (1, 1), dtype=dtype)(x), 0.2)
        x = layers.instance_norm(nn.Conv(2 * width, (1, 1), dtype=dtype)(x))
        return nn.Conv(1, (1, 1), dtype=dtype)(nn.leaky_relu(x, 0.2))


def _unet_width(width: int, level: int) -> int:
    return width * min(2**level, 8)


def _generator(config: CycleGanRun, direction: Direction) -> tuple[nn.Module, nn.Module]:
    channels = config.data.channels[DOMAINS[direction][1]]
    if config.cyclegan.generator == "unet":
        return UnetEncoder(config), UnetDecoder(config, channels)
    return ResnetEncoder(config), ResnetDecoder(config, channels)


def _discriminator(config: CycleGanRun) -> nn.Module:
    return PatchDiscriminator(config) if config.cyclegan.discriminator == "patch" else PixelDiscriminator(config)


def init_generator(config: CycleGanRun, direction: Direction, key: Array) -> dict[str, Any]:
    """Fresh parameters; a residual generator's last layer is zero, which makes it the identity."""
    encoder, decoder = _generator(config, direction)
    encoder_key, decoder_key = jax.random.split(key)
    image = jnp.zeros((1, *config.data.image_shapes[DOMAINS[direction][0]]))
    encoder_params = _init(encoder, encoder_key, image)
    features = jax.eval_shape(lambda params: encoder.apply({"params": params}, image), encoder_params)
    decoder_params = _init(decoder, decoder_key, features)
    if config.cyclegan.output == "residual":
        last = (
            "ReflectConv_0" if config.cyclegan.generator == "resnet" else f"ConvTranspose_{config.cyclegan.depth - 1}"
        )
        decoder_params[last] = jax.tree.map(jnp.zeros_like, decoder_params[last])
    return {"encoder": encoder_params, "decoder": decoder_params}


def init_discriminator(config: CycleGanRun, domain: int, key: Array) -> dict[str, Any]:
    """Fresh parameters of the discriminator of `domain` (0 for A, 1 for B)."""
    return _init(_discriminator(config), key, jnp.zeros((1, *config.data.image_shapes[domain])))


def _init(module: nn.Module, key: Array, inputs: Any) -> dict[str, Any]:
    """Kernels from N(0, 0.02), biases 0. One draw for all kernels compiles many times faster than one for each."""
    shapes = jax.eval_shape(lambda x: module.init(key, x), inputs)["params"]
    leaves, structure = jax.tree.flatten(shapes)
    sizes = [math.prod(leaf.shape) if len(leaf.shape) > 1 else 0 for leaf in leaves]
    drawn = 0.02 * jax.random.normal(key, (sum(sizes),), jnp.float32)
    draws = jnp.split(drawn, list(itertools.accumulate(sizes))[:-1])
    filled = [
        draw.reshape(leaf.shape) if draw.size else jnp.zeros(leaf.shape, jnp.float32)
        for draw, leaf in zip(draws, leaves, strict=True)
    ]
    params: dict[str, Any] = jax.tree.unflatten(structure, filled)
    return params


def generate(config: CycleGanRun, direction: Direction, params: dict[str, Any], images: Array) -> Array:
    """Translates images [b, h, w, c] in [-1, 1]; output tanh stays within [-1, 1], residual may leave it."""
    encoder, decoder = _generator(config, direction)
    features = encoder.apply({"params": params["encoder"]}, images)
    decoded: Any = decoder.apply({"params": params["decoder"]}, features)
    change: Array = decoded.astype(images.dtype)
    return images + change if config.cyclegan.output == "residual" else jnp.tanh(change)


def discriminate(config: CycleGanRun, params: dict[str, Any], images: Array) -> Array:
    """Logits [b, h', w', 1] for images [b, h, w, c] in [-1, 1]: high where they look real."""
    judged: Any = _discriminator(config).apply({"params": params}, images)
    logits: Array = judged.astype(images.dtype)
    return logits


def init_spectral(params: dict[str, Any], key: Array) -> dict[str, Array]:
    """A unit vector [out] for each layer, which `spectral_normalise` turns towards its first singular vector."""
    layer_keys = dict(zip(sorted(params), jax.random.split(key, len(params)), strict=True))
    biases = {name: layer["bias"] for name, layer in params.items()}
    vectors = {name: jax.random.normal(layer_keys[name], bias.shape, bias.dtype) for name, bias in biases.items()}
    return {name: _unit(vector) for name, vector in vectors.items()}


def spectral_normalise(params: dict[str, Any], vectors: dict[str, Array]) -> tuple[dict[str, Any], dict[str, Array]]:
    """Kernels divided by estimates of their largest singular value, and `vectors` after one power iteration.

    Gradients flow through the kernels alone (Miyato et al. 2018, algorithm 1).
    """
    normalised, turned = {}, {}
    with jax.default_matmul_precision("highest"):  # also where the layers compute in bfloat16
        for name, layer in params.items():
            kernel = layer["kernel"]
            matrix = kernel.reshape(-1, kernel.shape[-1])
            fixed = jax.lax.stop_gradient(matrix)
            left = _unit(fixed @ vectors[name])
            turned[name] = _unit(left @ fixed)
            normalised[name] = {"kernel": kernel / (left @ matrix @ turned[name]), "bias": layer["bias"]}
    return normalised, turned


def _unit(vector: Array) -> Array:
    return vector / jnp.maximum(jnp.linalg.norm(vector), 1e-12)
