"""Gradients in parts, Optax optimisers and schedules, the average of the weights, and skipping of bad updates."""

import functools
import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from genjax.config import OptimConfig
from genjax.parallel import PyTree
from genjax.task import S

T = TypeVar("T")
MeansT = TypeVar("MeansT")
EachT = TypeVar("EachT")

Params = dict[str, Any]  # nested parameters of a network, by module and name


class Net(NamedTuple):
    """One network's parameters and its own optimiser state."""

    params: Params
    opt_state: optax.OptState


def in_parts(num_parts: int, function: Callable[[T], tuple[MeansT, EachT]], examples: T) -> tuple[MeansT, EachT]:
    """Calls `function` on equal parts of `examples`, leaves [b, ...], one after another; memory holds one part's work.

    `function` returns means over its examples, which are averaged, and arrays [b, ...] of each, which are joined.
    """
    if num_parts == 1:
        return function(examples)
    parts = jax.tree.map(lambda leaf: leaf.reshape(num_parts, -1, *leaf.shape[1:]), examples)
    total, rows = function(jax.tree.map(lambda leaf: leaf[0], parts))
    joined = [rows]
    # Written out, as convolutions in a loop of the compiled program are many times slower on a CPU.
    for i in range(1, num_parts):
        part: T = jax.tree.map(lambda leaf, i=i: leaf[i], parts)
        # For the sum too, so that the means of only one part are held beside it.
        means, rows = function(wait_for((total, joined[-1]), part))
        total = jax.tree.map(jnp.add, total, means)
        joined.append(rows)
    averaged = jax.tree.map(lambda leaf: leaf / num_parts, total)
    return averaged, jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *joined)


def wait_for(results: PyTree, inputs: T) -> T:
    """Returns `inputs` in such a way that nothing can be computed of them before `results` are there.

    They become 0 if a result is not finite, so results that follow are not to be used then.
    """
    first = [leaf[(0,) * leaf.ndim] for leaf in jax.tree.leaves(results)]
    if not first:
        return inputs
    # A value that only the results decide: XLA's CPU compiler ignores `lax.optimization_barrier`.
    finite = jnp.isfinite(functools.reduce(operator.add, first))
    return jax.tree.map(lambda leaf: jnp.where(finite, leaf, jnp.zeros_like(leaf)), inputs)


def learning_rate(config: OptimConfig, num_steps: int, step: Array) -> Array:
    """Returns the learning rate at the state's `step` (int32 []), which counts skipped updates too."""
    warmup_steps = round(config.warmup * num_steps)
    decay_steps = max(num_steps - warmup_steps, 1)  # the cosine ends with the training
    schedules = {
        "constant": optax.constant_schedule(config.learning_rate),
        "cosine": optax.cosine_decay_schedule(config.learning_rate, decay_steps),
        "linear": lambda step: config.learning_rate * linear_factor(config, num_steps, step),
    }
    if warmup_steps == 0:
        return jnp.asarray(schedules[config.schedule](step))
    warmup = optax.linear_schedule(0.0, config.learning_rate, warmup_steps)
    return optax.join_schedules([warmup, schedules[config.schedule]], [warmup_steps])(step)


def linear_factor(config: OptimConfig, num_steps: int, step: Array) -> Array:
    """Returns the share of the peak learning rate at `step` of schedule linear, constant within an epoch.

    With e finished epochs, n epochs before the decay and d epochs of decay:

        epoch_end    1 - max(0, e + 1 - n) / (d + 1)
        epoch_start  1 - max(0, e + 2 - n) / (d + 1)
        lua          1 - max(0, e - n) / d
    """
    num_epochs = math.ceil(num_steps / config.steps_per_epoch)
    decay = max(round(config.decay * num_epochs), 1)
    late = step // config.steps_per_epoch - (num_epochs - decay)
    if config.linear_decay == "lua":
        return 1 - jnp.maximum(0, late) / decay
    ahead = 1 if config.linear_decay == "epoch_end" else 2
    return 1 - jnp.maximum(0, late + ahead) / (decay + 1)


def init_net(config: OptimConfig, params: Params) -> Net:
    """Returns a network before its first update."""
    return Net(params, _adam(config).init(params))


def update_net(config: OptimConfig, net: Net, grads: Params, rate: Array) -> Net:
    """Takes one step of Adam (Kingma and Ba 2015, algorithm 1), or of AdamW, with learning rate `rate`."""
    # The rate enters here. Optax's own schedules count updates, so each skipped one would shift them.
    direction, opt_state = _adam(config).update(grads, net.opt_state, net.params)
    updates = jax.tree.map(lambda d: (-rate * d).astype(d.dtype), direction)
    return Net(optax.apply_updates(net.params, updates), opt_state)


def _adam(config: OptimConfig) -> optax.GradientTransformation:
    adam = optax.scale_by_adam(config.b1, config.b2, config.eps)
    if config.weight_decay == 0:
        return adam
    decay = optax.add_decayed_weights(config.weight_decay, lambda params: jax.tree.map(lambda p: p.ndim > 1, params))
    return optax.chain(adam, decay)


def ema(config: OptimConfig, step: Array, average: T, params: T) -> T:
    """Returns the exponential moving average of `params` after `step` earlier steps."""
    # The decay is small at first, which removes the random initial weights quickly.
    decay = jnp.minimum(config.ema_decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda a, p: (decay * a + (1 - decay) * p).astype(a.dtype), average, params)


def all_finite(*trees: PyTree) -> Array:
    """Returns a boolean scalar: the Euclidean norm of all numbers in `trees` is finite."""
    # The norm rather than the numbers: if a square overflowed, Adam's second moment would stay infinite.
    return jnp.isfinite(optax.tree.norm(trees))


def advance(state: S, finite: Array, update: Callable[[S], S]) -> S:
    """Returns `update(state)` where the scalar `finite` holds, else `state`; in any case with this step counted."""
    skipped = state.skipped + jnp.where(finite, 0, 1)
    after: S = update_if(finite, update, state)._replace(step=state.step + 1, skipped=skipped)
    return after


def update_if(condition: Array, update: Callable[[T], T], state: T) -> T:
    """Returns `update(state)` where the scalar `condition` holds, else `state`."""
    # On a CPU it is a branch, which updates in place. A select for each leaf would copy the condition into the program
    # of each leaf; with hundreds of leaves that takes most of the compile time. On a GPU a branch would wait for the
    # host, so there it is a select.

    def branch(condition: Array, state: T) -> T:
        return lax.cond(condition, update, lambda state: state, state)

    def everywhere(condition: Array, state: T) -> T:
        return jax.tree.map(lambda new, old: jnp.where(condition, new, old), update(state), state)

    return lax.platform_dependent(condition, state, cpu=branch, default=everywhere)
