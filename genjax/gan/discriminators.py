"""Discriminators of images [b, h, w, c] in [-1, 1], and spectral normalisation of their kernels.

discriminator = PatchDiscriminator(base_channels=64, num_layers=3)
params = init(discriminator, key, image_shape=(128, 128, 3))
logits = apply(discriminator, params, images)
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from genjax.gan import params as parameters
from genjax.gan.params import apply
from genjax.nn import layers
from genjax.nn.layers import NormKind
from genjax.optim import Params

__all__ = [
    "PatchDiscriminator",
    "PixelDiscriminator",
    "apply",
    "init",
    "init_spectral",
    "normalise_all",
    "spectral_normalise",
]

SingularVectors = dict[str, Array]  # a unit vector [out] for each layer, by its name


class PatchDiscriminator(nn.Module):
    """PatchGAN (Isola et al. 2017): a logit for each of many overlapping patches."""

    base_channels: int = 64
    num_layers: int = 3  # convolutions of stride 2; 1 to 5 see patches of 16, 34, 70, 142, 286 pixels
    norm: NormKind = "instance"
    affine: bool = False
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [b, h, w, c] to logits [b, h', w', 1]. With 3 layers, sides of 256, 128, 64, 32 become 30, 14, 6, 2."""
        input_dtype = x.dtype  # also the dtype of the logits: losses are float32 even if layers compute in bfloat16
        # The reference halves the size in all layers but the last two, and has no norm on the first.
        for layer in range(self.num_layers + 1):
            channels, stride = self.base_channels * min(2**layer, 8), 2 if layer < self.num_layers else 1
            x = layers.Conv(channels, 4, stride, self.dtype)(x)
            x = layers.Norm(self.norm, self.affine)(_leaky_relu, x) if layer > 0 else _leaky_relu(x)
        return layers.Conv(1, 4, dtype=self.dtype)(x).astype(input_dtype)


class PixelDiscriminator(nn.Module):
    """A logit for each pixel, from 1x1 convolutions (PixelGAN: Isola et al. 2017)."""

    base_channels: int = 64
    norm: NormKind = "instance"
    affine: bool = False
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [b, h, w, c] to logits [b, h, w, 1]."""
        input_dtype = x.dtype  # as in PatchDiscriminator
        x = _leaky_relu(nn.Conv(self.base_channels, (1, 1), dtype=self.dtype)(x))
        x = nn.Conv(2 * self.base_channels, (1, 1), dtype=self.dtype)(x)
        x = layers.Norm(self.norm, self.affine)(_leaky_relu, x)
        return nn.Conv(1, (1, 1), dtype=self.dtype)(x).astype(input_dtype)


def init(discriminator: nn.Module, key: Array, image_shape: tuple[int, ...]) -> Params:
    """Draws parameters for images of `image_shape` (height, width, channels)."""
    return parameters.draw(parameters.shapes(discriminator, image_shape), key)


def init_spectral(params: Params, key: Array) -> SingularVectors:
    """Draws a unit vector for each layer, the start of the power iterations in `spectral_normalise`."""
    # A bias has the layer's number of outputs, and its type. A norm has no kernel.
    like = {name: layer["bias"] for name, layer in params.items() if "kernel" in layer}
    layer_keys = dict(zip(sorted(like), jax.random.split(key, len(like)), strict=True))
    return {name: _unit(jax.random.normal(layer_keys[name], of.shape, of.dtype)) for name, of in like.items()}


def spectral_normalise(params: Params, vectors: SingularVectors) -> tuple[Params, SingularVectors]:
    """Divides kernels by estimates of their largest singular value; returns the vectors after one power iteration."""
    normalised, turned = dict(params), {}
    with jax.default_matmul_precision("highest"):  # also where the layers compute in bfloat16
        for name in vectors:
            kernel, bias = params[name]["kernel"], params[name]["bias"]
            matrix = kernel.reshape(-1, kernel.shape[-1])
            # Miyato et al. 2018, algorithm 1: v = W^T u / |W^T u|, u = W v / |W v|, and W / (u^T W v).
            # One iteration a step is enough: kernels change slowly, and the vectors are kept.
            fixed = jax.lax.stop_gradient(matrix)  # gradients flow through the kernels alone
            left = _unit(fixed @ vectors[name])
            turned[name] = _unit(left @ fixed)
            normalised[name] = {"kernel": kernel / (left @ matrix @ turned[name]), "bias": bias}
    return normalised, turned


def normalise_all(
    params: dict[str, Params], vectors: dict[str, SingularVectors]
) -> tuple[dict[str, Params], dict[str, SingularVectors]]:
    """Applies `spectral_normalise` to the networks that have `vectors`; returns all networks, and the vectors after."""
    pairs = {name: spectral_normalise(params[name], vectors[name]) for name in vectors}
    return params | {name: pair[0] for name, pair in pairs.items()}, {name: pair[1] for name, pair in pairs.items()}


def _leaky_relu(x: Array) -> Array:
    return nn.leaky_relu(x, 0.2)


def _unit(vector: Array) -> Array:
    return vector / jnp.maximum(jnp.linalg.norm(vector), 1e-12)
