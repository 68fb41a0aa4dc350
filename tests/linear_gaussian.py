"""A linear VAE with Gaussian pixels, whose posterior and log p(x) have closed forms."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import scipy.stats

from genjax.vae.distributions import Gaussian
from genjax.vae.posterior import Latents, Posterior


@dataclasses.dataclass(frozen=True)
class LinearGaussian:
    """x = W z + b + sigma e, with orthogonal columns in W and 6 pixels.

    JAX remembers an array that it has rounded to float32, and takes its rounded values again in float64: so W and b
    are copied where they become part of a program.
    """

    widen: float = 0.0
    """Added to the posterior's exact log sigma."""
    sigma: float = 0.7

    latent_dim = 2
    w = np.linalg.qr(np.random.default_rng(3).normal(size=(6, 2)))[0] * [1.5, 0.4]
    b = np.random.default_rng(4).normal(size=6)
    x = np.random.default_rng(5).normal(size=(5, 6)) @ np.diag([2, 1, 1, 0.5, 1, 1]) + b

    @property
    def precision(self):
        return 1 + (self.w**2).sum(0) / self.sigma**2

    def encode(self, params, images):
        mean = (images.reshape(-1, 6) - self.b[None].copy()) @ self.w.copy() / self.sigma**2 / self.precision[None]
        return Posterior(mean, jnp.broadcast_to(-0.5 * np.log(self.precision) + self.widen, mean.shape))

    def observe(self, params, images):
        return self.encode(params, images)

    def draw(self, params, observed, noise):
        return Latents((observed.sample(noise),), observed, observed.kl_per_dimension())

    def infer(self, params, images, noise):
        return self.draw(params, self.encode(params, images), noise)

    def posterior_at(self, params, observed, e):
        return observed

    def generate(self, params, e):
        return (e,)

    def decode(self, params, groups):
        return Gaussian((groups[0] @ self.w.T.copy() + self.b[None].copy()).reshape(-1, 6, 1, 1), jnp.log(self.sigma))

    def images(self):
        return jnp.asarray(self.x).reshape(5, 6, 1, 1)

    def log_prob(self, x=None):
        cov = self.w @ self.w.T + self.sigma**2 * np.eye(6)
        return scipy.stats.multivariate_normal(self.b, cov).logpdf(self.x if x is None else x)
