"""Markov chain Monte Carlo for p(e|y): Gibbs sampling with the encoder, and Hamiltonian Monte Carlo."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax

from genjax.vae.inference import Draws, InferenceConfig, Target, map_estimates, normal, uniform
from genjax.vae.likelihood import Bernoulli, Likelihood
from genjax.vae.model import log_normal

T = TypeVar("T")

TARGET_ACCEPTANCE = 0.8
"""Acceptance rate that hmc's warm-up aims at."""


def gibbs(
    target: Target, chain_keys: Array, init: Array, num_rounds: int, config: InferenceConfig, exact: bool
) -> Draws:
    """Draws e from q(e|x) and the missing part of x from p(x|z), in turn.

    If proposals are always accepted, this is pseudo-Gibbs sampling (Rezende, Mohamed and Wierstra 2014, appendix F),
    which inherits the error of the encoder. With `exact`, the Metropolis-Hastings ratio accepts them, which is
    Metropolis-within-Gibbs (Mattei and Frellsen 2018, algorithm 1) and correct in the limit. Raises ValueError if
    imputing a draw from p(x|z) does not give a draw from p(x|z, y).
    """
    x = jnp.broadcast_to(init, (*chain_keys.shape, *init.shape[2:]))
    e = target.encode(x).mean
    likelihood = target.decode(e)
    if isinstance(likelihood, Bernoulli) and target.operator.gibbs_needs_gaussian:
        raise ValueError(
            f"Gibbs sampling cannot impute binary pixels for {type(target.operator).__name__}: "
            "choose method importance, map or hmc"
        )
    State = tuple[Array, Array, Likelihood, Array]  # image, noise, p(x|z) of it, accepted proposals

    def step(state: State, t: Array) -> State:
        x, e, likelihood, num_accepted = state
        e_keys, accept_keys, x_keys = _step_keys(chain_keys, t, 3)
        posterior = target.encode(x)
        proposed = posterior.sample(normal(e_keys, target))
        its_likelihood = target.decode(proposed)
        moves = jnp.ones(chain_keys.shape, bool)
        if exact:
            # Metropolis-Hastings ratio p(x, e') q(e|x) / (p(x, e) q(e'|x)). Warm-up accepts all proposals, because the
            # first image is a guess and not a draw.
            log_ratio = its_likelihood.log_prob(x) + log_normal(proposed) - posterior.log_prob(proposed)
            log_ratio -= likelihood.log_prob(x) + log_normal(e) - posterior.log_prob(e)
            accept = jnp.log(uniform(accept_keys)) < log_ratio
            moves = accept | (t < config.num_warmup)
            num_accepted = num_accepted + jnp.where(t < config.num_warmup, 0.0, accept)
        e, likelihood = _where(moves, (proposed, its_likelihood), (e, likelihood))
        return target.operator.impute(likelihood.sample(x_keys), target.y), e, likelihood, num_accepted

    start = (x, e, likelihood, jnp.zeros(chain_keys.shape))
    (*_, num_accepted), draws = _run_chains(step, start, lambda state: state[1], num_rounds, config)
    return Draws(draws, _acceptance(num_accepted, num_rounds, config) if exact else jnp.ones(len(init)))


