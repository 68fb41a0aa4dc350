"""Losses of CUT's generator: a dict of named terms, each with a weight in LossConfig.

With G from A to B and D_B the discriminator of B, generator and heads minimise

    g_loss = sum over TERMS of weight * term

All terms are [b], one number for each example. A new term is one function, one line in TERMS and one field in
LossConfig. Adversarial losses are in genjax/gan/adversarial.py.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from genjax.cut.config import LossConfig
from genjax.gan import adversarial
from genjax.gan.terms import Terms
from genjax.keys import Draw

# Weights of the public code, which halves both PatchNCE losses where the paper's equation 6 adds them; and FastCUT's.
CUT = LossConfig(adversarial_a2b=1.0, nce_a=0.5, nce_b=0.5)
FAST_CUT = LossConfig(adversarial_a2b=1.0, nce_a=10.0)


class Inputs(NamedTuple):
    """Inputs of every loss term."""

    loss: LossConfig
    a: Array  # images of A, [b, h, w, c] in [-1, 1]
    b: Array
    fake_b: Array  # translations G(a)
    to_b: Callable[[Array], Array]  # G, of the mirror image where that is drawn
    d_b: adversarial.Discriminator
    nce: Callable[[Array, Array], Array]  # (images, their translations) -> PatchNCE [b]
    augment: Callable[[Draw, Array], Array]  # images as a discriminator sees them


def patch_nce(queries: Array, keys: Array, temperature: float) -> Array:
    """Computes PatchNCE [b], in nats: how badly each patch finds its own among the patches of the same image.

    `queries` are unit vectors [b, n, c] of a translation, `keys` those of its image at the same places. It is the
    cross-entropy of softmax(queries keys^T / temperature) against the diagonal (Park et al. 2020, equations 2 and 4):
    log n if all vectors are equal.
    """
    logits = jnp.einsum("bqc,bkc->bqk", queries, keys) / temperature
    return -jnp.mean(jnp.diagonal(jax.nn.log_softmax(logits), axis1=1, axis2=2), axis=1)


# ORDER MATTERS: gradients are summed in the order of the terms, which changes their last bits. Append new terms.
TERMS: Terms = {
    "adversarial_a2b": lambda n: adversarial.generator_loss(n.loss, n.d_b(n.augment(Draw.FOOLED_B, n.fake_b))),
    "nce_a": lambda n: n.nce(n.a, n.fake_b),
    "nce_b": lambda n: n.nce(n.b, n.to_b(n.b)),
}
