"""Bounds on log p(x) from both sides: annealed importance sampling, and its reverse on simulated images.

Annealed importance sampling (Neal 2001) leads chains from q(e|x) to p(e|x) through q^(1 - s) p^s; the mean of its
weights is an unbiased estimate of p(x), so its log is a lower bound in expectation. On an image drawn from the model,
the latents that it was drawn with are an exact draw from p(e|x). Chains that start there and go back have weights whose
mean estimates 1 / p(x), an upper bound (bidirectional Monte Carlo: Grosse, Ancha and Roy 2016; on VAEs Wu et al. 2017).
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from genjax import keys
from genjax.checks import flag, require
from genjax.data import augment
from genjax.data.config import DataConfig
from genjax.optim import Params
from genjax.vae.annealing import TARGET_ACCEPTANCE
from genjax.vae.inference import Target, chain_keys, normal, split_keys
from genjax.vae.likelihood import log_joint, target_of
from genjax.vae.mcmc import hamiltonian_step, step_keys
from genjax.vae.model import Model, Posterior, draw_noise

PILOTS = 4
"""Chains of each image that find the step sizes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnnealingConfig:
    """Settings of the chains; more of each make the bounds tighter."""

    num_chains: int = 16
    """Chains of each image, in either direction."""
    num_steps: int = 200
    """Distributions between q(e|x) and p(e|x), with a step of the chains at each."""
    num_integration_steps: int = 5
    """Leapfrog steps (one gradient each) in a step of a chain."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            require(value >= 1, f"{flag('annealing', field.name)} must be at least 1, got {value}")


class Bounds(NamedTuple):
    """Bounds on log p(x) of each image in nats, [b], each of which holds in expectation."""

    lower: Any
    upper: Any


def lower_rows(
    model: Model, data: DataConfig, config: AnnealingConfig, params: Params, key: Array, position: Array, images: Array
) -> Array:
    """Bounds log p(x) from below, [b], for uint8 images binarised or dequantised as by `likelihood.estimate_rows`."""
    image_key, chain_key = jax.random.split(key)
    x = augment.evaluation_images(data, keys.per_example(image_key, position), images)
    path = path_to(target_of(model, params, x))
    pilot_keys, there_keys = split_keys(keys.per_example(chain_key, position))
    return lower(path, there_keys, step_sizes(path, pilot_keys, config), config)


def simulated_rows(model: Model, config: AnnealingConfig, params: Params, key: Array, position: Array) -> Bounds:
    """Bounds log p(x) from both sides for images drawn from the model, one for each `position` [b]."""
    e_key, x_key, pilot_key, there_key, back_key = jax.random.split(key, 5)
    e = draw_noise(model, e_key, position)
    x = model.decode(params, model.generate(params, e)).sample(keys.per_example(x_key, position))
    path = path_to(target_of(model, params, x))
    log_sizes = step_sizes(path, keys.per_example(pilot_key, position), config)
    return Bounds(
        lower(path, keys.per_example(there_key, position), log_sizes, config),
        upper(path, keys.per_example(back_key, position), log_sizes, e, config),
    )


class Path(NamedTuple):
    """The way from q(e|x), at s = 0, to p(e|x), at s = 1."""

    target: Target
    start: Posterior
    """q(e|x), [b, 1, d]."""

    def log_ratio(self, e: Array) -> Array:
        """Returns log p(x, e) - log q(e|x): [b, k]."""
        return log_joint(self.target, e) - self.start.log_prob(e)

    def move(self, e: Array, s: Array, log_size: Array, chains: Array, t: Array, num: int) -> tuple[Array, Array]:
        """Takes step t of chains with keys [b, k] under the density at s. Returns e and the chance of acceptance."""

        def log_prob(e: Array) -> Array:
            return (1 - s) * self.start.log_prob(e) + s * log_joint(self.target, e)

        size = jnp.broadcast_to(jnp.exp(log_size[..., None] + self.start.log_sigma), e.shape)
        return hamiltonian_step(log_prob, e, size, step_keys(chains, t, 3), num)


def path_to(target: Target) -> Path:
    """Makes the path to `target` from the encoder's posterior."""
    posterior = target.model.encode(target.params, target.y[:, 0])
    return Path(target, jax.tree.map(lambda leaf: leaf[:, None], posterior))


def step_sizes(path: Path, image_keys: Array, config: AnnealingConfig) -> Array:
    """Finds log step sizes [num_steps, b, 1], in standard deviations of q(e|x), by chains for that alone.

    The bounds hold for steps of any size, but not for sizes that their own chains adapt.
    """
    chains = chain_keys(image_keys, PILOTS)

    def step(carry: tuple[Array, Array], t: Array) -> tuple[tuple[Array, Array], Array]:
        e, log_size = carry
        e, chance = path.move(e, t / config.num_steps, log_size, chains, t, config.num_integration_steps)
        mean = jnp.mean(chance, axis=1, keepdims=True)
        # Robbins and Monro 1951, as for the warm-up of chains that restore.
        return (e, log_size + 0.3 * (mean - TARGET_ACCEPTANCE)), log_size

    first = jnp.full((len(image_keys), 1), jnp.log(0.2))
    return lax.scan(step, (_draw(path, chains), first), 1 + jnp.arange(config.num_steps))[1]


def lower(path: Path, image_keys: Array, log_sizes: Array, config: AnnealingConfig) -> Array:
    """Bounds log p(x) by chains from q(e|x) to p(e|x): [b]."""
    chains = chain_keys(image_keys, config.num_chains)

    def step(carry: tuple[Array, Array], now: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
        (e, log_weight), (t, log_size) = carry, now
        # Neal's weight: the new density over the one before, at e before it moves.
        log_weight = log_weight + path.log_ratio(e) / config.num_steps
        return (
            path.move(e, t / config.num_steps, log_size, chains, t, config.num_integration_steps)[0],
            log_weight,
        ), None

    start = (_draw(path, chains), jnp.zeros(chains.shape))
    (_, log_weight), _ = lax.scan(step, start, (1 + jnp.arange(config.num_steps), log_sizes))
    return _log_mean(log_weight)


def upper(path: Path, image_keys: Array, log_sizes: Array, e: Array, config: AnnealingConfig) -> Array:
    """Bounds log p(x) by chains back from exact draws e [b, d] of p(e|x) to q(e|x): [b]."""
    chains = chain_keys(image_keys, config.num_chains)

    # The reverse of each step of `lower`, from the last to the first: a step of a chain is its own reverse.
    def step(carry: tuple[Array, Array], now: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
        (e, log_weight), (t, log_size) = carry, now
        e, _ = path.move(e, t / config.num_steps, log_size, chains, t, config.num_integration_steps)
        return (e, log_weight - path.log_ratio(e) / config.num_steps), None

    start = (jnp.broadcast_to(e[:, None], (*chains.shape, e.shape[1])), jnp.zeros(chains.shape))
    (_, log_weight), _ = lax.scan(step, start, (1 + jnp.arange(config.num_steps), log_sizes), reverse=True)
    return -_log_mean(log_weight)  # the mean of the weights estimates 1 / p(x)


def _draw(path: Path, chains: Array) -> Array:
    """Draws e [b, k, d] from q(e|x)."""
    return path.start.sample(normal(step_keys(chains, jnp.int32(0), 1)[0], path.target))


def _log_mean(log_weight: Array) -> Array:
    return jax.nn.logsumexp(log_weight, axis=1) - math.log(log_weight.shape[1])