def hmc(
    target: Target, image_keys: Array, chain_keys: Array, init: Array, num_rounds: int, config: InferenceConfig
) -> Draws:
    """Draws e by Hamiltonian Monte Carlo (Duane et al. 1987; Neal 2011), correct in the limit for any operator.

    Each chain starts at a MAP estimate, drawn with probability proportional to p(y, e). Step sizes are in the encoder's
    standard deviations at the best estimate. Each chain adapts its step size in the warm-up.
    """
    modes, height = map_estimates(target, image_keys, init, config)
    (mode_keys,) = _step_keys(chain_keys, jnp.int32(-1), 1)
    choose = jax.vmap(jax.vmap(jax.random.categorical, in_axes=(0, None)))
    e = jnp.take_along_axis(modes, choose(mode_keys, height)[..., None], axis=1)
    best = jnp.take_along_axis(modes, jnp.argmax(height, axis=1)[:, None, None], axis=1)
    scale = jnp.exp(target.encode(target.operator.impute(target.decode(best).mean(), target.y)).log_sigma)
    State = tuple[Array, Array, Array]  # noise, log of the step size, accepted proposals

    def log_joint_and_grad(e: Array) -> tuple[Array, Array]:
        (_, each), grad = jax.value_and_grad(lambda e: _sum_and_each(target.log_joint(e)), has_aux=True)(e)
        return each, grad

    def step(state: State, t: Array) -> State:
        e, log_size, num_accepted = state
        momentum_keys, accept_keys, size_keys = _step_keys(chain_keys, t, 3)
        # Vary the step size by 30%: a trajectory of fixed length can be a period of the motion and end at its start.
        size = (jnp.exp(log_size) * (0.7 + 0.6 * uniform(size_keys)))[..., None] * scale
        before, grad = log_joint_and_grad(e)
        momentum = normal(momentum_keys, target)

        def leapfrog(_: Array, point: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
            e, momentum, grad, _ = point
            # Half a momentum step, a full step of e, half a momentum step: reversible and volume-preserving, so the
            # acceptance ratio needs no Jacobian.
            momentum = momentum + 0.5 * size * grad
            e = e + size * momentum
            log_joint, grad = log_joint_and_grad(e)
            return e, momentum + 0.5 * size * grad, grad, log_joint

        point = (e, momentum, grad, before)
        proposed, last, _, after = lax.fori_loop(0, config.num_integration_steps, leapfrog, point)
        log_ratio = after + log_normal(last) - before - log_normal(momentum)
        log_ratio = jnp.where(jnp.isnan(log_ratio), -jnp.inf, log_ratio)  # reject a trajectory that diverged
        accept = jnp.log(uniform(accept_keys)) < log_ratio
        warm = t < config.num_warmup
        # Robbins and Monro 1951: lengthen the steps if more is accepted than aimed at, else shorten them.
        chance = jnp.exp(jnp.minimum(log_ratio, 0.0))
        log_size = jnp.where(warm, log_size + 0.3 * (chance - TARGET_ACCEPTANCE), log_size)
        return _where(accept, proposed, e), log_size, num_accepted + jnp.where(warm, 0.0, accept)

    start = (e, jnp.full(chain_keys.shape, jnp.log(0.2)), jnp.zeros(chain_keys.shape))
    (*_, num_accepted), draws = _run_chains(step, start, lambda state: state[0], num_rounds, config)
    return Draws(draws, _acceptance(num_accepted, num_rounds, config))


def _run_chains(
    step: Callable[[T, Array], T], start: T, read: Callable[[T], Array], num_rounds: int, config: InferenceConfig
) -> tuple[T, Array]:
    """Returns the last state, and `num_rounds` draws of each chain [b, num_rounds * k, d], ordered by round."""

    def several(state: T, first: Array) -> tuple[T, Array]:
        state = lax.fori_loop(first, first + config.thinning, lambda t, state: step(state, t), state)
        return state, read(state)

    state = lax.fori_loop(0, config.num_warmup, lambda t, state: step(state, t), start)
    state, draws = lax.scan(several, state, config.num_warmup + config.thinning * jnp.arange(num_rounds))
    num, chains, size = draws.shape[1:]
    return state, draws.swapaxes(0, 1).reshape(num, num_rounds * chains, size)


def _acceptance(num_accepted: Array, num_rounds: int, config: InferenceConfig) -> Array:
    return jnp.mean(num_accepted, axis=1) / (num_rounds * config.thinning)


def _step_keys(chain_keys: Array, t: Array, num: int) -> tuple[Array, ...]:
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
