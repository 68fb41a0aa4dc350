"""Networks of a CycleGAN: the generators and discriminators of a run."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import flax.linen as nn

from genjax.cyclegan.config import CycleGanRun
from genjax.gan import discriminators, generators
from genjax.nn import layers

Direction = Literal["a2b", "b2a"]

DOMAINS: dict[Direction, tuple[int, int]] = {"a2b": (0, 1), "b2a": (1, 0)}  # source and target domain of a generator

# Names in the state and in metrics.
GENERATORS, DISCRIMINATORS = ("g_a2b", "g_b2a"), ("d_a", "d_b")


class Networks(NamedTuple):
    """Linen modules of images [b, h, w, c] in [-1, 1]; discriminators return logits [b, h', w', 1]."""

    g_a2b: generators.Generator
    g_b2a: generators.Generator
    d_a: nn.Module  # tells images of A from translations into A
    d_b: nn.Module

    def generator(self, direction: Direction) -> generators.Generator:
        """Returns the generator of a direction."""
        return self.g_a2b if direction == "a2b" else self.g_b2a


MakeNetworks = Callable[[CycleGanRun], Networks]


def make_networks(config: CycleGanRun) -> Networks:
    """Makes the networks that `config.cyclegan` names."""
    return Networks(
        _generator(config, "a2b"), _generator(config, "b2a"), _discriminator(config), _discriminator(config)
    )


def _generator(config: CycleGanRun, direction: Direction) -> generators.Generator:
    net, dtype = config.cyclegan, layers.compute_dtype(config.precision)
    channels, residual = config.data.channels[DOMAINS[direction][1]], net.output == "residual"
    settings = residual, net.generator_norm, net.norm_affine, dtype
    if net.generator == "unet":
        return generators.unet(channels, net.base_channels, net.num_downs, *settings)
    return generators.resnet(channels, net.base_channels, net.num_blocks, *settings)


def _discriminator(config: CycleGanRun) -> nn.Module:
    net, dtype = config.cyclegan, layers.compute_dtype(config.precision)
    settings = net.discriminator_norm, net.norm_affine, dtype
    if net.discriminator == "pixel":
        return discriminators.PixelDiscriminator(net.discriminator_channels, *settings)
    return discriminators.PatchDiscriminator(net.discriminator_channels, net.discriminator_layers, *settings)
