"""Objectives of a training: the loss of each image from k draws of its latents, in nats.

Where a loss depends on a mean over the batch (free bits, capacity, optimal variance), it is that over all devices.
"""

import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array, lax

from genjax import parallel
from genjax.evaluation import perceptual
from genjax.optim import Params
from genjax.parallel import PyTree
from genjax.vae.config import VaeRun
from genjax.vae.distributions import Gaussian
from genjax.vae.losses import Terms
from genjax.vae.model import Model
from genjax.vae.posterior import LOG_SIGMA_BOUND, Latents, log_normal


def training_terms(
    config: VaeRun, model: Model, params: Params, images: Array, noise: Array, step: Array,
    features: Params | None = None,
) -> Terms:  # fmt: skip
    """Returns the loss at `step` and its parts.

    `step` is int32 [], the images [b, h, w, c] in [0, 1], the noise [b, k, d].
    `features` are those of `evaluation.perceptual`, for a perceptual loss.
    """
    vae, k = config.vae, noise.shape[1]
    # From here on, each draw is a row, b * k of them. The encoder sees each image once.
    observed = model.observe(params, images)
    images, observed = jax.tree.map(functools.partial(jnp.repeat, repeats=k, axis=0), (images, observed))
    noise, variance = noise.reshape(len(images), -1), None  # noise [b * k, d]
    latents = model.draw(params, observed, noise)

    if vae.objective == "dreg":
        bound, log_prob = dreg(model, params, images, observed, latents.posterior.sample(noise), k)
    else:
        likelihood = model.decode(params, latents.groups)
        if vae.likelihood == "gaussian_optimal":
            variance = optimal_variance(likelihood.mean(), images)
            likelihood = Gaussian(likelihood.mean(), 0.5 * jnp.log(variance))
        log_prob = likelihood.log_prob(images)

    def over_draws(each: Array) -> Array:
        return jnp.mean(each.reshape(-1, k), axis=1)  # [b * k] to [b]

    distortion, rate = over_draws(-log_prob), over_draws(latents.kl)
    if vae.objective == "iwae":
        # log w = log p(x|z) + log p(z) - log q(z|x), at the draws: no KL in closed form.
        log_ratio = latents.posterior.log_ratio_per_dimension(noise)
        bound = iwae((log_prob - jnp.sum(log_ratio, axis=1)).reshape(-1, k))
    if vae.objective in ("iwae", "dreg"):
        loss = -bound
    elif vae.objective == "capacity":
        loss = distortion + beta(config, step) * distance(rate, capacity(config, step))
    elif vae.free_bits == 0:
        loss = distortion + beta(config, step) * rate
    else:
        counted = over_draws(with_free_bits(latents, vae.free_bits, vae.free_bits_per))
        loss = distortion + beta(config, step) * counted
    seen = None
    if config.loss.perceptual > 0:
        seen = over_draws(perceptual.distance(features or {}, likelihood.mean(), images))
        loss = loss + config.loss.perceptual * seen
    return Terms(loss, -(distortion + rate), rate, distortion, variance, seen)


def iwae(log_weight: Array) -> Array:
    """Returns the bound log mean_i w_i of log weights [b, k]: [b] (Burda, Grosse and Salakhutdinov 2016)."""
    return jax.nn.logsumexp(log_weight, axis=1) - math.log(log_weight.shape[1])


