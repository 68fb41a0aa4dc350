"""Faults of generators that a run's monitor must detect."""

import jax
import jax.numpy as jnp
from jax import Array

from genjax.cyclegan import nets
from genjax.cyclegan.config import CycleGanRun
from genjax.gan.generators import Generator
from genjax.gan.networks import TwoWay

FAULTS = ("none", "collapsed", "inverted", "outplayed")
"""Names of faults by number. collapsed: the same translation for all images, which still learns to fool its
discriminator. inverted: the negative of each image. outplayed: a generator that never learns, so that its discriminator
wins."""


class FaultyGenerator(Generator):
    """A generator with a fault, given by number; a traced number compiles all faults into one program."""

    fault: int | Array = 0

    def __call__(self, x: Array) -> Array:
        """Maps images [b, h, w, c] to images [b, h, w, c']."""
        collapsed, inverted, outplayed = (self.fault == FAULTS.index(name) for name in FAULTS[1:])
        y = super().__call__(jnp.where(collapsed, jnp.zeros_like(x), x))
        y = jnp.where(outplayed, jax.lax.stop_gradient(y), y)
        return jnp.where(inverted, -x, y)


def faulty_networks(fault: int | Array) -> nets.MakeNetworks:
    """Returns a function that makes networks whose generators both have the fault."""

    def make_networks(config: CycleGanRun) -> TwoWay:
        networks = nets.make_networks(config)
        g_a2b, g_b2a = (
            FaultyGenerator(generator.encoder, generator.decoder, generator.residual, fault)
            for generator in (networks.g_a2b, networks.g_b2a)
        )
        return networks._replace(g_a2b=g_a2b, g_b2a=g_b2a)

    return make_networks
