"""Diagnostics of a training step: scalars over the global batch, from arrays that the step computes anyway.

accuracy_d_a, accuracy_d_b: share of its images that a discriminator is right about, 0.5 by chance. gap_d_a, gap_d_b:
its mean logit on real images less that on translated ones. correlation_a2b, correlation_b2a: correlation of the
luminances of an image and its translation, mean over images. All are means over images, so they mean the same at any
batch size. They affect neither the state nor the skipping of steps.
"""

from collections.abc import Mapping

import jax.numpy as jnp
from jax import Array, lax

from genjax.evaluation import image_metrics
from genjax.gan import adversarial
from genjax.gan.adversarial import AdversarialConfig, Logits
from genjax.gan.networks import Direction


def measure(
    loss: AdversarialConfig, translated: Mapping[Direction, tuple[Array, Array]], logits: Mapping[str, Logits]
) -> dict[str, Array]:
    """Computes the metrics of a step from what this device has.

    `translated` holds images [b, h, w, c] and their translations by direction, `logits` those of each discriminator.
    """
    metrics = {
        f"correlation_{direction}": _mean(image_metrics.correlation(translation, image))
        for direction, (image, translation) in translated.items()
    }
    for name, of in logits.items():
        metrics |= {f"accuracy_{name}": _mean(adversarial.accuracy(loss, of))}
        metrics |= {f"gap_{name}": _mean(of.real) - _mean(of.fake)}
    return metrics


def _mean(x: Array) -> Array:
    """Averages over all numbers of all devices."""
    return lax.pmean(jnp.mean(x), "data")
