"""Networks of a CycleGAN: the generators and discriminators of a run."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn

from genjax.cyclegan.config import CycleGanRun
from genjax.gan.generators import Generator
from genjax.gan.networks import Direction, make_discriminator, make_generator

# Names in the state and in metrics.
GENERATORS, DISCRIMINATORS = ("g_a2b", "g_b2a"), ("d_a", "d_b")


class Networks(NamedTuple):
    """Linen modules of images [b, h, w, c] in [-1, 1]; discriminators return logits [b, h', w', 1]."""

    g_a2b: Generator
    g_b2a: Generator
    d_a: nn.Module  # tells images of A from translations into A
    d_b: nn.Module

    @property
    def generators(self) -> dict[Direction, Generator]:
        """The generator of each direction."""
        return {"a2b": self.g_a2b, "b2a": self.g_b2a}


MakeNetworks = Callable[[CycleGanRun], Networks]


def make_networks(config: CycleGanRun) -> Networks:
    """Makes the networks that `config.cyclegan` names."""
    return Networks(
        make_generator(config, "a2b"), make_generator(config, "b2a"),
        make_discriminator(config), make_discriminator(config),
    )  # fmt: skip
