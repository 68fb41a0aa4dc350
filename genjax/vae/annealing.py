"""Annealing of chains from a distribution that is easy to draw from to p(e|y), which shares out the modes.

Chains hardly cross from mode to mode, so where they start decides how many draws a mode gets. Annealing weighs the
chains on their way, in the manner of Del Moral, Doucet and Jasra 2006 (sequential Monte Carlo samplers).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from genjax.vae.inference import effective_share, resample, uniform
from genjax.vae.model import Posterior

TARGET_ACCEPTANCE = 0.8
"""Acceptance rate at which step sizes aim."""

LogProb = Callable[[Array], Array]
"""Log density of e [b, k, d], up to a constant: [b, k]."""
Move = Callable[[LogProb, Array, Array, Array], tuple[Array, Array]]
"""Moves e under a density, by steps of a log size [b, k], with the keys of step t. It returns e and the chance [b, k]
that it was accepted."""


class Start(NamedTuple):
    """The mixture q(e) of k normals from which chains start, one chain from each."""

    normals: Posterior
    """Means and log standard deviations [b, k, d]."""

    def log_prob(self, e: Array) -> Array:
        """Returns log q(e) up to a constant: [b, k]."""
        each = jax.tree.map(lambda leaf: leaf[:, None], self.normals).log_prob(e[:, :, None])
        return jax.nn.logsumexp(each, axis=2)


def start_at(modes: Array, height: Array, log_sigma: Array, num: int) -> Start:
    """Makes q(e) of `num` normals, half about the modes [b, m, d], best first, half of them the prior.

    The prior reaches modes that no restart found. `log_sigma` [b, 1, d] is that of the normals about modes.
    """
    modes = jnp.where(jnp.isfinite(height)[..., None], modes, modes[:, :1])  # the best stands in for a diverged one
    # Chains are dealt to the modes in turn, the best first; those of one mode lie together.
    at_modes = modes[:, np.sort(np.arange((num + 1) // 2) % modes.shape[1])]
    prior = jnp.zeros((len(modes), num // 2, modes.shape[2]))
    log_sigma = jnp.broadcast_to(log_sigma, at_modes.shape)
    return Start(Posterior(jnp.concatenate([at_modes, prior], axis=1), jnp.concatenate([log_sigma, prior], axis=1)))


class Population(NamedTuple):
    """Chains of each image on their way."""

    e: Array
    """[b, k, d]"""
    log_size: Array
    """[b, k], log of the step size."""
    log_weight: Array
    """[b, k]"""
    ancestor: Array
    """[b, k], number of the first chain that each descends from."""


def anneal(
    start: Start, log_joint: LogProb, move: Move, image_keys: Array, noise: Array, num_steps: int
) -> tuple[Array, Array, Array]:
    """Leads chains from q(e) to p(e|y) through q^(1 - s) p^s.

    Each chain adapts its step size. Returns e, their log step sizes, and the health [b]: the effective number of first
    chains that the last ones descend from, as a share of their number k. `noise` is [b, k, d].
    """
    num = noise.shape[1]

    def step(t: Array, chains: Population) -> Population:
        # From s = t / n to (t + 1) / n the density of e gains the factor (p / q)^(1 / n).
        log_weight = chains.log_weight + (log_joint(chains.e) - start.log_prob(chains.e)) / num_steps
        weight = jax.nn.softmax(log_weight, axis=1)
        # Resampling loses chains: wait until the weights differ much, or have to be equal as the last step begins.
        due = ((effective_share(weight) < 0.5) | (t == num_steps - 1))[:, None]
        picked = jnp.where(due, systematic(weight, uniform(_fold(image_keys, t))), jnp.arange(num)[None])
        e, log_size, ancestor = (_take(leaf, picked) for leaf in (chains.e, chains.log_size, chains.ancestor))
        s = (t + 1) / num_steps
        e, chance = move(lambda e: (1 - s) * start.log_prob(e) + s * log_joint(e), e, log_size, t)
        # Robbins and Monro 1951: lengthen the steps if more is accepted than aimed at, else shorten them.
        log_size = log_size + 0.3 * (chance - TARGET_ACCEPTANCE)
        return Population(e, log_size, jnp.where(due, 0.0, log_weight), ancestor)

    zeros = jnp.zeros(noise.shape[:2])
    first = jnp.broadcast_to(jnp.arange(num)[None], zeros.shape)
    chains = Population(start.normals.sample(noise), zeros + jnp.log(0.2), zeros, first)
    chains = lax.fori_loop(0, num_steps, step, chains)
    # With n_a chains from ancestor a, k / sum n_a^2: their effective number, as a share of k.
    related = chains.ancestor[:, :, None] == chains.ancestor[:, None]
    health = 1 / jnp.sum(jnp.mean(related, axis=2), axis=1)
    # Chains of one mode are neighbours: shuffle them, so that the first draws are like any others.
    order = jax.vmap(lambda key: jax.random.permutation(key, num))(_fold(image_keys, num_steps)[:, 0])
    return _take(chains.e, order), _take(chains.log_size, order), health


def systematic(weight: Array, uniform: Array) -> Array:
    """Picks k rows by their weights [b, k], at even places shifted by a uniform number [b, 1]: [b, k].

    Row i is picked k * weight[i] times, rounded up or down (Kitagawa 1996).
    """
    return resample(weight, (jnp.arange(weight.shape[1])[None] + uniform) / weight.shape[1])


def _fold(image_keys: Array, t: Array | int) -> Array:
    """Makes keys [b, 1] of step t."""
    return jax.vmap(lambda key: jax.random.fold_in(key, t))(image_keys)[:, None]


def _take(leaf: Array, picked: Array) -> Array:
    """Picks the chains `picked` [b, k] from [b, k, ...]."""
    return jnp.take_along_axis(leaf, jnp.expand_dims(picked, range(2, leaf.ndim)), axis=1)
