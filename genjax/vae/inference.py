"""Latents that explain what is known of an image: draws from p(z|y), or its mode, for any evidence y.

Latents are [b, k, d]: b images, and k chains, proposals or restarts of each, all independent. Random numbers come from
a key for each image and its chain, so nothing depends on what else is in the batch.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from genjax import keys
from genjax.config import check_finite
from genjax.vae import losses, nets
from genjax.vae.config import VaeRun

Method = Literal["pseudo_gibbs", "metropolis", "importance", "map", "hamiltonian"]


class Evidence(NamedTuple):
    """What is known of the images [b, h, w, c] of a batch."""

    log_prob: Callable[[nets.Pixels], Array]
    """log p(y|z) of pixels [b, k, h, w, c]: [b, k], in nats."""
    complete: Callable[[Array], Array]
    """Images [b, k, h, w, c] to the nearest ones that agree with what is known."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Effort:
    """How long to search. Chains are kept to a few, and each gives several draws."""

    chains: int = 16
    """Chains of an image, or one for each draw where those are fewer; the draws of one chain depend on each other."""
    warmup: int = 20
    """Steps of a chain before its first draw: metropolis accepts each proposal in them, hamiltonian adapts its step
    size."""
    steps_per_draw: int = 5
    """Steps of a chain from one draw to the next."""
    leapfrogs: int = 8
    """hamiltonian: gradients in a step."""
    proposals: int = 1000
    """importance: latents that are weighed for an image, half of them from the encoder and half from the prior."""
    restarts: int = 8
    """map and hamiltonian: points from which the mode is sought."""
    ascent_steps: int = 150
    """map and hamiltonian: steps of Adam towards the mode."""
    learning_rate: float = 0.1
    """map and hamiltonian: Adam's first learning rate, which falls to 0."""

    def __post_init__(self) -> None:
        check_finite(self)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value <= 0 and not (field.name == "warmup" and value == 0):
                raise ValueError(f"{field.name} must be positive, got {value}")
        if self.proposals % 2:
            raise ValueError(f"proposals must be even, for half of them come from the encoder, got {self.proposals}")


class Found(NamedTuple):
    """What was found of each image."""

    z: Array
    """[b, num, d]: draw i is the same for any larger num, up to rounding below `effort.chains`."""
    health: Array
    """[b]: the share of proposals that were accepted, of chains; the effective share of proposals, of importance; 1
    otherwise."""


