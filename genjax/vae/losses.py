"""Evidence lower bound and its parts, in nats per image: sums over pixels and latents, never means."""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from genjax import parallel
from genjax.data.config import DataConfig
from genjax.optim import Params
from genjax.vae.config import VaeRun
from genjax.vae.model import Model
from genjax.vae.posterior import Latents


class Terms(NamedTuple):
    """The loss and its parts: all [b], in nats per image."""

    loss: Array  # distortion + beta * rate (at least the free bits): what training minimises
    elbo: Array  # -(distortion + rate), a lower bound on log p(x) whatever beta is
    rate: Array  # KL(q(z|x) || p(z)), often called the KL term
    distortion: Array  # -log p(x|z) for one draw of z from q(z|x), often called the reconstruction term


def elbo_terms(
    model: Model, params: Params, images: Array, noise: Array, beta: Array | float, free_bits: float = 0.0
) -> Terms:
    """Returns the loss and its parts, for images [b, h, w, c] in [0, 1] and normal noise [b, d].

    With `free_bits` the loss of an image depends on the other images of the batch, so evaluations give none.
    """
    # One draw of z and an exact KL: the estimator of Kingma and Welling 2014, eq. 7.
    latents = model.infer(params, images, noise)
    # -ELBO = E_q[-log p(x|z)] + KL(q(z|x) || p(z)); beta weighs the second term in the loss only (Higgins et al. 2017).
    distortion, rate = -model.decode(params, latents.groups).log_prob(images), latents.kl
    counted = rate if free_bits == 0 else with_free_bits(latents, free_bits)
    return Terms(distortion + beta * counted, -(distortion + rate), rate, distortion)


def with_free_bits(latents: Latents, nats: float) -> Array:
    """Returns rates [b] whose mean over all devices is the sum of max(nats, mean KL) over groups.

    So a group may use as many nats for nothing (Kingma et al. 2016, the minibatch mean of section C.8).
    """
    kl = kl_per_group(latents)
    # A group below the limit gets no gradient; which group is, all devices decide alike.
    mean = parallel.mean_over_devices(lax.stop_gradient(jnp.mean(kl, axis=0)))
    return jnp.sum(jnp.where((mean > nats)[None], kl, nats), axis=1)


def kl_per_group(latents: Latents) -> Array:
    """Returns the KL of each group, whose sum is the rate: [b, groups]."""
    sizes = [math.prod(group.shape[1:]) for group in latents.groups]
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)]
    return jnp.stack([jnp.sum(part, axis=1) for part in jnp.split(latents.kl_per_dimension, ends, axis=1)], axis=1)


def beta(config: VaeRun, step: Array) -> Array:
    """Returns the weight of the KL term at `step` (int32 scalar)."""
    warmup_steps = round(config.vae.beta_warmup * config.train.num_steps)
    if warmup_steps == 0:
        return jnp.asarray(config.vae.beta)
    return config.vae.beta * jnp.minimum(1.0, step / warmup_steps)


def bits_per_dim(data: DataConfig, elbo: Array, of_levels: bool = False) -> Array | None:
    """Returns the bound in bits per pixel and channel, or None where the images have no discrete distribution.

    `of_levels`: the likelihood gives each grey level a probability, as a logistic mixture does.
    """
    dims = math.prod(data.image_shapes[0])
    if data.binarize != "none" or of_levels:  # two values, or 256
        return -elbo / (dims * math.log(2))
    # Dequantised pixels have a density on [0, 1), where a level is 1/256 (or 1/65536) wide, which adds its bits.
    if data.dequantize:
        return -elbo / (dims * math.log(2)) + data.bits
    return None
