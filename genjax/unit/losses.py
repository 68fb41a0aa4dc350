"""Losses of UNIT's encoders and decoders: a dict of named terms, each with a weight in LossConfig.

With encoders E_A and E_B, decoders G_A and G_B, and noise e ~ N(0, I), an image a has the latent z = E_A(a) + e, the
reconstruction G_A(z) and the translation G_B(z). Encoders and decoders minimise

    g_loss = sum over TERMS of weight * term

All terms are [b], one number for each example. A new term is one function, one line in TERMS and one field in
LossConfig. Adversarial losses are in genjax/gan/adversarial.py.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from genjax.evaluation.image_metrics import l1
from genjax.gan import adversarial
from genjax.gan.terms import Lpips, Terms, lpips_by
from genjax.keys import Draw
from genjax.unit.config import LossConfig

# The paper's weights (section 4: 10, 0.1, 100, 0.1, 100), all divided by ten.
UNIT = LossConfig(
    adversarial_a2b=1.0, adversarial_b2a=1.0, reconstruction_a=10.0, reconstruction_b=10.0, kl_a=0.01, kl_b=0.01,
    cycle_a=10.0, cycle_b=10.0, cycle_kl_a=0.01, cycle_kl_b=0.01,
)  # fmt: skip


class Made(NamedTuple):
    """Latents and images of a batch: means [b, h', w', c'], and images [b, h, w, c] in [-1, 1]."""

    mean_a: Array  # E_A(a)
    mean_b: Array
    reconstructed_a: Array  # G_A(z_a)
    reconstructed_b: Array
    fake_a: Array  # translations G_A(z_b)
    fake_b: Array
    again_a: Array  # E_B(G_B(z_a)): the mean of what an image of A became
    again_b: Array
    cycled_a: Array  # translations there and back
    cycled_b: Array


class Inputs(NamedTuple):
    """Inputs of every loss term."""

    loss: LossConfig
    a: Array  # images of A, [b, h, w, c] in [-1, 1]
    b: Array
    made: Made
    d_a: adversarial.Discriminator
    d_b: adversarial.Discriminator
    augment: Callable[[Draw, Array], Array]  # images as a discriminator sees them
    lpips: Lpips = lpips_by({})


def kl(mean: Array) -> Array:
    """Computes the KL [b] of N(mean, I) from N(0, I), for means [b, h, w, c].

    It is mean^2 / 2, in nats for each number of the latent (Liu et al. 2017, equation 3). Times h w c it is the KL of
    the whole latent.
    """
    return jnp.mean(mean**2, axis=(1, 2, 3)) / 2


# ORDER MATTERS: gradients are summed in the order of the terms, which changes their last bits. Append new terms.
TERMS: Terms = {
    "adversarial_a2b": lambda n: adversarial.generator_loss(n.loss, n.d_b(n.augment(Draw.FOOLED_B, n.made.fake_b))),
    "adversarial_b2a": lambda n: adversarial.generator_loss(n.loss, n.d_a(n.augment(Draw.FOOLED_A, n.made.fake_a))),
    "reconstruction_a": lambda n: l1(n.made.reconstructed_a, n.a),
    "reconstruction_b": lambda n: l1(n.made.reconstructed_b, n.b),
    "kl_a": lambda n: kl(n.made.mean_a),
    "kl_b": lambda n: kl(n.made.mean_b),
    "cycle_a": lambda n: l1(n.made.cycled_a, n.a),
    "cycle_b": lambda n: l1(n.made.cycled_b, n.b),
    "cycle_kl_a": lambda n: kl(n.made.again_a),
    "cycle_kl_b": lambda n: kl(n.made.again_b),
    "perceptual_reconstruction": lambda n: n.lpips(n.made.reconstructed_a, n.a) + n.lpips(n.made.reconstructed_b, n.b),
    "perceptual_cycle": lambda n: n.lpips(n.made.cycled_a, n.a) + n.lpips(n.made.cycled_b, n.b),
}
