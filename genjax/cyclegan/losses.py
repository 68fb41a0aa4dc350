"""The objectives of CycleGAN and their parts: [b] for each example, means over pixels or logits, images in [-1, 1].

With G from A to B, F from B to A, and D_A and D_B judging images of A and B, the generators minimise

    L = L_cycle + L_per + lambda L_adv_a2b + mu L_adv_b2a

and each discriminator half the sum of its losses on real and on translated images, and of its gradient penalties.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from genjax.cyclegan import nets
from genjax.cyclegan.config import CycleGanRun, LossConfig
from genjax.evaluation import classifier

CLASSIC = LossConfig(
    adversarial_a2b=1.0, adversarial_b2a=1.0, cycle_a=10.0, cycle_b=10.0, identity_a=5.0, identity_b=5.0
)
"""The weights of CycleGAN's own implementations."""

MISSION = LossConfig(adversarial_a2b=0.1, adversarial_b2a=0.1, cycle_a=1.0, cycle_b=1.0, affine_a2b=1.0, affine_b2a=1.0)
"""The same balance of cycle and adversarial losses, with affine consistency instead of the identity loss."""


class GeneratorTerms(NamedTuple):
    """All [b], before their weights; a term with weight 0 is 0."""

    total: Array
    """L, weighted: what the generators minimise, but for `semantic_terms`."""
    adversarial_a2b: Array
    adversarial_b2a: Array
    cycle_a: Array
    cycle_b: Array
    identity_a: Array
    identity_b: Array
    affine_a2b: Array
    affine_b2a: Array


class Fakes(NamedTuple):
    """Translations: `a` of images of B, `b` of images of A."""

    a: Array
    b: Array


class Logits(NamedTuple):
    """A discriminator's, [b, h', w', 1], on real and on translated images."""

    real: Array
    fake: Array


def as_they_are(use: str, images: Array) -> Array:
    """What a discriminator or classifier is shown where nothing is done to images."""
    del use
    return images


def generator_terms(
    config: CycleGanRun, generators: dict[str, Any], discriminators: dict[str, Any], a: Array, b: Array,
    element: Array, show: Callable[[str, Array], Array] = as_they_are,
) -> tuple[GeneratorTerms, Fakes]:  # fmt: skip
    """The generators' objective and its parts for images `a`, `b` [b, h, w, c], and the translations it is about.

    `generators` are the parameters g_a2b and g_b2a, `discriminators` d_a and d_b; `element` [b] is the dihedral
    transform of each example's affine consistency. `show` makes of translations, "fooled_a" or "fooled_b", what the
    discriminators are shown; gradients flow through it.
    """
    weights, zero = config.loss, jnp.zeros(len(a), a.dtype)

    def to_b(images: Array) -> Array:
        return nets.generate(config, "a2b", generators["g_a2b"], images)

    def to_a(images: Array) -> Array:
        return nets.generate(config, "b2a", generators["g_b2a"], images)

    def fooled(domain: str, images: Array) -> Array:
        shown = show(f"fooled_{domain}", images)
        return adversarial_generator(weights, nets.discriminate(config, discriminators[f"d_{domain}"], shown))

    def affine(translate: Callable[[Array], Array], images: Array, translated: Array) -> Array:
        return l1(dihedral(translated, element), translate(dihedral(images, element)))

    fake = Fakes(to_a(b), to_b(a))
    terms = GeneratorTerms(
        total=zero,
        adversarial_a2b=fooled("b", fake.b) if weights.adversarial_a2b else zero,
        adversarial_b2a=fooled("a", fake.a) if weights.adversarial_b2a else zero,
        cycle_a=l1(to_a(fake.b), a) if weights.cycle_a else zero,
        cycle_b=l1(to_b(fake.a), b) if weights.cycle_b else zero,
        identity_a=l1(to_a(a), a) if weights.identity_a else zero,
        identity_b=l1(to_b(b), b) if weights.identity_b else zero,
        affine_a2b=affine(to_b, a, fake.b) if weights.affine_a2b else zero,
        affine_b2a=affine(to_a, b, fake.a) if weights.affine_b2a else zero,
    )
    return terms._replace(total=total(weights, terms)), fake


def total(weights: LossConfig, terms: GeneratorTerms) -> Array:
    """L = L_cycle + L_per + lambda L_adv_a2b + mu L_adv_b2a, without `semantic_terms`."""
    cycle = weights.cycle_a * terms.cycle_a + weights.cycle_b * terms.cycle_b
    identity = weights.identity_a * terms.identity_a + weights.identity_b * terms.identity_b
    affine = weights.affine_a2b * terms.affine_a2b + weights.affine_b2a * terms.affine_b2a
    adversarial = weights.adversarial_a2b * terms.adversarial_a2b + weights.adversarial_b2a * terms.adversarial_b2a
    return cycle + (identity + affine) + adversarial


def discriminator_loss(
    config: CycleGanRun, params: dict[str, Any], real: Array, fake: Array, fraction: Array
) -> tuple[Array, Logits]:
    """What a discriminator minimises, [b], on real and translated images [b, h, w, c], as it is shown them; its logits.

    `fraction` [b] in [0, 1] places the points of a gradient penalty between the two.
    """

    def logits(images: Array) -> Array:
        return nets.discriminate(config, params, images)

    judged = Logits(logits(real), logits(fake))
    loss = adversarial_discriminator(config.loss, *judged)
    if config.loss.adversarial == "wgan_gp":
        loss = loss + 0.5 * config.loss.gradient_penalty * gradient_penalty(logits, real, fake, fraction)
    if config.loss.r1 > 0:
        loss = loss + 0.5 * config.loss.r1 / 2 * r1_penalty(logits, real)
    return loss, judged


