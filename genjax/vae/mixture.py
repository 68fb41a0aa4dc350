"""Mixtures of normals of the noise e, which may take the place of the prior N(0, I) after training."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.linalg import solve_triangular

from genjax.vae.posterior import log_normal


class Mixture(NamedTuple):
    """Mixture of k normals, component i with e = mean[i] + scale[i] noise."""

    log_weight: Any
    """[k], logarithms of weights whose sum is 1."""
    mean: Any
    """[k, d]."""
    scale: Any
    """[k, d], standard deviations; or [k, d, d], the Cholesky factors of the covariances, lower triangular."""

    def log_prob(self, e: Array) -> Array:
        """Returns log p(e) + (d / 2) log 2 pi: [b, d] to [b]."""

        def component(mean: Array, scale: Array) -> Array:
            centred = e - mean[None]
            diagonal = scale if scale.ndim == 1 else jnp.diagonal(scale)
            noise = centred / scale[None] if scale.ndim == 1 else solve_triangular(scale, centred.T, lower=True).T
            return log_normal(noise) - jnp.sum(jnp.log(diagonal))

        each = jax.vmap(component)(self.mean, self.scale)  # [k, b]
        return jax.nn.logsumexp(each + self.log_weight[:, None], axis=0)

    def sample(self, uniform: Array, noise: Array) -> Array:
        """Returns draws [b, d]: uniform numbers [b] choose components, standard normal noise [b, d] does the rest."""
        # From the right, so that no number chooses a component of weight 0; the sum of weights may round to below 1.
        chosen = jnp.searchsorted(jnp.cumsum(jnp.exp(self.log_weight)), uniform, side="right")
        chosen = jnp.minimum(chosen, len(self.log_weight) - 1)
        scale = self.scale[chosen]
        scaled = scale * noise if scale.ndim == 2 else jnp.einsum("bij,bj->bi", scale, noise)
        return self.mean[chosen] + scaled