def dreg(model: Model, params: Params, images: Array, observed: PyTree, e: Array, k: int) -> tuple[Array, Array]:
    """Returns the bound of `iwae` [b], with the doubly reparameterised gradient, and log p(x|z) of each row [b * k].

    With w~ the weights that sum to 1, and e the draws, the gradient by the model's parameters is that of
    sum_i w~_i log p(x, e_i), and the gradient by the posterior's that of sum_i w~_i^2 log w_i by way of e_i alone
    (Tucker et al. 2019). As e is noise of the prior, networks of a prior given other groups get the generalised
    gradient of Bauer and Mnih 2021.
    """

    def log_joint(params: Params, e: Array) -> tuple[Array, Array]:
        log_prob = model.decode(params, model.generate(params, e)).log_prob(images)
        return log_prob + log_normal(e), log_prob

    # Both parts have the same values, which XLA computes once; they differ in what a gradient sees.
    by_model, log_prob = log_joint(params, lax.stop_gradient(e))
    fixed, seen = lax.stop_gradient((params, observed))
    # The density of a group depends on the groups before it, a way through the draws that stays open.
    by_draws = log_joint(fixed, e)[0] - model.posterior_at(fixed, seen, e).log_prob(e)
    by_model, by_draws = by_model.reshape(-1, k), by_draws.reshape(-1, k)
    log_weight = lax.stop_gradient(by_draws)
    weight = jax.nn.softmax(log_weight, axis=1)
    slope = jnp.sum(weight * by_model + weight**2 * by_draws, axis=1)
    # The value is that of `iwae`; `slope` cancels itself, and leaves its gradient.
    return iwae(log_weight) + (slope - lax.stop_gradient(slope)), log_prob


def distance(rate: Array, capacity: Array) -> Array:
    """Returns distances [b] whose mean over all devices is |mean rate - capacity| (Burgess et al. 2018)."""
    mean = parallel.mean_over_devices(lax.stop_gradient(jnp.mean(rate)))
    # One sign for the whole batch, that of its mean, makes the distance a mean over images.
    return jnp.sign(mean - capacity) * (rate - capacity)


def with_free_bits(latents: Latents, nats: float, per: Literal["group", "dimension"] = "group") -> Array:
    """Returns rates [b] whose mean over all devices is the sum of max(nats, mean KL) over groups or dimensions.

    So each may use as many nats for nothing (Kingma et al. 2016, the minibatch mean of section C.8).
    """
    kl = latents.kl_per_group if per == "group" else latents.kl_per_dimension
    # What is below the limit gets no gradient; what is, all devices decide alike.
    mean = parallel.mean_over_devices(lax.stop_gradient(jnp.mean(kl, axis=0)))
    return jnp.sum(jnp.where((mean > nats)[None], kl, nats), axis=1)


def optimal_variance(location: Array, images: Array) -> Array:
    """Returns the variance [] of Gaussian pixels that maximises log p(x|z): their mean squared error.

    There the slope of log p(x|z) by the variance is 0, so no gradient is lost in keeping it fixed (Rybkin et al. 2021).
    """
    error = jnp.mean((images - lax.stop_gradient(location)) ** 2)
    # Sigma stays above what a learned one may fall to.
    return jnp.maximum(parallel.mean_over_devices(error), math.exp(-2 * LOG_SIGMA_BOUND))


def beta(config: VaeRun, step: Array) -> Array:
    """Returns the weight of the KL term at `step`, int32 []; it rises in each cycle (Fu et al. 2019)."""
    vae, steps = config.vae, config.train.num_steps
    warmup_steps = round(vae.beta_warmup * steps / vae.beta_cycles)
    if warmup_steps == 0:
        return jnp.asarray(vae.beta)
    # An evaluation after the last step is no new cycle.
    return vae.beta * _rise(jnp.minimum(step, steps - 1) % math.ceil(steps / vae.beta_cycles), warmup_steps)


def capacity(config: VaeRun, step: Array) -> Array:
    """Returns the capacity C of the latents at `step` (int32 []), in nats."""
    return config.vae.capacity * _rise(step, round(config.vae.capacity_warmup * config.train.num_steps))


def schedules(config: VaeRun, step: Array) -> dict[str, Array]:
    """Returns what the loss takes from schedules at `step` (int32 []), by name."""
    found = {"beta": beta(config, step)} if config.vae.objective in ("elbo", "capacity") else {}
    return found | ({"capacity": capacity(config, step)} if config.vae.objective == "capacity" else {})


def _rise(step: Array, steps: int) -> Array:
    return jnp.minimum(1.0, step / steps) if steps else jnp.asarray(1.0)
