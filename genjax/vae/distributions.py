"""Distributions p(x|z) of images [..., h, w, c]: log probability in nats, mean, draws."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys


class Bernoulli(NamedTuple):
    """Independent binary pixels; grey values count as expected values, and their log_prob is not normalised."""

    logits: Array  # [..., h, w, c]

    def log_prob(self, x: Array) -> Array:
        """Returns log p(x|z) of images in [0, 1]: [...]."""
        return _sum_over_pixels(self.log_prob_per_pixel(x))

    def log_prob_per_pixel(self, x: Array) -> Array:
        """Returns the summands of `log_prob`: [..., h, w, c]."""
        # x log s(l) + (1 - x) log(1 - s(l)) = x l - softplus(l): finite, with finite gradients, for logits of any size.
        return x * self.logits - jax.nn.softplus(self.logits)

    def mean(self) -> Array:
        """Returns E[x|z], in [0, 1]."""
        return jax.nn.sigmoid(self.logits)

    def variance(self) -> Array:
        """Returns the variance of each pixel given z: [..., h, w, c]."""
        return jax.nn.sigmoid(self.logits) * jax.nn.sigmoid(-self.logits)

    def sample(self, image_keys: Array) -> Array:
        """Draws x from p(x|z), each image from its own of `image_keys` [...]."""
        uniform = keys.uniform(image_keys.reshape(-1), self.logits.shape[-3:]).reshape(self.logits.shape)
        return (uniform < self.mean()).astype(self.logits.dtype)


class Gaussian(NamedTuple):
    """Independent Gaussian pixels with one sigma.

    With sigma^2 = 1/2, log p(x) = -||x - mean||^2 - (D / 2) log pi for D pixels.
    """

    location: Array  # means [..., h, w, c]
    log_sigma: Array  # []; its logarithm, so that a learned sigma stays positive

    def log_prob(self, x: Array) -> Array:
        """Returns the log density of images: [...]."""
        return _sum_over_pixels(self.log_prob_per_pixel(x))

    def log_prob_per_pixel(self, x: Array) -> Array:
        """Returns the summands of `log_prob`: [..., h, w, c]."""
        scaled = (x - self.location) * jnp.exp(-self.log_sigma)
        return -0.5 * scaled**2 - self.log_sigma - 0.5 * math.log(2 * math.pi)

    def mean(self) -> Array:
        """Returns E[x|z], near [0, 1]."""
        return self.location

    def variance(self) -> Array:
        """Returns the variance of all pixels given z: []."""
        return jnp.exp(2 * self.log_sigma)

    def sample(self, image_keys: Array) -> Array:
        """Draws x from p(x|z), each image from its own of `image_keys` [...]."""
        num_pixels = math.prod(self.location.shape[-3:])
        noise = keys.normal(image_keys.reshape(-1), num_pixels).reshape(self.location.shape)
        return self.location + jnp.exp(self.log_sigma) * noise


Distribution = Bernoulli | Gaussian


def _sum_over_pixels(x: Array) -> Array:
    return jnp.sum(x, axis=(-3, -2, -1))
