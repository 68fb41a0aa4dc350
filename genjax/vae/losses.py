"""The evidence lower bound and its parts, per image and in nats: sums over pixels and latents, never means."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from genjax.config import DataConfig
from genjax.vae import nets
from genjax.vae.config import VaeConfig, VaeRun


class Terms(NamedTuple):
    """All [b], in nats per image."""

    objective: Array
    """distortion + beta * rate: what training minimises."""
    elbo: Array
    """-(distortion + rate), a lower bound on log p(x) whatever beta is."""
    rate: Array
    """KL(q(z|x) || p(z))."""
    distortion: Array
    """-log p(x|z) for one draw of z from q(z|x)."""


def bernoulli_log_prob(logits: Array, x: Array) -> Array:
    """log p(x) of x in [0, 1] under Bernoulli(sigmoid(logits)): [b, ...] to [b].

    x * l - softplus(l): finite, with finite gradients, for logits of any size. Grey values of x are scored as
    expectations of binary ones, which is no likelihood of theirs.
    """
    return _sum_over_image(_bernoulli(logits, x))


def gaussian_log_prob(mean: Array, log_sigma: Array, x: Array) -> Array:
    """log density of x under N(mean, exp(2 log_sigma)): [b, ...] to [b]; `log_sigma` is [].

    With sigma^2 = 1/2 this is -||x - mean||^2 - (D / 2) log pi.
    """
    return _sum_over_image(_gaussian(mean, log_sigma, x))


def gaussian_kl(mean: Array, log_sigma: Array) -> Array:
    """KL(N(mean, exp(2 log_sigma)) || N(0, 1)): [b, d] to [b] (Kingma and Welling 2014, appendix B)."""
    return 0.5 * jnp.sum(jnp.exp(2 * log_sigma) + mean**2 - 1 - 2 * log_sigma, axis=-1)


def log_prob(vae: VaeConfig, pixels: nets.Pixels, x: Array) -> Array:
    """log p(x|z) of images [b, h, w, c] in [0, 1] under the configured likelihood: [b]."""
    if vae.likelihood == "bernoulli":
        return bernoulli_log_prob(pixels.location, x)
    return gaussian_log_prob(pixels.location, pixels.log_sigma, x)


def pixel_log_prob(vae: VaeConfig, pixels: nets.Pixels, x: Array) -> Array:
    """The summands of `log_prob`, one for each pixel and channel, of images of any leading dimensions."""
    if vae.likelihood == "bernoulli":
        return _bernoulli(pixels.location, x)
    return _gaussian(pixels.location, pixels.log_sigma, x)


def mean_image(vae: VaeConfig, pixels: nets.Pixels) -> Array:
    """E[x|z]: [b, h, w, c]; in [0, 1] for a Bernoulli likelihood, near it for a Gaussian one."""
    return jax.nn.sigmoid(pixels.location) if vae.likelihood == "bernoulli" else pixels.location


def sample_posterior(posterior: nets.Posterior, noise: Array) -> Array:
    """z = mean + sigma * noise, all [b, d] (the reparametrisation of Kingma and Welling 2014)."""
    return posterior.mean + jnp.exp(posterior.log_sigma) * noise


def beta(vae: VaeConfig, step: Array) -> Array:
    """The weight of the KL term at `step` (int32 scalar)."""
    if vae.beta_warmup_steps == 0:
        return jnp.asarray(vae.beta)
    return vae.beta * jnp.minimum(1.0, step / vae.beta_warmup_steps)


def elbo_terms(config: VaeRun, params: Any, images: Array, noise: Array, beta: Array | float) -> Terms:
    """The objective and its parts for images [b, h, w, c] in [0, 1] and standard normal noise [b, d]."""
    posterior = nets.encode(config, params, images)
    pixels = nets.decode(config, params, sample_posterior(posterior, noise))
    distortion = -log_prob(config.vae, pixels, images)
    rate = gaussian_kl(*posterior)
    return Terms(distortion + beta * rate, -(distortion + rate), rate, distortion)


def bits_per_dim(data: DataConfig, elbo: Array) -> Array | None:
    """The bound in bits for each pixel and channel, or None where the images have no discrete distribution.

    Binarised pixels have two values. Dequantised ones are a density on [0, 1), in which a grey level is 1/256 wide:
    hence the 8 bits.
    """
    dims = math.prod(data.image_shapes[0])
    if data.binarize != "none":
        return -elbo / (dims * math.log(2))
    if data.dequantize:
        return -elbo / (dims * math.log(2)) + 8
    return None


def _bernoulli(logits: Array, x: Array) -> Array:
    return x * logits - jax.nn.softplus(logits)


def _gaussian(mean: Array, log_sigma: Array, x: Array) -> Array:
    scaled = (x - mean) * jnp.exp(-log_sigma)
    return -0.5 * scaled**2 - log_sigma - 0.5 * math.log(2 * math.pi)


def _sum_over_image(x: Array) -> Array:
    return jnp.sum(x, axis=tuple(range(1, x.ndim)))
