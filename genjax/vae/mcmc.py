"""Markov chain Monte Carlo for p(e|y): Gibbs sampling with the encoder, and Hamiltonian Monte Carlo."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax

from genjax import keys
from genjax.vae import annealing, inference
from genjax.vae.annealing import LogProb
from genjax.vae.diagnostics import diagnose
from genjax.vae.distributions import Distribution
from genjax.vae.inference import Draws, InferenceConfig, Target, normal, uniform
from genjax.vae.model import log_normal

T = TypeVar("T")


def gibbs(
    target: Target, chain_keys: Array, init: Array, num_rounds: int, config: InferenceConfig, exact: bool
) -> Draws:
    """Draws e from q(e|x) and x from p(x|z, y), in turn.

    If proposals are always accepted, this is pseudo-Gibbs sampling (Rezende, Mohamed and Wierstra 2014, appendix F),
    which inherits the error of the encoder. With `exact`, the Metropolis-Hastings ratio accepts them, which is
    Metropolis-within-Gibbs (Mattei and Frellsen 2018, algorithm 1) and correct in the limit. Raises ValueError if the
    operator cannot draw from p(x|z, y).
    """
    # All chains begin at one image, and part by their keys.
    x = jnp.broadcast_to(init, (*chain_keys.shape, *init.shape[2:]))
    e = target.encode(x).mean
    likelihood = target.decode(e)
    State = tuple[Array, Array, Distribution, Array]  # image, noise, p(x|z) of it, chance that it was accepted

    def step(state: State, t: Array) -> State:
        x, e, likelihood, _ = state
        e_keys, accept_keys, x_keys = step_keys(chain_keys, t, 3)
        posterior = target.encode(x)
        proposed = posterior.sample(normal(e_keys, target))
        its_likelihood = target.decode(proposed)
        moves, chance = jnp.ones(chain_keys.shape, bool), jnp.ones(chain_keys.shape)
        if exact:
            # Metropolis-Hastings ratio p(x, e') q(e|x) / (p(x, e) q(e'|x)). Warm-up accepts all proposals, because the
            # first image is a guess and not a draw.
            log_ratio = its_likelihood.log_prob(x) + log_normal(proposed) - posterior.log_prob(proposed)
            log_ratio -= likelihood.log_prob(x) + log_normal(e) - posterior.log_prob(e)
            moves = (jnp.log(uniform(accept_keys)) < log_ratio) | (t < config.num_warmup)
            chance = jnp.exp(jnp.minimum(jnp.where(jnp.isnan(log_ratio), -jnp.inf, log_ratio), 0.0))
        e, likelihood = _where(moves, (proposed, its_likelihood), (e, likelihood))
        return target.operator.sample(likelihood, target.y, x_keys), e, likelihood, chance

    start: State = x, e, likelihood, jnp.ones(chain_keys.shape)
    start = lax.fori_loop(0, config.num_warmup, lambda t, state: step(state, t), start)
    read = lambda state: (state[1], state[3])  # noqa: E731
    trace, chance = _run_chains(step, start, read, config.num_warmup, num_rounds * config.thinning)
    return Draws(_draws(trace, config), inference.agreement_of_chains(trace), diagnose(trace, chance))


def hmc(
    target: Target, image_keys: Array, chain_keys: Array, init: Array, num_rounds: int, config: InferenceConfig
) -> Draws:
    """Draws e by Hamiltonian Monte Carlo (Duane et al. 1987; Neal 2011), from each mode by its mass.

    The warm-up anneals the chains from the neighbourhood of MAP estimates and from the prior, which shares out the
    modes: it is correct in the limit of many chains, for any operator. Step sizes are in the encoder's standard
    deviations at the best estimate; they stay as the warm-up left them.
    """
    search_keys, anneal_keys = inference.split_keys(image_keys)
    modes, height = inference.map_estimates(target, search_keys, init, config)
    completed = target.operator.impute(target.decode(modes[:, :1]).mean(), target.y)
    log_scale = target.encode(completed).log_sigma
    start = annealing.start_at(modes, height, log_scale, chain_keys.shape[1])
    num_warmup = max(config.num_warmup, 1)

    def move(log_prob: LogProb, e: Array, log_size: Array, t: Array) -> tuple[Array, Array]:
        size = jnp.exp(log_size)[..., None] * jnp.exp(log_scale)
        return hamiltonian_step(log_prob, e, size, step_keys(chain_keys, t, 3), config.num_integration_steps)

    noise = normal(step_keys(chain_keys, jnp.int32(-1), 1)[0], target)  # the steps themselves count from 0
    e, log_size, health = annealing.anneal(start, target.log_joint, move, anneal_keys, noise, num_warmup)

    def step(state: tuple[Array, Array], t: Array) -> tuple[Array, Array]:
        return move(target.log_joint, state[0], log_size, t)

    start_of_chains = e, jnp.ones(chain_keys.shape)
    trace, chance = _run_chains(step, start_of_chains, lambda state: state, num_warmup, num_rounds * config.thinning)
    health = jnp.where(jnp.isfinite(height[:, 0]), health, jnp.nan)
    return Draws(_draws(trace, config), health, diagnose(trace, chance))


def hamiltonian_step(
    log_prob: LogProb, e: Array, size: Array, move_keys: tuple[Array, ...], num_steps: int
) -> tuple[Array, Array]:
    """Moves e [b, k, d] by steps of `size` [b, k, d]. Returns it, and the chance of acceptance [b, k]."""
    momentum_keys, accept_keys, size_keys = move_keys
    # Vary the step size by 30%: a trajectory of fixed length can be a period of the motion and end at its start.
    size = size * (0.7 + 0.6 * uniform(size_keys))[..., None]

    def value_and_grad(e: Array) -> tuple[Array, Array]:
        (_, each), grad = jax.value_and_grad(lambda e: _sum_and_each(log_prob(e)), has_aux=True)(e)
        return each, grad

    def leapfrog(_: Array, point: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        e, momentum, grad, _ = point
        # Half a momentum step, a full step of e, half a momentum step: reversible and volume-preserving, so the
        # acceptance ratio needs no Jacobian.
        momentum = momentum + 0.5 * size * grad
        e = e + size * momentum
        value, grad = value_and_grad(e)
        return e, momentum + 0.5 * size * grad, grad, value

    before, grad = value_and_grad(e)
    momentum = keys.normal(momentum_keys.reshape(-1), e.shape[-1]).reshape(e.shape)
    proposed, last, _, after = lax.fori_loop(0, num_steps, leapfrog, (e, momentum, grad, before))
    # The Metropolis test of the energy, which a finite step does not quite conserve.
    log_ratio = after + log_normal(last) - before - log_normal(momentum)
    log_ratio = jnp.where(jnp.isnan(log_ratio), -jnp.inf, log_ratio)  # reject a trajectory that diverged
    accept = jnp.log(uniform(accept_keys)) < log_ratio
    return _where(accept, proposed, e), jnp.exp(jnp.minimum(log_ratio, 0.0))


def _run_chains(
    step: Callable[[T, Array], T], start: T, read: Callable[[T], tuple[Array, Array]], first: int, num: int
) -> tuple[Array, Array]:
    """Takes `num` steps, counted from `first`. After each, `read` finds e [num, b, k, d] and chances [num, b, k]."""

    def one(state: T, t: Array) -> tuple[T, tuple[Array, Array]]:
        state = step(state, t)
        return state, read(state)

    trace: tuple[Array, Array] = lax.scan(one, start, first + jnp.arange(num))[1]
    return trace


def _draws(trace: Array, config: InferenceConfig) -> Array:
    """Picks draws [b, num_rounds * k, d], ordered by round, from the steps of chains [n, b, k, d]."""
    draws = trace[config.thinning - 1 :: config.thinning].swapaxes(0, 1)  # [b, rounds, k, d]
    return draws.reshape(len(draws), -1, draws.shape[-1])


def step_keys(chain_keys: Array, t: Array, num: int) -> tuple[Array, ...]:
    """Makes `num` arrays of keys [b, k] for step `t` of each chain."""
    split = jax.vmap(jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, t), num)))(chain_keys)
    return tuple(split[..., i] for i in range(num))


def _where(moves: Array, new: T, old: T) -> T:
    """Picks `new` where `moves` [b, k] is True; scalars are the same in both."""
    picked: T = jax.tree.map(
        lambda n, o: jnp.where(jnp.expand_dims(moves, range(2, n.ndim)), n, o) if n.ndim else n, new, old
    )
    return picked


def _sum_and_each(values: Array) -> tuple[Array, Array]:
    return jnp.sum(values), values
