"""Evidence lower bound and its parts, in nats per image: sums over pixels and latents, never means."""

import math
from typing import NamedTuple

from jax import Array

from genjax.optim import Params
from genjax.vae.config import VaeRun
from genjax.vae.model import Model


class Terms(NamedTuple):
    """The loss and the bound's parts: [b], in nats per image."""

    loss: Array  # what training minimises: distortion + beta * rate, or as `objectives` says
    elbo: Array  # -(distortion + rate), a lower bound on log p(x) whatever beta is
    rate: Array  # KL(q(z|x) || p(z)), often called the KL term
    distortion: Array  # -log p(x|z) for one draw of z from q(z|x), often called the reconstruction term
    variance: Array | None = None  # [], of a pixel, if the likelihood's optimum is computed
    perceptual: Array | None = None  # LPIPS from the image to the mean of p(x|z), if it has a weight


def elbo_terms(model: Model, params: Params, images: Array, noise: Array, beta: Array | float) -> Terms:
    """Returns the bound's parts, and distortion + beta * rate as the loss.

    They are for images [b, h, w, c] in [0, 1] and normal noise [b, d].
    """
    # One draw of z and an exact KL: the estimator of Kingma and Welling 2014, eq. 7.
    latents = model.infer(params, images, noise)
    # -ELBO = E_q[-log p(x|z)] + KL(q(z|x) || p(z)); beta weighs the second term in the loss only (Higgins et al. 2017).
    distortion, rate = -model.decode(params, latents.groups).log_prob(images), latents.kl
    return Terms(distortion + beta * rate, -(distortion + rate), rate, distortion)


def bits_per_dim(config: VaeRun, elbo: Array) -> Array | None:
    """Returns the bound in bits per pixel and channel, or None where the images have no discrete distribution."""
    data, dims = config.data, math.prod(config.data.image_shapes[0])
    if data.binarize != "none" or config.vae.likelihood == "logistic_mixture":  # two values, or 256
        return -elbo / (dims * math.log(2))
    # Dequantised pixels have a density on [0, 1), where a level is 1/256 (or 1/65536) wide, which adds its bits.
    if data.dequantize:
        return -elbo / (dims * math.log(2)) + data.bits
    return None
