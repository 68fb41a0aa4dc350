"""Diagnostics of a training step: scalars over the global batch, from arrays that the step computes anyway.

accuracy_d_a, accuracy_d_b: share of its images that a discriminator is right about, 0.5 by chance. gap_d_a, gap_d_b:
its mean logit on real images less that on translated ones. diversity_a2b, diversity_b2a: root mean squared distance of
translations from each other, divided by that of their inputs. correlation_a2b, correlation_b2a: correlation of the
luminances of an image and its translation, mean over images. They affect neither the state nor the skipping of steps.
"""

from collections.abc import Mapping

import jax.numpy as jnp
from jax import Array, lax

from genjax.cyclegan.config import LossConfig
from genjax.evaluation import image_metrics
from genjax.gan import adversarial
from genjax.gan.adversarial import Logits
from genjax.gan.image_pool import Pool


def measure(
    loss: LossConfig,
    a: Array,
    b: Array,
    fake_a: Array,
    fake_b: Array,
    pool_a: Pool,
    pool_b: Pool,
    logits: Mapping[str, Logits],
) -> dict[str, Array]:
    """Computes the metrics of a step from images [b, h, w, c], translations, pools before the step, and logits."""
    metrics = translation_metrics("a2b", a, fake_b, pool_a, pool_b)
    metrics |= translation_metrics("b2a", b, fake_a, pool_b, pool_a)
    for name, of in logits.items():
        metrics |= {f"accuracy_{name}": _mean(adversarial.accuracy(loss, of))}
        metrics |= {f"gap_{name}": _mean(of.real) - _mean(of.fake)}
    return metrics


def translation_metrics(
    direction: str, images: Array, translated: Array, inputs: Pool, outputs: Pool
) -> dict[str, Array]:
    """Computes correlation and diversity of this device's images [b, h, w, c] and their translations.

    A global batch of one image has no distances. Then the translation is compared with earlier ones in the pool
    `outputs`, and the image with the pool `inputs` of translations into its own domain; without pools there is no
    diversity.
    """
    correlation = {f"correlation_{direction}": _mean(image_metrics.correlation(translated, images))}
    # A variance is half the mean squared distance of two draws, and needs one pass instead of all pairs.
    if lax.psum(len(images), "data") > 1:
        distance, given = (_variance(x) for x in (translated, images))
    elif outputs.images is not None and inputs.images is not None:
        distance = _distance(translated, outputs.images, outputs.num)
        given = _distance(images, inputs.images, inputs.num)
    else:
        return correlation
    return correlation | {f"diversity_{direction}": jnp.sqrt(distance / jnp.maximum(given, 1e-12))}


def _variance(images: Array) -> Array:
    """Computes the variance over the global batch, mean over pixels: half the mean squared distance of two draws."""
    num = lax.psum(len(images), "data")
    mean = lax.psum(jnp.sum(images, axis=0, keepdims=True), "data") / num
    return _mean((images - mean) ** 2)


def _distance(images: Array, pool: Array, num: Array) -> Array:
    """Computes the mean squared distance of an image [1, h, w, c] from the first `num` of a pool; 0 if it is empty."""
    each = jnp.mean((pool - images) ** 2, axis=(1, 2, 3))
    return jnp.sum(jnp.where(jnp.arange(len(pool)) < num, each, 0)) / jnp.maximum(num, 1)


def _mean(x: Array) -> Array:
    """Averages over all numbers of all devices."""
    return lax.pmean(jnp.mean(x), "data")
