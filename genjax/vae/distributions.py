"""Distributions p(x|z) of images [..., h, w, c]: log probability in nats, mean, draws."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys
from genjax.vae.posterior import bounded


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


class LogisticMixture(NamedTuple):
    """Discretised logistic mixture over 256 levels (Salimans et al. 2017): k components share a pixel's channels.

    In a component, the mean of a channel is linear in the levels of the channels before it. Levels are in [-1, 1].
    """

    logits: Array  # [..., h, w, k], of the components
    means: Array  # [..., h, w, c, k], where all earlier channels are 0
    log_scales: Array  # [..., h, w, c, k]
    slopes: Array  # [..., h, w, c (c - 1) / 2, k]: of channel 1 by 0, of 2 by 0, of 2 by 1, ...

    @staticmethod
    def num_outputs(channels: int, mixtures: int) -> int:
        """Returns the number of a decoder's outputs for a pixel."""
        return mixtures * (1 + 2 * channels + channels * (channels - 1) // 2)

    @classmethod
    def from_outputs(cls, x: Array, channels: int) -> "LogisticMixture":
        """Makes it from a decoder's outputs [..., h, w, `num_outputs`]."""
        pairs = channels * (channels - 1) // 2
        x = x.reshape(*x.shape[:-1], 1 + 2 * channels + pairs, -1)
        logits, means, log_scales, slopes = jnp.split(x, [1, 1 + channels, 1 + 2 * channels], axis=-2)
        return cls(logits[..., 0, :], means, bounded(log_scales), jnp.tanh(slopes))

    def log_prob(self, x: Array) -> Array:
        """Returns log p(x|z) of images in [0, 1], taken to the nearest of 256 levels: [...]."""
        return _sum_over_pixels(self.log_prob_per_pixel(x))

    def log_prob_per_pixel(self, x: Array) -> Array:
        """Returns the summands of `log_prob`, of a channel given those before it: [..., h, w, c]."""
        level = jnp.round(jnp.clip(x, 0, 1) * 255) / 127.5 - 1
        # [..., h, w, c, k]: the sums are over a component's channels so far, its weight included.
        sums = jnp.cumsum(self._log_levels(level), axis=-2) + jax.nn.log_softmax(self.logits)[..., None, :]
        joint = jax.nn.logsumexp(sums, axis=-1)
        return jnp.diff(joint, axis=-1, prepend=jnp.zeros_like(joint[..., :1]))

    def mean(self) -> Array:
        """Returns E[x|z] without the ends of the scale, clipped to [0, 1]: [..., h, w, c]."""
        means: list[Array] = []
        for channel in range(self.means.shape[-2]):
            # The means of earlier channels stand for their levels.
            means.append(self._mean(channel, means))
        mean = jnp.sum(jnp.stack(means, axis=-2) * jax.nn.softmax(self.logits)[..., None, :], axis=-1)
        return jnp.clip((mean + 1) / 2, 0, 1)

    def sample(self, image_keys: Array) -> Array:
        """Draws x from p(x|z), each image from its own of `image_keys` [...]."""
        *image, channels, _ = self.means.shape[-4:]
        shape = (*image, channels + 1)
        uniform = keys.uniform(image_keys.reshape(-1), shape).reshape(*image_keys.shape, *shape)
        below = jnp.cumsum(jax.nn.softmax(self.logits), axis=-1)
        # The component into whose share of [0, 1) the first number falls, one for all channels.
        picked = jnp.argmax(uniform[..., :1] * below[..., -1:] < below, axis=-1)[..., None]
        levels: list[Array] = []
        for channel in range(channels):
            mean, log_scale = (
                jnp.take_along_axis(each, picked, axis=-1)[..., 0]
                for each in (
                    self._mean(channel, [level[..., None] for level in levels]),
                    self.log_scales[..., channel, :],
                )
            )
            u = uniform[..., channel + 1]
            drawn = mean + jnp.exp(log_scale) * (jnp.log(u) - jnp.log1p(-u))  # the quantile function of the logistic
            levels.append(jnp.round((jnp.clip(drawn, -1, 1) + 1) * 127.5) / 127.5 - 1)
        return (jnp.stack(levels, axis=-1) + 1) / 2

    def _mean(self, channel: int, earlier: list[Array]) -> Array:
        """Returns the components' means [..., h, w, k] of a channel, given the levels of the earlier ones."""
        first = channel * (channel - 1) // 2  # slopes before those of this channel
        return self.means[..., channel, :] + sum(
            (self.slopes[..., first + i, :] * level for i, level in enumerate(earlier)), start=0.0
        )

    def _log_levels(self, level: Array) -> Array:
        """Returns the log probability of levels [..., h, w, c] by each component: [..., h, w, c, k]."""
        channels = range(level.shape[-1])
        parts = [level[..., channel, None] for channel in channels]
        each = [self._mean(channel, parts[:channel]) for channel in channels]
        means = jnp.stack(jnp.broadcast_arrays(*each), axis=-2)
        inverse = jnp.exp(-self.log_scales)
        upper, lower = ((level[..., None] + half - means) * inverse for half in (1 / 255, -1 / 255))
        # s(a) - s(b) = s(a) s(-b) (1 - exp(b - a)): no difference of numbers near 1, so finite for means of any size.
        inside = jnp.log(-jnp.expm1(-2 / 255 * inverse)) + jax.nn.log_sigmoid(upper) + jax.nn.log_sigmoid(-lower)
        darkest, brightest = level[..., None] < -0.999, level[..., None] > 0.999
        # The ends hold all that lies beyond them, so that 256 levels sum to 1.
        return jnp.where(darkest, jax.nn.log_sigmoid(upper), jnp.where(brightest, jax.nn.log_sigmoid(-lower), inside))


Distribution = Bernoulli | Gaussian | LogisticMixture


def _sum_over_pixels(x: Array) -> Array:
    return jnp.sum(x, axis=(-3, -2, -1))
