"""A VAE of one latent whose posterior has two modes of known mass, and draws from it by any method."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from genjax import keys
from genjax.vae import restoration
from genjax.vae.distributions import Gaussian
from genjax.vae.inference import Target
from genjax.vae.model import Posterior
from genjax.vae.operators import Mask
from genjax.vae.restoration import Settings

NUM, Y = 64, 1.5
"""Number of images that are all alike, and their observed pixel."""
PARAMS = {"slope": 1.0, "sigma": 0.1, "wall": 1e6, "seen": 1.0, "unseen": 0.0, "log_sigma": -1.0}


class Folded(NamedTuple):
    """Two pixels: the observed one is e or, below 0, -slope e; the missing one is e.

    Beyond the wall they and their gradients are NaN. The encoder's mean is `seen` times the first pixel plus `unseen`
    times the second.
    """

    latent_dim: int = 1

    def encode(self, params, images):
        first, second = images[:, 0, 0], images[:, 0, 1]
        mean = params["seen"] * first + params["unseen"] * second
        return Posterior(mean, jnp.full_like(mean, params["log_sigma"]))

    def generate(self, params, e):
        return (e,)

    def decode(self, params, groups):
        (e,) = groups
        pixels = jnp.concatenate([jnp.where(e > 0, e, -params["slope"] * e), e], axis=1)
        pixels = pixels + 0 * jnp.sqrt(params["wall"] - jnp.abs(e))
        return Gaussian(pixels[:, None, :, None], jnp.log(params["sigma"]))


def target(**params):
    """The target of NUM images; PARAMS with `params` changed."""
    missing = np.broadcast_to(np.array([False, True]).reshape(1, 1, 1, 2, 1), (NUM, 1, 1, 2, 1))
    return Target(Folded(), PARAMS | params, Mask(missing), jnp.full((NUM, 1, 1, 2, 1), Y))


def draw(method, num, config, **params):
    """Draws e [NUM, num], and the health [NUM]."""
    e, health, _ = _drawn(method, num, config, params)
    return np.asarray(e[..., 0]), np.asarray(health)


def diagnose_draws(method, num, config, **params):
    """Draws e [NUM, num], and the diagnostics of their chains."""
    e, _, diagnostics = _drawn(method, num, config, params)
    return np.asarray(e[..., 0]), jax.tree.map(np.asarray, diagnostics)


def _drawn(method, num, config, params):
    return _compiled(method, num, config)(PARAMS | params)


@functools.cache
def _compiled(method, num, config):
    @jax.jit
    def run(params):
        image_keys = keys.per_example(keys.root_key(0), jnp.arange(NUM))
        init = jnp.full((NUM, 1, 1, 2, 1), Y)
        return restoration.draw_latents(target(**params), image_keys, init, Settings(method, num, config))

    return run


def right_mass(slope):
    """Mass of e > 0: that line's p(y) over both lines', with y ~ N(0, slope^2 + sigma^2)."""
    right, left = (np.exp(-0.5 * Y**2 / v) / np.sqrt(v) for v in (1 + 0.01, slope**2 + 0.01))
    return right / (right + left)
