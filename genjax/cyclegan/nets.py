"""Networks of a CycleGAN: the generators and discriminators of a run."""

from collections.abc import Callable

from genjax.cyclegan.config import CycleGanRun
from genjax.gan.networks import TwoWay, make_discriminator, make_generator

MakeNetworks = Callable[[CycleGanRun], TwoWay]


def make_networks(config: CycleGanRun) -> TwoWay:
    """Makes the networks that `config.cyclegan` names."""
    return TwoWay(
        make_generator(config, "a2b"), make_generator(config, "b2a"),
        make_discriminator(config), make_discriminator(config),
    )  # fmt: skip
