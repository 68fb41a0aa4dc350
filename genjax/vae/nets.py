"""Encoders q(z|x) and decoders p(x|z), fully connected or convolutional, for any image shape."""

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from genjax.nn import layers
from genjax.vae.config import VaeRun

LOG_SIGMA_BOUND = 6.0
"""Standard deviations, of the posterior and of a learned likelihood, stay within exp(-6) and exp(6)."""


class Posterior(NamedTuple):
    """q(z|x) = N(mean, diag(exp(2 log_sigma))); both [b, d]."""

    mean: Array
    log_sigma: Array


class Pixels(NamedTuple):
    """What p(x|z) needs: logits or means [b, h, w, c], and log sigma [] (which a Bernoulli likelihood ignores)."""

    location: Array
    log_sigma: Array


class Encoder(nn.Module):
    """Images in [0, 1] to the posterior's mean and log standard deviation."""

    config: VaeRun

    @nn.compact
    def __call__(self, images: Array) -> Posterior:
        """[b, h, w, c] to two times [b, d]."""
        vae, dtype = self.config.vae, layers.compute_dtype(self.config.precision)
        activation = layers.ACTIVATIONS[vae.activation]
        x = 2 * images - 1
        if vae.architecture == "conv":
            for channels in vae.hidden:
                x = activation(nn.Conv(channels, (3, 3), strides=2, dtype=dtype)(x))
        x = x.reshape(len(x), -1)
        for width in vae.hidden if vae.architecture == "mlp" else (_dense_width(vae.hidden),):
            x = activation(nn.Dense(width, dtype=dtype)(x))
        mean, log_sigma = jnp.split(nn.Dense(2 * vae.latent_dim, dtype=dtype)(x), 2, axis=-1)
        return Posterior(mean.astype(images.dtype), _bounded(log_sigma.astype(images.dtype)))


class Decoder(nn.Module):
    """Latents to the parameters of p(x|z)."""

    config: VaeRun

    @nn.compact
    def __call__(self, z: Array) -> Pixels:
        """[b, d] to logits or means [b, h, w, c]."""
        vae, dtype = self.config.vae, layers.compute_dtype(self.config.precision)
        activation = layers.ACTIVATIONS[vae.activation]
        ((height, width, channels),) = self.config.data.image_shapes
        if vae.architecture == "mlp":
            x = z
            for features in reversed(vae.hidden):
                x = activation(nn.Dense(features, dtype=dtype)(x))
            x = nn.Dense(height * width * channels, dtype=dtype)(x).reshape(-1, height, width, channels)
        else:
            scale = 2 ** len(vae.hidden)
            top, left = -(-height // scale), -(-width // scale)  # odd sizes: decoded larger, then cut
            x = activation(nn.Dense(_dense_width(vae.hidden), dtype=dtype)(z))
            x = activation(nn.Dense(top * left * vae.hidden[-1], dtype=dtype)(x)).reshape(-1, top, left, vae.hidden[-1])
            for features in reversed(vae.hidden[:-1]):
                x = activation(layers.UpConv(features, dtype)(x))
            x = layers.UpConv(channels, dtype)(x)[:, :height, :width]
        return Pixels(x.astype(z.dtype), self._log_sigma())

    def _log_sigma(self) -> Array:
        if self.config.vae.likelihood == "gaussian_learned":
            start = nn.initializers.constant(math.log(self.config.vae.sigma))
            return _bounded(self.param("log_sigma", start, ()))
        return jnp.log(self.config.vae.sigma)


def _dense_width(hidden: tuple[int, ...]) -> int:
    """The fully connected layer between convolutions and latents."""
    return 4 * hidden[-1]


def _bounded(log_sigma: Array) -> Array:
    """Keeps log sigma within the bound, smoothly: unlike a clip, gradients never vanish exactly."""
    return LOG_SIGMA_BOUND * jnp.tanh(log_sigma / LOG_SIGMA_BOUND)


def init_params(config: VaeRun, key: Array) -> dict[str, Any]:
    """Fresh parameters of both networks."""
    encoder_key, decoder_key = jax.random.split(key)
    return {
        "encoder": Encoder(config).init(encoder_key, jnp.zeros((1, *config.data.image_shapes[0])))["params"],
        "decoder": Decoder(config).init(decoder_key, jnp.zeros((1, config.vae.latent_dim)))["params"],
    }


def encode(config: VaeRun, params: dict[str, Any], images: Array) -> Posterior:
    """q(z|x) of images [b, h, w, c] in [0, 1]."""
    posterior: Any = Encoder(config).apply({"params": params["encoder"]}, images)
    return posterior


def decode(config: VaeRun, params: dict[str, Any], z: Array) -> Pixels:
    """p(x|z) of latents [b, d]."""
    pixels: Any = Decoder(config).apply({"params": params["decoder"]}, z)
    return pixels
