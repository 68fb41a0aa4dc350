"""Networks of UNIT: an encoder and a decoder of each domain around a shared latent, and discriminators.

The generator of a direction is the encoder of its source and the decoder of its target. The layers of an encoder
or decoder are its `own`, or `shared`: of these there is one set of parameters for both domains.
"""

import functools
from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from genjax.gan.generators import Features, Generator, ResidualBlocks, ResnetDecoder, ResnetEncoder
from genjax.gan.networks import DOMAINS, Direction, TwoWay, make_discriminator
from genjax.gan.params import apply
from genjax.nn import layers
from genjax.nn.layers import Map
from genjax.optim import Params
from genjax.unit.config import UnitRun

Domain = Literal["a", "b"]
OUT_OF: dict[Domain, Direction] = {"a": "a2b", "b": "b2a"}  # direction whose generator holds the domain's encoder
INTO: dict[Domain, Direction] = {"a": "b2a", "b": "a2b"}  # and that with its decoder


class Encoder(nn.Module):
    """Layers of a domain, then the shared ones."""

    own: ResnetEncoder
    shared: ResidualBlocks

    def __call__(self, x: Map) -> Features:
        """Maps images [b, h, w, c] to the mean of their latents, one map [b, h/4, w/4, 4 base_channels]."""
        return self.shared(self.own(x))


class Decoder(nn.Module):
    """The shared layers, then those of a domain."""

    shared: ResidualBlocks
    own: ResnetDecoder

    @property
    def last_layer(self) -> str:
        """Names the output layer."""
        return self.own.last_layer

    def __call__(self, features: Features) -> Map:
        """Maps latents, one map, to images [b, h, w, c], not bounded."""
        return self.own(self.shared(features))


MakeNetworks = Callable[[UnitRun], TwoWay]


def make_networks(config: UnitRun) -> TwoWay:
    """Makes the networks that `config.unit` names."""
    net = config.unit
    settings = net.generator_norm, net.norm_affine, layers.compute_dtype(config.precision)
    own, shared = net.num_blocks - net.shared_blocks, functools.partial(ResidualBlocks, net.shared_blocks, *settings)

    def generator(direction: Direction) -> Generator:
        channels = config.data.channels[DOMAINS[direction][1]]
        encoder = Encoder(ResnetEncoder(net.base_channels, own, *settings), shared())
        return Generator(encoder, Decoder(shared(), ResnetDecoder(channels, net.base_channels, *settings, own)))

    return TwoWay(generator("a2b"), generator("b2a"), make_discriminator(config), make_discriminator(config))


def by_direction(params: Params) -> Params:
    """Arranges trained parameters as those of the two generators, both of which hold what is shared."""
    encoder, decoder = (params[f"shared_{part}"] for part in ("encoder", "decoder"))
    return {
        direction: {
            "encoder": {"own": params[f"encoder_{source}"], "shared": encoder},
            "decoder": {"own": params[f"decoder_{target}"], "shared": decoder},
        }
        for direction, source, target in (("a2b", "a", "b"), ("b2a", "b", "a"))
    }


def joined(directions: Params) -> Params:
    """Arranges the parameters of both generators as trained ones; what is shared is taken from A to B."""
    (encoder_a, decoder_b), (encoder_b, decoder_a) = (  # A to B encodes A and decodes B
        (directions[way]["encoder"], directions[way]["decoder"]) for way in ("a2b", "b2a")
    )
    own = {"encoder_a": encoder_a, "encoder_b": encoder_b, "decoder_a": decoder_a, "decoder_b": decoder_b}
    shared = {"shared_encoder": encoder_a["shared"], "shared_decoder": decoder_b["shared"]}
    return {name: coder["own"] for name, coder in own.items()} | shared


def encode(networks: TwoWay, directions: Params, domain: Domain, images: Array) -> Array:
    """Returns the mean of the latents [b, h', w', c'] of images [b, h, w, c] of a domain."""
    way = OUT_OF[domain]
    (mean,) = apply(networks.generators[way].encoder, directions[way]["encoder"], images)
    return mean.astype(images.dtype)  # layers may compute in bfloat16; latents and their noise keep their type


def decode(networks: TwoWay, directions: Params, domain: Domain, latents: Array) -> Array:
    """Returns images [b, h, w, c] of a domain for latents [b, h', w', c']."""
    way = INTO[domain]
    images = apply(networks.generators[way].decoder, directions[way]["decoder"], (latents,))  # type: ignore[arg-type]
    return jnp.tanh(images.astype(latents.dtype))
