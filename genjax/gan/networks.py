"""Generators and discriminators of a run, and the directions in which a family translates."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol

import flax.linen as nn

from genjax.gan import discriminators, generators
from genjax.gan.config import GanRun
from genjax.nn import layers

Direction = Literal["a2b", "b2a"]

DOMAINS: dict[Direction, tuple[int, int]] = {"a2b": (0, 1), "b2a": (1, 0)}  # source and target domain of a generator

BACK: dict[Direction, Direction] = {"a2b": "b2a", "b2a": "a2b"}


class Translating(Protocol):
    """Networks of a family, a NamedTuple of Linen modules, some of which translate."""

    @property
    def generators(self) -> Mapping[Direction, generators.Generator]:
        """The generator of each direction that the family has."""
        ...


class TwoWay(NamedTuple):
    """Networks that translate both ways: Linen modules of images [b, h, w, c] in [-1, 1]."""

    g_a2b: generators.Generator
    g_b2a: generators.Generator
    d_a: nn.Module  # tells images of A from translations into A, by logits [b, h', w', 1]
    d_b: nn.Module

    @property
    def generators(self) -> dict[Direction, generators.Generator]:
        """The generator of each direction."""
        return {"a2b": self.g_a2b, "b2a": self.g_b2a}


GENERATORS, DISCRIMINATORS = ("g_a2b", "g_b2a"), ("d_a", "d_b")  # their names in states and in metrics

MakeNetworks = Callable[[Any], Translating]  # from the run's configuration


def make_generator(config: GanRun, direction: Direction) -> generators.Generator:
    """Makes the generator of a direction. It maps images [b, h, w, c] in [-1, 1] to [b, h, w, c']."""
    net, dtype = config.net, layers.compute_dtype(config.precision)
    channels, residual = config.data.channels[DOMAINS[direction][1]], net.output == "residual"
    settings = residual, net.generator_norm, net.norm_affine, dtype
    if net.generator == "unet":
        return generators.unet(channels, net.base_channels, net.num_downs, *settings)
    return generators.resnet(channels, net.base_channels, net.num_blocks, *settings)


def make_discriminator(config: GanRun) -> nn.Module:
    """Makes a discriminator; it maps images [b, h, w, c] in [-1, 1] to logits [b, h', w', 1]."""
    net, dtype = config.net, layers.compute_dtype(config.precision)
    settings = net.discriminator_norm, net.norm_affine, dtype
    if net.discriminator == "pixel":
        return discriminators.PixelDiscriminator(net.discriminator_channels, *settings)
    return discriminators.PatchDiscriminator(net.discriminator_channels, net.discriminator_layers, *settings)
