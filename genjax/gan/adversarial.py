"""Adversarial losses, their penalties, and the accuracy of a discriminator.

Losses are [b], one for each image; logits are [b, ...] and averaged over an image's patches or pixels.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from genjax.checks import check_finite, check_used, flag, require

Discriminator = Callable[[Array], Array]  # images [b, h, w, c] -> logits [b, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdversarialConfig:
    """The adversarial loss and the penalties on discriminators; a base of a family's losses."""

    identity: ClassVar[str]  # flags of the losses that keep an image of the target domain as it is

    adversarial: Literal["lsgan", "vanilla", "hinge", "wgan_gp"] = "lsgan"
    """Adversarial loss. lsgan: least squares (Mao et al. 2017). vanilla: non-saturating (Goodfellow et al. 2014).
    hinge: Lim and Ye 2017. wgan_gp: Wasserstein with gradient penalty (Gulrajani et al. 2017)."""
    gradient_penalty: float = 10.0
    """wgan_gp: weight of (|gradient| - 1)^2 between real and generated images, relative to the whole Wasserstein
    loss."""
    r1: float = 0.0
    """gamma: half the weight of |gradient|^2 at real images, relative to the whole adversarial loss (Mescheder et al.
    2018)."""
    label_smoothing: float = 0.0
    """lsgan and vanilla: amount by which the discriminators' target for real images is below 1. The target for
    generated images stays 0 (one-sided label smoothing: Salimans et al. 2016)."""

    def __post_init__(self) -> None:
        check_finite(self, "loss")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            require(
                isinstance(value, str) or value >= 0, f"{flag('loss', field.name)} must not be negative, got {value}"
            )
        require(self.label_smoothing < 0.5, f"--loss.label-smoothing must lie in [0, 0.5), got {self.label_smoothing}")
        check_used(self, "loss", ("label_smoothing",), "adversarial", ("lsgan", "vanilla"))
        check_used(self, "loss", ("gradient_penalty",), "adversarial", ("wgan_gp",))


class Logits(NamedTuple):
    """Logits of one discriminator, [b, h', w', 1], on real and on generated images."""

    real: Array
    fake: Array


def generator_loss(config: AdversarialConfig, logits: Array) -> Array:
    """Computes a generator's adversarial loss [b] from the logits [b, ...] of its images."""
    match config.adversarial:
        case "lsgan":
            return _mean((logits - 1) ** 2)
        case "vanilla":  # -log sigmoid(logits), which does not saturate
            return _mean(jax.nn.softplus(-logits))
        case _:  # hinge and wgan_gp: the critic's value, without a bound
            return -_mean(logits)


def discriminator_loss(
    config: AdversarialConfig, discriminator: Discriminator, real: Array, fake: Array, fraction: Array
) -> tuple[Array, Logits]:
    """Computes a discriminator's loss [b] on real and generated images [b, h, w, c], and its logits.

    The loss is half the sum over both kinds of images and all penalties. `fraction` [b] in [0, 1] places the points
    of the gradient penalty between the two.
    """
    logits = Logits(discriminator(real), discriminator(fake))
    loss = real_fake_loss(config, *logits)
    # Penalties are halved with the rest: their weights are relative to the whole loss.
    if config.adversarial == "wgan_gp":
        loss = loss + 0.5 * config.gradient_penalty * gradient_penalty(discriminator, real, fake, fraction)
    if config.r1 > 0:
        loss = loss + 0.5 * config.r1 / 2 * r1_penalty(discriminator, real)
    return loss, logits


def real_fake_loss(config: AdversarialConfig, real: Array, fake: Array) -> Array:
    """Averages a discriminator's losses [b] from its logits [b, ...] on real and on generated images."""
    # Half the sum, so that a discriminator learns more slowly than its generator (Zhu et al. 2017, section 7.1).
    smoothing = config.label_smoothing  # one-sided: the target for generated images stays 0
    match config.adversarial:
        case "lsgan":
            return 0.5 * (_mean((real - (1 - smoothing)) ** 2) + _mean(fake**2))
        case "vanilla" if smoothing > 0:
            # Cross-entropy against the target 1 - s.
            on_real = (1 - smoothing) * jax.nn.softplus(-real) + smoothing * jax.nn.softplus(real)
            return 0.5 * (_mean(on_real) + _mean(jax.nn.softplus(fake)))
        case "vanilla":
            return 0.5 * (_mean(jax.nn.softplus(-real)) + _mean(jax.nn.softplus(fake)))
        case "hinge":
            return 0.5 * (_mean(jax.nn.relu(1 - real)) + _mean(jax.nn.relu(1 + fake)))
        case _:
            return 0.5 * (_mean(fake) - _mean(real))


def gradient_penalty(discriminator: Discriminator, real: Array, fake: Array, fraction: Array) -> Array:
    """Computes (|gradient| - 1)^2 [b] at fraction * real + (1 - fraction) * fake (Gulrajani et al. 2017)."""
    fraction = fraction.reshape(-1, 1, 1, 1)
    # Algorithm 1 there: x_hat on the line between a real and a generated image.
    between = fraction * real + (1 - fraction) * fake
    grad = jax.grad(lambda images: jnp.sum(discriminator(images)))(between)  # of a sum: images do not mix
    # The square root has no finite gradient at 0, and a locally constant discriminator has gradient 0.
    norm = jnp.sqrt(jnp.sum(grad**2, axis=(1, 2, 3)) + 1e-16)
    return (norm - 1) ** 2


def r1_penalty(discriminator: Discriminator, images: Array) -> Array:
    """Computes |gradient|^2 [b] of the summed logits with respect to each image.

    Times gamma / 2 it is R1 (Mescheder et al. 2018, equation 9), which flattens a discriminator at real images.
    """
    grad = jax.grad(lambda images: jnp.sum(discriminator(images)))(images)
    return jnp.sum(grad**2, axis=(1, 2, 3))


def accuracy(config: AdversarialConfig, logits: Logits) -> Array:
    """Computes the share [] of logits on the right side of the threshold between the loss's two targets.

    Real and generated images count equally. wgan_gp has no targets: there it is the share of logits on real images that
    exceed the logits at the same place on generated ones.
    """
    if config.adversarial == "wgan_gp":
        return jnp.mean((logits.real > logits.fake) + 0.0)
    # The middle m between the targets 0 and 1 - s, and for vanilla its logit, log(m / (1 - m)).
    target = 1 - config.label_smoothing
    threshold = {"lsgan": target / 2, "vanilla": math.log(target / (2 - target))}.get(config.adversarial, 0.0)
    return (jnp.mean((logits.real > threshold) + 0.0) + jnp.mean((logits.fake < threshold) + 0.0)) / 2


def _mean(x: Array) -> Array:
    return jnp.mean(x, axis=tuple(range(1, x.ndim)))
