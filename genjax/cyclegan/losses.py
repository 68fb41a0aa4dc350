"""Losses of CycleGAN's generators: a dict of named terms, each with a weight in LossConfig.

With G from A to B, F from B to A, and D_A and D_B the discriminators of A and B, the generators minimise

    g_loss = sum over TERMS of weight * term

All terms are [b], one number for each example: means over pixels or logits, images in [-1, 1]. A new term is one
function, one line in TERMS and one field in LossConfig. Adversarial losses are in genjax/gan/adversarial.py.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from genjax.cyclegan.config import LossConfig
from genjax.evaluation import classifier
from genjax.evaluation.image_metrics import l1
from genjax.gan import adversarial
from genjax.gan.terms import Lpips, Terms, lpips_by
from genjax.keys import Draw
from genjax.optim import Params

# Weights of CycleGAN's own implementations.
CLASSIC = LossConfig(
    adversarial_a2b=1.0, adversarial_b2a=1.0, cycle_a=10.0, cycle_b=10.0, identity_a=5.0, identity_b=5.0
)
# The same balance of cycle and adversarial losses, with affine consistency instead of the identity loss.
MISSION = LossConfig(adversarial_a2b=0.1, adversarial_b2a=0.1, cycle_a=1.0, cycle_b=1.0, affine_a2b=1.0, affine_b2a=1.0)

# pix2pix (Isola et al. 2017, section 3.1) in each direction; it needs pairs and conditional discriminators.
PIX2PIX = LossConfig(
    adversarial="vanilla", adversarial_a2b=1.0, adversarial_b2a=1.0, cycle_a=0.0, cycle_b=0.0, paired=100.0
)

# images [b, h, w, c] of one domain -> [b, h, w, c'] of the other; gradients flow to the generator's parameters
Translate = Callable[[Array], Array]
# (images [b, h, w, c], translations of them) -> what a discriminator sees of the two
Judge = Callable[[Array, Array], Array]
# (draw, images [b, h, w, c]) -> the images as a discriminator or a classifier sees them
Augment = Callable[[Draw, Array], Array]


def identity(draw: Draw, images: Array) -> Array:
    """Returns the images unchanged."""
    del draw
    return images


def alone(images: Array, translated: Array) -> Array:
    """Returns the translations: what a discriminator sees in CycleGAN."""
    del images
    return translated


def beside(images: Array, translated: Array) -> Array:
    """Joins images and translations, [b, h, w, c + c']: what a conditional discriminator sees (Isola et al. 2017)."""
    return jnp.concatenate([images, translated], axis=-1)


class Pairs(NamedTuple):
    """Known pairs, [b, h, w, c] each: images of A and of B, and translations F(b) and G(a)."""

    a: Array
    b: Array
    fake_a: Array
    fake_b: Array


class Inputs(NamedTuple):
    """Inputs of every loss term."""

    loss: LossConfig
    a: Array  # images of A, [b, h, w, c] in [-1, 1]
    b: Array
    fake_a: Array  # translations F(b)
    fake_b: Array  # translations G(a)
    to_a: Translate  # F
    to_b: Translate  # G
    d_a: adversarial.Discriminator
    d_b: adversarial.Discriminator
    element: Array  # symmetry of the square, [b] in 0..7, for affine consistency; see `dihedral`
    augment: Augment = identity  # augmentation for discriminators
    add_noise: Augment = identity  # noise for classifiers
    constants: Mapping[str, Params] = {}  # what training reads and never changes: classifiers "a" and "b", and others
    judge: Judge = alone
    pairs: Pairs | None = None
    lpips: Lpips = lpips_by({})
    kept_a: Array | float = 1.0  # share of the change of each pixel of a that costs, [b, h, w, 1] in [0, 1]
    kept_b: Array | float = 1.0


def affine(translate: Translate, images: Array, translated: Array, element: Array) -> Array:
    """Computes the affine consistency loss |T(G(x)) - G(T(x))| [b], T a symmetry of the square."""
    return l1(dihedral(translated, element), translate(dihedral(images, element)))


def dihedral(images: Array, element: Array) -> Array:
    """Rotates and mirrors images [b, h, w, c], exactly, by `element` [b] in 0..7.

    Bit 1 transposes (square images only), then bit 2 flips upside down, then bit 4 mirrors left to right.
    """

    def has(bit: int) -> Array:
        return ((element & bit) > 0).reshape(-1, 1, 1, 1)

    # One select for each bit: a choice among eight transforms would compute all eight.
    if images.shape[1] == images.shape[2]:
        images = jnp.where(has(1), images.swapaxes(1, 2), images)
    images = jnp.where(has(2), images[:, ::-1], images)
    return jnp.where(has(4), images[:, :, ::-1], images)


def paired(pairs: Pairs | None) -> Array:
    """Computes the L1 [b] of both translations of known pairs to their truths (Isola et al. 2017, equation 3).

    Raises ValueError without pairs.
    """
    if pairs is None:
        raise ValueError("the loss paired needs known pairs: give them as batch.pairs")
    return l1(pairs.fake_b, pairs.b) + l1(pairs.fake_a, pairs.a)


def keep(kept: Array | float, images: Array, translated: Array) -> Array:
    """Computes the mean change [b] of `images` over all pixels, each times its share in `kept` [b, h, w, 1].

    As an L1 it leaves most pixels as they are and lets a few change (of all pixels: Shen and Liu 2017).
    """
    return jnp.mean(kept * jnp.abs(translated - images), axis=(1, 2, 3))


def semantic(classifiers: Mapping[str, Params], source: str, images: Array, target: str, translated: Array) -> Array:
    """Computes the cross-entropy [b], in nats, of translations against the class of their images (CyCADA, eq. 4).

    The classifier of domain `source` names the class of `images`, that of `target` sees `translated`. Raises
    ValueError without classifiers.
    """
    if not {source, target} <= classifiers.keys():
        raise ValueError("semantic losses need classifiers: give train_step their parameters as constants")
    # Classifiers take [0, 1]. argmax has no gradient, so labels do not train a generator.
    label = jnp.argmax(classifier.logits(classifiers[source], (images + 1) / 2), axis=1)
    return classifier.cross_entropy(classifier.logits(classifiers[target], (translated + 1) / 2), label)


# In Zhu et al. 2017: L_GAN (eq. 1, in the least-squares form of section 4), L_cyc (eq. 2), L_identity (section 5.2).
# ORDER MATTERS: gradients are summed in the order of the terms, which changes their last bits. Append new terms.
TERMS: Terms = {
    "adversarial_a2b": lambda n: adversarial.generator_loss(
        n.loss, n.d_b(n.augment(Draw.FOOLED_B, n.judge(n.a, n.fake_b)))
    ),
    "adversarial_b2a": lambda n: adversarial.generator_loss(
        n.loss, n.d_a(n.augment(Draw.FOOLED_A, n.judge(n.b, n.fake_a)))
    ),
    "cycle_a": lambda n: l1(n.to_a(n.fake_b), n.a),
    "cycle_b": lambda n: l1(n.to_b(n.fake_a), n.b),
    "identity_a": lambda n: l1(n.to_a(n.a), n.a),
    "identity_b": lambda n: l1(n.to_b(n.b), n.b),
    "affine_a2b": lambda n: affine(n.to_b, n.a, n.fake_b, n.element),
    "affine_b2a": lambda n: affine(n.to_a, n.b, n.fake_a, n.element),
    "semantic_a2b": lambda n: semantic(n.constants, "a", n.a, "b", n.add_noise(Draw.CLASSIFIED_B, n.fake_b)),
    "semantic_b2a": lambda n: semantic(n.constants, "b", n.b, "a", n.add_noise(Draw.CLASSIFIED_A, n.fake_a)),
    "paired": lambda n: paired(n.pairs),
    "keep": lambda n: keep(n.kept_a, n.a, n.fake_b) + keep(n.kept_b, n.b, n.fake_a),
    "perceptual_cycle": lambda n: n.lpips(n.to_a(n.fake_b), n.a) + n.lpips(n.to_b(n.fake_a), n.b),
    "perceptual_identity": lambda n: n.lpips(n.to_a(n.a), n.a) + n.lpips(n.to_b(n.b), n.b),
}