def adversarial_generator(config: LossConfig, logits: Array) -> Array:
    """How far translations with these logits [b, ...] are from fooling their discriminator: [b]."""
    match config.adversarial:
        case "lsgan":
            return _mean((logits - 1) ** 2)
        case "vanilla":
            return _mean(jax.nn.softplus(-logits))
        case _:  # hinge and wgan_gp
            return -_mean(logits)


def adversarial_discriminator(config: LossConfig, real: Array, fake: Array) -> Array:
    """Half the losses of a discriminator's logits [b, ...] on real and on translated images: [b].

    With label smoothing s, the target for real images is 1 - s, and that for translated ones stays 0.
    """
    smoothing = config.label_smoothing
    match config.adversarial:
        case "lsgan":
            return 0.5 * (_mean((real - (1 - smoothing)) ** 2) + _mean(fake**2))
        case "vanilla" if smoothing > 0:
            on_real = (1 - smoothing) * jax.nn.softplus(-real) + smoothing * jax.nn.softplus(real)
            return 0.5 * (_mean(on_real) + _mean(jax.nn.softplus(fake)))
        case "vanilla":
            return 0.5 * (_mean(jax.nn.softplus(-real)) + _mean(jax.nn.softplus(fake)))
        case "hinge":
            return 0.5 * (_mean(jax.nn.relu(1 - real)) + _mean(jax.nn.relu(1 + fake)))
        case _:
            return 0.5 * (_mean(fake) - _mean(real))


def gradient_penalty(logits: Callable[[Array], Array], real: Array, fake: Array, fraction: Array) -> Array:
    """(|d logits / d image| - 1)^2 at fraction * real + (1 - fraction) * fake: [b] (Gulrajani et al. 2017)."""
    fraction = fraction.reshape(-1, 1, 1, 1)
    between = fraction * real + (1 - fraction) * fake
    slope = jax.grad(lambda images: jnp.sum(logits(images)))(between)
    # The square root has no finite gradient at 0, where a discriminator that is constant somewhere would send it.
    norm = jnp.sqrt(jnp.sum(slope**2, axis=(1, 2, 3)) + 1e-16)
    return (norm - 1) ** 2


def r1_penalty(logits: Callable[[Array], Array], images: Array) -> Array:
    """|d logits / d image|^2 at images [b, h, w, c], the logits of an image added up: [b].

    Times gamma / 2 it is R1 (Mescheder et al. 2018, equation 9), which pulls a discriminator flat at real images.
    """
    slope = jax.grad(lambda images: jnp.sum(logits(images)))(images)
    return jnp.sum(slope**2, axis=(1, 2, 3))


def semantic_terms(
    weights: LossConfig,
    a: Array,
    b: Array,
    fake: Fakes,
    classifiers: dict[str, Any] | None,
    show: Callable[[str, Array], Array] = as_they_are,
) -> dict[str, Array]:
    """Those of semantic_a2b and semantic_b2a that have a weight, [b] each, to be added to L with it; none by default.

    The cross-entropy, in nats, of one domain's classifier on the translations `fake` of the other's images against the
    choice of the other's for the images themselves (Hoffman et al. 2018, equation 4, where one is both). `classifiers`
    has the parameters of a `genjax.classifier` for a and for b, which stay as they are. `show` makes of fake.a
    ("classified_a") and fake.b ("classified_b") what their classifiers are shown. ValueError if `classifiers` is needed
    and None.
    """
    sides = {"semantic_a2b": ("a", a, "b", fake.b), "semantic_b2a": ("b", b, "a", fake.a)}
    sides = {name: side for name, side in sides.items() if getattr(weights, name) > 0}
    if not sides:
        return {}
    if not classifiers:
        raise ValueError(f"{' and '.join(sides)} need classifiers: give them as constants")
    terms = {}
    for name, (domain, images, other, translated) in sides.items():
        seen = classifier.logits(classifiers[domain], (images + 1) / 2)
        found = classifier.logits(classifiers[other], (show(f"classified_{other}", translated) + 1) / 2)
        terms[name] = classifier.cross_entropy(found, jnp.argmax(seen, axis=1))
    return terms


def l1(x: Array, y: Array) -> Array:
    """Mean absolute difference of two batches of images: [b]."""
    return _mean(jnp.abs(x - y))


def dihedral(images: Array, element: Array) -> Array:
    """Turns and mirrors images [b, h, w, c], exactly, by `element` [b] in 0..7: 1 transposes, then 2 flips upside down,
    then 4 mirrors left to right. Images that are not square have even elements only."""

    def has(bit: int) -> Array:
        return ((element & bit) > 0).reshape(-1, 1, 1, 1)

    if images.shape[1] == images.shape[2]:
        images = jnp.where(has(1), images.swapaxes(1, 2), images)
    images = jnp.where(has(2), images[:, ::-1], images)
    return jnp.where(has(4), images[:, :, ::-1], images)


def _mean(x: Array) -> Array:
    return jnp.mean(x, axis=tuple(range(1, x.ndim)))
