"""Posteriors of noise, and the latents that they draw."""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

# Standard deviations, of posteriors, priors and a learned likelihood, stay within exp(-6) and exp(6).
LOG_SIGMA_BOUND = 6.0

Groups = tuple[Array, ...]  # z_1, ..., z_L, each [b, ...]


class Posterior(NamedTuple):
    """Normal posterior q(e|x) = N(mean, diag(exp(2 log_sigma))) of the noise."""

    mean: Array  # [..., d]
    log_sigma: Array  # [..., d]

    def sample(self, noise: Array) -> Array:
        """Returns e = mean + sigma * noise, all [..., d] (the reparametrisation of Kingma and Welling 2014)."""
        return self.mean + jnp.exp(self.log_sigma) * noise

    def noise(self, e: Array) -> Array:
        """Returns the noise of which `sample` makes e: [..., d]."""
        return (e - self.mean) * jnp.exp(-self.log_sigma)

    def log_prob(self, e: Array) -> Array:
        """Returns log q(e|x) + (d / 2) log 2 pi: [...]."""
        # Change of variables: the Jacobian of e -> (e - mean) / sigma is the product of 1 / sigma.
        return log_normal(self.noise(e)) - jnp.sum(self.log_sigma, axis=-1)

    def kl(self) -> Array:
        """Returns KL(q(e|x) || N(0, I)) in nats: [...] (Kingma and Welling 2014, appendix B)."""
        return jnp.sum(self.kl_per_dimension(), axis=-1)

    def kl_per_dimension(self) -> Array:
        """Returns the summands of `kl`: [..., d]."""
        return 0.5 * (jnp.exp(2 * self.log_sigma) + self.mean**2 - 1 - 2 * self.log_sigma)

    def log_ratio_per_dimension(self, noise: Array) -> Array:
        """Returns log q(e|x) - log p(e) of each dimension at e = `sample(noise)`: [..., d]; its mean is the KL."""
        return 0.5 * (self.sample(noise) ** 2 - noise**2) - self.log_sigma


class Latents(NamedTuple):
    """One draw from q(z|x), from standard normal noise."""

    groups: Groups
    posterior: Posterior
    """Normals of e, [b, d], those of a group given what was drawn before it. So q(e|x) at the draw
    e = posterior.sample(noise) is exp(posterior.log_prob(e))."""
    kl_per_dimension: Array
    """[b, d] in nats; the mean of the sum over draws is KL(q(z|x) || p(z)). For one group it does not vary."""

    @property
    def kl(self) -> Array:
        """Computes the KL [b], summed over dimensions."""
        return jnp.sum(self.kl_per_dimension, axis=-1)

    @property
    def kl_per_group(self) -> Array:
        """Sums over the dimensions of each group: [b, groups]."""
        sizes = [math.prod(group.shape[1:]) for group in self.groups]
        ends = [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)]
        parts = jnp.split(self.kl_per_dimension, ends, axis=1)
        return jnp.stack([jnp.sum(part, axis=1) for part in parts], axis=1)


def log_normal(e: Array) -> Array:
    """Returns the log density of N(0, I) plus (d / 2) log 2 pi: [..., d] to [...]."""
    return -0.5 * jnp.sum(e**2, axis=-1)


def bounded(log_sigma: Array) -> Array:
    """Bounds log sigma smoothly; unlike those of a clip, gradients never vanish exactly."""
    return LOG_SIGMA_BOUND * jnp.tanh(log_sigma / LOG_SIGMA_BOUND)