def infer(
    config: VaeRun, params: Any, evidence: Evidence, method: Method, image_keys: Array, guess: Array, num: int,
    effort: Effort,
) -> Found:  # fmt: skip
    """`num` draws from p(z|y) for each image, or its mode `num` times over.

    `image_keys` is [b]; `guess` [b, 1, h, w, c], a first completion, is what the encoder sees first.
    """
    model = _Model(config, params, evidence)
    search_keys, root_keys = _split(image_keys)
    chains = min(effort.chains, num)
    chain_keys = jax.vmap(lambda key: keys.per_example(key, jnp.arange(chains)))(root_keys)
    rounds = -(-num // chains)
    match method:
        case "importance":
            return importance(model, search_keys, guess, num, effort)
        case "map":
            z, log_joint = modes(model, search_keys, guess, effort)
            best = jnp.take_along_axis(z, jnp.argmax(log_joint, axis=1)[:, None, None], axis=1)
            return Found(jnp.repeat(best, num, axis=1), jnp.ones(len(guess)))
        case "hamiltonian":
            found = hamiltonian(model, search_keys, chain_keys, guess, rounds, effort)
        case _:
            found = gibbs(model, chain_keys, guess, rounds, effort, exact=method == "metropolis")
    return Found(found.z[:, :num], found.health)


class _Model(NamedTuple):
    config: VaeRun
    params: Any
    evidence: Evidence

    def encode(self, images: Array) -> nets.Posterior:
        """[b, k, h, w, c] to q(z|x), [b, k, d] each."""
        posterior = nets.encode(self.config, self.params, images.reshape(-1, *images.shape[2:]))
        return jax.tree.map(lambda leaf: leaf.reshape(*images.shape[:2], -1), posterior)

    def decode(self, z: Array) -> nets.Pixels:
        """[b, k, d] to p(x|z), its location [b, k, h, w, c]."""
        pixels = nets.decode(self.config, self.params, z.reshape(-1, z.shape[-1]))
        return pixels._replace(location=pixels.location.reshape(*z.shape[:2], *pixels.location.shape[1:]))

    def log_joint(self, z: Array) -> Array:
        """log p(y, z) but for a constant: [b, k]."""
        return self.evidence.log_prob(self.decode(z)) + _log_normal(z)

    def mean_image(self, pixels: nets.Pixels) -> Array:
        return losses.mean_image(self.config.vae, pixels)


def gibbs(model: _Model, chain_keys: Array, guess: Array, rounds: int, effort: Effort, exact: bool) -> Found:
    """Draws z from q(z|x), then the unknown part of x from p(x|z), in turn.

    Always accepted, this is pseudo-Gibbs sampling (Rezende, Mohamed and Wierstra 2014, appendix F), whose draws are as
    wrong as the encoder is; accepted by the ratio of Metropolis and Hastings (`exact`), Metropolis-within-Gibbs (Mattei
    and Frellsen 2018, algorithm 1), which is right in the limit. Of evidence that pixels are part of, or sums of
    Gaussian ones: what completes a draw from p(x|z) has to be a draw from p(x|z,y).
    """
    config, evidence = model.config, model.evidence
    x = jnp.broadcast_to(guess, (*chain_keys.shape, *guess.shape[2:]))
    z = model.encode(x).mean

    def log_prob(pixels: nets.Pixels, x: Array) -> Array:
        return jnp.sum(losses.pixel_log_prob(config.vae, pixels, x), axis=(2, 3, 4))

    def step(carry: Any, t: Array) -> Any:
        x, z, location, accepted = carry
        z_key, accept_key, x_key = _keys_of_step(chain_keys, t, 3)
        posterior, noise = model.encode(x), _normal(z_key, z.shape[-1])
        proposed = posterior.mean + jnp.exp(posterior.log_sigma) * noise
        there = model.decode(proposed)
        pixels = there._replace(location=location)
        log_ratio = log_prob(there, x) + _log_normal(proposed) - _log_normal(noise)
        back = (z - posterior.mean) * jnp.exp(-posterior.log_sigma)
        log_ratio -= log_prob(pixels, x) + _log_normal(z) - _log_normal(back)
        accept = jnp.log(_uniform(accept_key)) < log_ratio
        if exact:
            move = accept | (t < effort.warmup)
            z = jnp.where(move[..., None], proposed, z)
            location = jnp.where(move[..., None, None, None], there.location, location)
            accepted = accepted + jnp.where(t < effort.warmup, 0.0, accept)
        else:
            z, location = proposed, there.location
        x = evidence.complete(_draw_pixels(config, x_key, there._replace(location=location)))
        return x, z, location, accepted

    start = (x, z, model.decode(z).location, jnp.zeros(chain_keys.shape))
    (_, _, _, accepted), draws = _draws(step, start, lambda carry: carry[1], rounds, effort)
    share = jnp.mean(accepted, axis=1) / (rounds * effort.steps_per_draw)
    return Found(draws, share if exact else jnp.ones(len(guess)))


def importance(model: _Model, image_keys: Array, guess: Array, num: int, effort: Effort) -> Found:
    """Sampling importance resampling, as in MIWAE (Mattei and Frellsen 2019).

    Half of the proposals are from q(z|guess), half from the prior, each weighed against the mixture of the two (the
    balance heuristic of Veach and Guibas 1995): weights are bounded where the encoder is too sure.
    """
    half = effort.proposals // 2
    latent_keys, pick_keys = _split(image_keys)
    keys_of = jax.vmap(lambda key: keys.per_example(key, jnp.arange(effort.proposals)))(latent_keys)
    posterior, noise = model.encode(guess), _normal(keys_of, model.config.vae.latent_dim)
    near = posterior.mean + jnp.exp(posterior.log_sigma) * noise[:, :half]
    z = jnp.concatenate([near, noise[:, half:]], axis=1)
    scaled = (z - posterior.mean) * jnp.exp(-posterior.log_sigma)
    log_q = _log_normal(scaled) - jnp.sum(posterior.log_sigma, axis=-1)
    log_mixture = jnp.logaddexp(log_q, _log_normal(z)) - jnp.log(2.0)
    log_weight = model.log_joint(z) - log_mixture

    weight = jax.nn.softmax(log_weight, axis=1)
    below = jnp.cumsum(weight, axis=1)
    drawn = _uniform(jax.vmap(lambda key: keys.per_example(key, jnp.arange(num)))(pick_keys)) * below[:, -1:]
    picked = jnp.minimum(jax.vmap(functools.partial(jnp.searchsorted, side="right"))(below, drawn), len(weight[0]) - 1)
    chosen = jnp.take_along_axis(z, picked[..., None], axis=1)
    return Found(chosen, 1 / (jnp.sum(weight**2, axis=1) * effort.proposals))


def modes(model: _Model, image_keys: Array, guess: Array, effort: Effort) -> tuple[Array, Array]:
    """Local maxima of log p(y, z), and their heights but for a constant: [b, restarts, d] and [b, restarts].

    Adam from the encoder's mean of `guess` and from draws of the prior (Bora, Jalal, Price and Dimakis 2017).
    """
    restart_keys = jax.vmap(lambda key: keys.per_example(key, jnp.arange(effort.restarts)))(image_keys)
    start = _normal(restart_keys, model.config.vae.latent_dim).at[:, :1].set(model.encode(guess).mean)
    adam = optax.adam(optax.cosine_decay_schedule(effort.learning_rate, effort.ascent_steps))
    gradient = jax.grad(lambda z: -jnp.sum(model.log_joint(z)))

    def step(_: Array, carry: Any) -> Any:
        z, state = carry
        updates, state = adam.update(gradient(z), state)
        return optax.apply_updates(z, updates), state

    z, _ = lax.fori_loop(0, effort.ascent_steps, step, (start, adam.init(start)))
    return z, model.log_joint(z)


def hamiltonian(
    model: _Model, image_keys: Array, chain_keys: Array, guess: Array, rounds: int, effort: Effort
) -> Found:
    """Hamiltonian Monte Carlo (Duane et al. 1987; Neal 2011) in the latents, right in the limit for any evidence.

    A chain begins at one of the `modes`, drawn by its height. Lengths are in the encoder's standard deviations at the
    highest of them; each chain adapts its step size in the warm-up so that 4 of 5 proposals are accepted, and varies it
    by 30%, for a trajectory of one length can be a period of the motion.
    """
    found, height = modes(model, image_keys, guess, effort)
    (mode_key,) = _keys_of_step(chain_keys, jnp.int32(-1), 1)
    choose = jax.vmap(jax.vmap(jax.random.categorical, in_axes=(0, None)))
    z = jnp.take_along_axis(found, choose(mode_key, height)[..., None], axis=1)
    best = jnp.take_along_axis(found, jnp.argmax(height, axis=1)[:, None, None], axis=1)
    scale = jnp.exp(model.encode(model.evidence.complete(model.mean_image(model.decode(best)))).log_sigma)
    value_and_gradient = jax.value_and_grad(lambda z: _sum_and_each(model.log_joint(z)), has_aux=True)

    def step(carry: Any, t: Array) -> Any:
        z, log_size, accepted = carry
        momentum_key, accept_key, size_key = _keys_of_step(chain_keys, t, 3)
        size = (jnp.exp(log_size) * (0.7 + 0.6 * _uniform(size_key)))[..., None] * scale
        (_, before), slope = value_and_gradient(z)
        momentum = _normal(momentum_key, z.shape[-1])

        def leapfrog(_: Array, point: Any) -> Any:
            z, momentum, slope, _ = point
            momentum = momentum + 0.5 * size * slope
            z = z + size * momentum
            (_, height), slope = value_and_gradient(z)
            return z, momentum + 0.5 * size * slope, slope, height

        proposed, last, _, after = lax.fori_loop(0, effort.leapfrogs, leapfrog, (z, momentum, slope, before))
        log_ratio = after + _log_normal(last) - before - _log_normal(momentum)
        log_ratio = jnp.where(jnp.isnan(log_ratio), -jnp.inf, log_ratio)  # a step that was far too long
        accept = jnp.log(_uniform(accept_key)) < log_ratio
        z = jnp.where(accept[..., None], proposed, z)
        chance = jnp.exp(jnp.minimum(log_ratio, 0.0))
        warm = t < effort.warmup
        log_size = jnp.where(warm, log_size + 0.3 * (chance - 0.8), log_size)
        return z, log_size, accepted + jnp.where(warm, 0.0, accept)

    start = (z, jnp.full(chain_keys.shape, jnp.log(0.2)), jnp.zeros(chain_keys.shape))
    (_, _, accepted), draws = _draws(step, start, lambda carry: carry[0], rounds, effort)
    return Found(draws, jnp.mean(accepted, axis=1) / (rounds * effort.steps_per_draw))


def _draws(step: Callable, start: Any, read: Callable, rounds: int, effort: Effort) -> tuple[Any, Array]:
    """The last state of the chains, and `rounds` draws of each, chain by chain within a round: [b, rounds * k, d]."""

    def several(carry: Any, times: Array) -> tuple[Any, Array]:
        carry = lax.fori_loop(times, times + effort.steps_per_draw, lambda t, carry: step(carry, t), carry)
        return carry, read(carry)

    carry = lax.fori_loop(0, effort.warmup, lambda t, carry: step(carry, t), start)
    carry, draws = lax.scan(several, carry, effort.warmup + effort.steps_per_draw * jnp.arange(rounds))
    num, chains, size = draws.shape[1:]
    return carry, draws.swapaxes(0, 1).reshape(num, rounds * chains, size)


def _draw_pixels(config: VaeRun, chain_keys: Array, pixels: nets.Pixels) -> Array:
    """x from p(x|z): [b, k, h, w, c]."""
    shape = pixels.location.shape[2:]
    if config.vae.likelihood == "bernoulli":
        return (_uniform(chain_keys, shape) < jax.nn.sigmoid(pixels.location)).astype(pixels.location.dtype)
    noise = _normal(chain_keys, math.prod(shape)).reshape(pixels.location.shape)
    return pixels.location + jnp.exp(pixels.log_sigma) * noise


def _keys_of_step(chain_keys: Array, t: Array, num: int) -> tuple[Array, ...]:
    """`num` arrays of keys [b, k], of step `t` of each chain."""
    split = jax.vmap(jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, t), num)))(chain_keys)
    return tuple(split[..., i] for i in range(num))


def _split(image_keys: Array) -> tuple[Array, Array]:
    split = jax.vmap(jax.random.split)(image_keys)
    return split[:, 0], split[:, 1]


def _normal(chain_keys: Array, size: int) -> Array:
    """Standard normal noise [b, k, size]."""
    return keys.normal(chain_keys.reshape(-1), size).reshape(*chain_keys.shape, size)


def _uniform(chain_keys: Array, shape: tuple[int, ...] = ()) -> Array:
    """Uniform draws in [0, 1), [b, k, *shape]."""
    return keys.uniform(chain_keys.reshape(-1), shape).reshape(*chain_keys.shape, *shape)


def _log_normal(z: Array) -> Array:
    """log density of N(0, 1) but for a constant: [b, k, d] to [b, k]."""
    return -0.5 * jnp.sum(z**2, axis=-1)


def _sum_and_each(values: Array) -> tuple[Array, Array]:
    return jnp.sum(values), values
