"""Encoder and decoder networks, fully connected or convolutional, such as `MlpEncoder((500, 500), 32)`.

An encoder maps images [b, h, w, c] in [0, 1] to the mean and the log standard deviation of q(z|x), both [b, d]. A
decoder maps latents [b, d] to the logits or means [b, h, w, c] of p(x|z).
"""

import math
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from genjax.nn.layers import UpConv

Activation = Callable[[Array], Array]


class MlpEncoder(nn.Module):
    """Fully connected encoder with one hidden layer for each of `hidden_sizes`; it may see pixels in [-1, 1]."""

    hidden_sizes: tuple[int, ...]
    latent_dim: int
    activation: Activation = nn.gelu
    dtype: jnp.dtype | None = None
    centred: bool = True

    @nn.compact
    def __call__(self, images: Array) -> tuple[Array, Array]:
        """Maps [b, h, w, c] to mean and log sigma [b, d]."""
        x = (2 * images - 1 if self.centred else images).reshape(images.shape[0], -1)
        for size in self.hidden_sizes:
            x = self.activation(nn.Dense(size, dtype=self.dtype)(x))
        return _mean_and_log_sigma(nn.Dense(2 * self.latent_dim, dtype=self.dtype)(x))


class ConvEncoder(nn.Module):
    """Convolutional encoder: a stride-2 layer for each of `hidden_sizes`, then a dense layer of 4 * the last size."""

    hidden_sizes: tuple[int, ...]
    latent_dim: int
    activation: Activation = nn.gelu
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, images: Array) -> tuple[Array, Array]:
        """Maps [b, h, w, c] to mean and log sigma [b, d]."""
        x = 2 * images - 1
        for channels in self.hidden_sizes:
            x = self.activation(nn.Conv(channels, (3, 3), strides=2, dtype=self.dtype)(x))
        x = self.activation(nn.Dense(4 * self.hidden_sizes[-1], dtype=self.dtype)(x.reshape(x.shape[0], -1)))
        return _mean_and_log_sigma(nn.Dense(2 * self.latent_dim, dtype=self.dtype)(x))


class MlpDecoder(nn.Module):
    """Fully connected decoder; `hidden_sizes` are those of its encoder, used from last to first."""

    hidden_sizes: tuple[int, ...]
    image_shape: tuple[int, int, int]
    activation: Activation = nn.gelu
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, z: Array) -> Array:
        """Maps [b, d] to logits or means [b, h, w, c]."""
        x = z
        for size in reversed(self.hidden_sizes):
            x = self.activation(nn.Dense(size, dtype=self.dtype)(x))
        # No sigmoid: these are logits for a Bernoulli likelihood, means for a Gaussian one.
        return nn.Dense(math.prod(self.image_shape), dtype=self.dtype)(x).reshape(-1, *self.image_shape)


class ConvDecoder(nn.Module):
    """Convolutional decoder, the mirror image of `ConvEncoder` with the same `hidden_sizes`."""

    hidden_sizes: tuple[int, ...]
    image_shape: tuple[int, int, int]
    activation: Activation = nn.gelu
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, z: Array) -> Array:
        """Maps [b, d] to logits or means [b, h, w, c]."""
        (height, width, channels), last = self.image_shape, self.hidden_sizes[-1]
        scale = 2 ** len(self.hidden_sizes)
        # Each layer doubles the size, so an image of another size is decoded larger and cropped.
        top, left = -(-height // scale), -(-width // scale)
        x = self.activation(nn.Dense(4 * last, dtype=self.dtype)(z))
        x = self.activation(nn.Dense(top * left * last, dtype=self.dtype)(x)).reshape(-1, top, left, last)
        for size in reversed(self.hidden_sizes[:-1]):  # the last doubling, below, makes the pixels
            x = self.activation(UpConv(size, self.dtype)(x))
        return UpConv(channels, self.dtype)(x)[:, :height, :width]


def _mean_and_log_sigma(x: Array) -> tuple[Array, Array]:
    mean, log_sigma = jnp.split(x, 2, axis=-1)
    return mean, log_sigma
