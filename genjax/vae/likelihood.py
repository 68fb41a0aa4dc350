"""Likelihood of images under a VAE, log p(x), by importance weighting (Burda, Grosse and Salakhutdinov 2016).

log p(x) is at least E log mean_i w_i with w_i = p(x, e_i) / q(e_i|x), and this bound rises to it with the number of
draws e_i. The noise of draw i of an image follows from the image's position and i alone.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from genjax import keys
from genjax.data import augment
from genjax.data.config import DataConfig
from genjax.evaluation.per_image import image_standard_error
from genjax.files import Json
from genjax.optim import Params
from genjax.vae import losses, usage
from genjax.vae.config import VaeRun
from genjax.vae.inference import Target, normal
from genjax.vae.model import Model, Posterior, log_normal
from genjax.vae.operators import Mask
from genjax.vae.posterior import Latents

ROWS = 512
"""Rows of a matrix [n, n] that are in memory at once."""


class Estimate(NamedTuple):
    """Importance-weighted estimate for each image, in nats."""

    log_prob: Any
    """[b], a lower bound on log p(x) in expectation."""
    variance: Any
    """[b], of log_prob if the noise were drawn anew; NaN for a single draw."""
    distortion: Any
    """[b], mean of -log p(x|z) over the draws from q(z|x)."""
    kl: Any
    """[b, d], KL(q(z|x) || p(z)) by dimension; the mean over the draws if there are several groups."""
    mean: Any
    """[b, d], E_q[z|x]; the mean over the draws if there are several groups."""
    mean_variance: Any
    """[b, d], of `mean` if the noise were drawn anew; NaN for a single draw of several groups."""
    posterior: Posterior
    """q(e|x), [b, d]; of several groups, normals given the means of those before."""
    e: Any
    """[b, d], the first draw of z."""


class Sums(NamedTuple):
    """Sums over the draws so far."""

    log_weight: Array  # [b], log of the sum of weights
    log_square: Array  # [b], log of the sum of squared weights
    distortion: Array  # [b]
    kl: Array  # [b, d]
    z: Array  # [b, d]
    z_square: Array  # [b, d]


def estimate_rows(
    model: Model, data: DataConfig, num_samples: int, at_once: int, params: Params, key: Array, position: Array,
    images: Array,
) -> Estimate:  # fmt: skip
    """Estimates log p(x) of uint8 images [b, h, w, c], binarised or dequantised as in training."""
    image_key, latent_key = jax.random.split(key)
    x = augment.evaluation_images(data, keys.per_example(image_key, position), images)
    target = target_of(model, params, x)
    return importance_weighted(target, keys.per_example(latent_key, position), num_samples, at_once)


def target_of(model: Model, params: Params, images: Array) -> Target:
    """Returns the target p(e|x) of images [b, h, w, c] without missing pixels."""
    return Target(model, params, Mask(np.zeros((1, 1, 1, 1, 1), bool)), images[:, None])


def log_joint(target: Target, e: Array) -> Array:
    """Returns `target.log_joint(e)` of images without missing pixels, several times as fast on a CPU: [b, k]."""
    log_prob = _over_pixels(target.decode(e).log_prob_per_pixel(target.y)) + log_normal(e)
    return jnp.where(jnp.isnan(log_prob), -jnp.inf, log_prob)


def importance_weighted(target: Target, image_keys: Array, num_samples: int, at_once: int) -> Estimate:
    """Estimates log p(x) from `num_samples` draws of q(z|x) for each image, `at_once` of them decoded at a time."""
    model, params, images = target.model, target.params, target.y[:, 0]
    # The encoder sees each image once, however many draws are decoded.
    observed = model.observe(params, images)

    def draw(index: Array) -> tuple[Latents, Array]:
        """Returns latents and log q(z|x) - log p(z) of these draws, those of an image one after another."""
        sample_keys = jax.vmap(lambda key: keys.per_example(key, index))(image_keys)
        noise = normal(sample_keys, target).reshape(-1, model.latent_dim)
        each = jax.tree.map(lambda leaf: jnp.repeat(leaf, len(index), axis=0), observed)
        latents = model.draw(params, each, noise)
        return latents, jnp.sum(latents.posterior.log_ratio_per_dimension(noise), axis=1)

    def add(part: Array, sums: Sums) -> Sums:
        index = part * at_once + jnp.arange(at_once)
        latents, log_ratio = draw(index)
        likelihood = model.decode(params, latents.groups)
        log_prob = _over_pixels(by_image(likelihood.log_prob_per_pixel(jnp.repeat(images, at_once, axis=0))))
        # The last part may reach beyond the number of draws.
        counts = (index < num_samples)[None]
        log_weight = log_prob - log_ratio.reshape(log_prob.shape)
        log_weight = jnp.where(counts & ~jnp.isnan(log_weight), log_weight, -jnp.inf)

        def add_up(each: Array) -> Array:
            return jnp.sum(jnp.where(counts.reshape(1, -1, *[1] * (each.ndim - 2)), each, 0.0), axis=1)

        z = by_image(jnp.concatenate(latents.groups, axis=1))
        return Sums(
            jnp.logaddexp(sums.log_weight, jax.nn.logsumexp(log_weight, axis=1)),
            jnp.logaddexp(sums.log_square, jax.nn.logsumexp(2 * log_weight, axis=1)),
            sums.distortion - add_up(log_prob),
            sums.kl + add_up(by_image(latents.kl_per_dimension)),
            sums.z + add_up(z),
            sums.z_square + add_up(z**2),
        )

    def by_image(rows: Array) -> Array:
        return rows.reshape(len(images), -1, *rows.shape[1:])

    zeros, zeros_d = jnp.zeros(len(images)), jnp.zeros((len(images), model.latent_dim))
    first = Sums(zeros - jnp.inf, zeros - jnp.inf, zeros, zeros_d, zeros_d, zeros_d)
    sums = lax.fori_loop(0, -(-num_samples // at_once), add, first)
    posterior, (latents, _) = model.encode(params, images), draw(jnp.arange(1))  # the first draw once more
    return _estimate(sums, num_samples, posterior, latents)


def _estimate(sums: Sums, num_samples: int, posterior: Posterior, first: Latents) -> Estimate:
    """Makes the estimate of the sums over all draws; `first` is the first draw."""
    others = max(num_samples - 1, 1)
    # The delta method: the variance of log(mean of w) is that of the mean, relative to its square.
    share = jnp.exp(sums.log_square - 2 * sums.log_weight)
    variance = (share - 1 / num_samples) * (num_samples / others)
    mean, kl = sums.z / num_samples, sums.kl / num_samples
    mean_variance = jnp.maximum(sums.z_square / num_samples - mean**2, 0.0) / others
    if len(first.groups) == 1:  # which has closed forms
        mean, mean_variance, kl = posterior.mean, jnp.zeros_like(mean), first.kl_per_dimension
    elif num_samples == 1:
        mean_variance = jnp.full_like(mean, jnp.nan)
    return Estimate(
        sums.log_weight - math.log(num_samples),
        variance if num_samples > 1 else jnp.full_like(share, jnp.nan),
        sums.distortion / num_samples,
        kl,
        mean,
        mean_variance,
        posterior,
        jnp.concatenate(first.groups, axis=1),
    )


def _over_pixels(each: Array) -> Array:
    """Sums log p of pixels [b, k, h, w, c] to [b, k]."""
    each = each.reshape(*each.shape[:2], -1)
    # XLA fuses a sum over pixels with their logarithms to a slow loop; a product it leaves alone.
    return jnp.matmul(each, jnp.ones(each.shape[2], each.dtype), precision="highest")


def summarize(found: Estimate, config: VaeRun, group_sizes: Sequence[int]) -> Json:
    """Averages the estimates of n >= 2 images: nats per image, bits per dimension, and which latents are in use.

    `nll_draw_se` is about other noise on the same images, `nll_image_se` about other images.
    """
    found = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), found)
    kl = np.mean(found.kl, axis=0)
    # What the means vary by beyond their noise.
    active = np.var(found.mean, axis=0) - np.mean(found.mean_variance, axis=0) > usage.ACTIVE
    ends = np.cumsum(group_sizes)[:-1]
    distortion, nll = float(found.distortion.mean()), -float(found.log_prob.mean())
    bits = losses.bits_per_dim(config, jnp.asarray(-nll))
    one = len(group_sizes) == 1  # with several, q(e) has no closed form
    return {
        "nll": nll,
        "nll_image_se": image_standard_error(found.log_prob[None]),
        "nll_draw_se": float(np.sqrt(found.variance.sum()) / len(found.variance)),
        **({} if bits is None else {"bits_per_dim": float(bits)}),
        "negative_elbo": distortion + float(kl.sum()),
        "distortion": distortion,
        "rate": float(kl.sum()),
        **({"mutual_information": mutual_information(found.posterior, found.e)} if one else {}),
        "active_units": int(active.sum()),
        "active_units_per_group": [int(group.sum()) for group in np.split(active, ends)],
        "kl_per_group": [float(group.sum()) for group in np.split(kl, ends)],
        "kl_per_dimension": [group.tolist() for group in np.split(kl, ends)],
    }


def mutual_information(posterior: Posterior, e: np.ndarray) -> float:
    """Estimates the mutual information of images and latents in nats.

    Each of n images gives one draw of e [n, d]. It is E log q(e|x) - log q(e), with q(e) the mean of q(e|x) over the n
    images, and so at most log n (Hoffman and Johnson 2016). Rate less mutual information is KL(q(e) || p(e)).
    """
    # Of log q(e_i|x_j), [n, n], a sum of squares is two products of matrices. Its terms cancel: float64.
    mean, log_sigma = (np.asarray(leaf, np.float64) for leaf in posterior)
    precision, e = np.exp(-2 * log_sigma), np.asarray(e, np.float64)
    constant = -0.5 * np.sum(mean**2 * precision, axis=1) - np.sum(log_sigma, axis=1)
    total = 0.0
    for start in range(0, len(e), ROWS):
        part = e[start : start + ROWS]
        log_prob = -0.5 * part**2 @ precision.T + part @ (mean * precision).T + constant
        own = log_prob[np.arange(len(part)), start + np.arange(len(part))]
        highest = log_prob.max(axis=1)  # taken out of the sum of exponentials, which would underflow
        log_mean = highest + np.log(np.mean(np.exp(log_prob - highest[:, None]), axis=1))
        total += float(np.sum(own - log_mean))
    return total / len(e)


def group_sizes(model: Model, params: Params) -> list[int]:
    """Returns the number of latents in each group."""
    groups = jax.eval_shape(model.generate, params, jax.ShapeDtypeStruct((1, model.latent_dim), float))
    return [math.prod(group.shape[1:]) for group in groups]
