"""VampPrior (Tomczak and Welling 2018), the mean of q(e|u) over pseudo-inputs u, fitted after training.

In the paper, encoder, decoder and pseudo-inputs learn together; here the networks are fixed.
"""

import logging
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import Array

from genjax import keys
from genjax.checks import require
from genjax.keys import Stream
from genjax.optim import Params
from genjax.vae.mixture import Mixture
from genjax.vae.posterior import Posterior

logger = logging.getLogger(__name__)

START = 0.1
"""Contrast that pseudo-inputs start with, around their mean. Those of whole images have narrow posteriors, from which
the fit ends at a lower log p(e)."""

LOG_EVERY = 100


def mean_posterior(posterior: Posterior) -> Mixture:
    """Returns the mixture of k posteriors [k, d] with equal weights."""
    num = len(posterior.mean)
    return Mixture(jnp.full(num, -math.log(num), posterior.mean.dtype), posterior.mean, jnp.exp(posterior.log_sigma))


def fit(
    encode: Callable[[Params, Array], Posterior], params: Params, images: Array, e: Array, num_steps: int,
    learning_rate: float, batch_size: int, seed: int,
) -> Array:  # fmt: skip
    """Finds pseudo-inputs that maximise the mean of log p(e) over encodings e [n, d].

    They are [k, h, w, c] in [0, 1]. Adam starts near the mean of the k `images`, and sees `batch_size` encodings in a
    step. Raises ValueError if it comes to pseudo-inputs that are not finite.
    """
    root = keys.root_key(seed)
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps))

    def loss(u: Array, params: Params, batch: Array) -> Array:
        return -jnp.mean(mean_posterior(encode(params, u)).log_prob(batch))

    @jax.jit
    def step(
        u: Array, opt_state: optax.OptState, params: Params, e: Array, root: Array, number: Array
    ) -> tuple[Array, optax.OptState, Array]:
        batch = jax.random.randint(keys.for_step(root, Stream.FIT, number), (batch_size,), 0, len(e))
        value, gradient = jax.value_and_grad(loss)(u, params, e[batch])
        updates, opt_state = optimizer.update(gradient, opt_state)
        # Pixels outside [0, 1] go back to its ends: the encoder never met any.
        return jnp.clip(u + updates, 0, 1), opt_state, value

    middle = jnp.mean(images, axis=0, keepdims=True)
    u = middle + START * (images - middle)
    opt_state = optimizer.init(u)
    for number in range(1, num_steps + 1):
        u, opt_state, value = step(u, opt_state, params, e, root, jnp.int32(number))
        if number % LOG_EVERY == 0:
            # `log_prob` leaves this constant out.
            nats = -float(value) - 0.5 * e.shape[1] * math.log(2 * math.pi)
            logger.info("VampPrior, step %d of %d: mean log p(e) %.2f nats", number, num_steps, nats)
    require(bool(jnp.isfinite(u).all()), "pseudo-inputs are not finite: give a lower --fit.learning-rate")
    return u
