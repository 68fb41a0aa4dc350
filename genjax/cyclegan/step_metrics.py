"""What a step measures of its own health, from what it has computed anyway: scalars over the global batch.

accuracy_d_a, accuracy_d_b: how often a discriminator is right, 0.5 by chance. gap_d_a, gap_d_b: how far its mean logit
on real images is above that on translated ones. diversity_a2b, diversity_b2a: how far translations lie apart, over how
far their inputs do. correlation_a2b, correlation_b2a: of the luminances of an image and its translation, mean over
images. None enters the state, nor the decision to skip a step.
"""

import math

import jax.numpy as jnp
from jax import Array, lax

from genjax.cyclegan import translation
from genjax.cyclegan.config import LossConfig
from genjax.cyclegan.losses import Logits
from genjax.gan.image_pool import Pool


def of_discriminator(config: LossConfig, name: str, logits: Logits) -> dict[str, Array]:
    """Accuracy and gap of discriminator `name`, on what it was shown in this step."""
    return {
        f"accuracy_{name}": _mean(accuracy(config, logits)),
        f"gap_{name}": _mean(logits.real) - _mean(logits.fake),
    }


def accuracy(config: LossConfig, logits: Logits) -> Array:
    """The share of logits on the right side of the threshold between the loss's two targets: [], half of them real.

    wgan_gp has no targets: the share of logits on real images above those at the same place of translated ones.
    """
    if config.adversarial == "wgan_gp":
        return jnp.mean((logits.real > logits.fake) + 0.0)
    target = 1 - config.label_smoothing
    threshold = {"lsgan": target / 2, "vanilla": math.log(target / (2 - target))}.get(config.adversarial, 0.0)
    return (jnp.mean((logits.real > threshold) + 0.0) + jnp.mean((logits.fake < threshold) + 0.0)) / 2


def of_translations(direction: str, images: Array, translated: Array, inputs: Pool, outputs: Pool) -> dict[str, Array]:
    """Correlation, and diversity, of this device's images [b, h, w, c] and their translations.

    There are no distances in a global batch of one image. Its translation is then compared with those in `outputs`, of
    earlier steps, and the image with `inputs`, translations into its own domain; without pools it has no diversity.
    """
    correlation = {f"correlation_{direction}": _mean(translation.correlation(translated, images))}
    if lax.psum(len(images), "data") > 1:
        spread, given = (_spread(x) for x in (translated, images))
    elif outputs.images is not None and inputs.images is not None:
        spread, given = _distance(translated, outputs.images, outputs.num), _distance(images, inputs.images, inputs.num)
    else:
        return correlation
    return correlation | {f"diversity_{direction}": jnp.sqrt(spread / jnp.maximum(given, 1e-12))}


def _spread(images: Array) -> Array:
    """The variance over the global batch, mean over pixels: half the mean squared distance of two draws."""
    num = lax.psum(len(images), "data")
    mean = lax.psum(jnp.sum(images, axis=0, keepdims=True), "data") / num
    return _mean((images - mean) ** 2)


def _distance(images: Array, pool: Array, num: Array) -> Array:
    """The mean squared difference of an image [1, h, w, c] from the first `num` of a pool [n, h, w, c]; 0 of none."""
    each = jnp.mean((pool - images) ** 2, axis=(1, 2, 3))
    return jnp.sum(jnp.where(jnp.arange(len(pool)) < num, each, 0)) / jnp.maximum(num, 1)


def _mean(x: Array) -> Array:
    """Over this device's numbers and those of all others."""
    return lax.pmean(jnp.mean(x), "data")
