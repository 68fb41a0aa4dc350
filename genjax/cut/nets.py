"""Networks of CUT: a generator, a discriminator, and the heads that project patches of the generator's features."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import Array

from genjax import keys
from genjax.cut.config import CutRun
from genjax.gan import params as parameters
from genjax.gan.generators import Generator
from genjax.gan.networks import Direction, make_discriminator, make_generator
from genjax.nn import layers
from genjax.optim import Params

Features = dict[str, Array]  # maps [b, h, w, c], or patches of them [b, n, c], by the names in --cut.features


class Heads(nn.Module):
    """A perceptron of two layers for each feature, which projects patches to the unit sphere."""

    names: tuple[str, ...]
    units: int = 256
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, patches: Features) -> Features:
        """Maps patches [b, n, c] to unit vectors [b, n, units]."""
        projected = {}
        for name in self.names:
            x = nn.Dense(self.units, dtype=self.dtype, name=f"{name}_hidden")(patches[name])
            x = nn.Dense(self.units, dtype=self.dtype, name=f"{name}_output")(nn.relu(x))
            x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
            # A norm whose gradient at 0 is 0: a patch of zeros has no direction.
            projected[name] = x / (optax.safe_norm(x, 1e-30, axis=-1, keepdims=True) + 1e-7)
        return projected


class Networks(NamedTuple):
    """Linen modules of images [b, h, w, c] in [-1, 1]; the discriminator returns logits [b, h', w', 1]."""

    g_a2b: Generator
    d_b: nn.Module  # tells images of B from translations into B
    heads: Heads

    @property
    def generators(self) -> dict[Direction, Generator]:
        """The generator of the one direction."""
        return {"a2b": self.g_a2b}


MakeNetworks = Callable[[CutRun], Networks]


def make_networks(config: CutRun) -> Networks:
    """Makes the networks that `config.cut` names."""
    heads = Heads(config.cut.features, config.cut.head_units, layers.compute_dtype(config.precision))
    return Networks(make_generator(config, "a2b"), make_discriminator(config), heads)


def features(generator: Generator, names: tuple[str, ...], params: Params, images: Array) -> Features:
    """Returns maps of the generator's encoder for images [b, h, w, c], by name."""
    layer_of = {name: _layer(name) for name in names if name != "pixels"}
    # Flax keeps the outputs of the layers that the filter names, and no others.
    _, found = generator.encoder.apply(
        {"params": params["encoder"]}, images, mutable="intermediates",
        capture_intermediates=lambda module, _: module.name in layer_of.values(),
    )  # fmt: skip
    maps = {name: found["intermediates"][layer]["__call__"][0] for name, layer in layer_of.items()}
    return {name: images if name == "pixels" else maps[name] for name in names}


def project(heads: Heads, params: Params, patches: Features) -> Features:
    """Applies the heads to patches [b, n, c]: unit vectors [b, n, units] by name."""
    projected: Features = heads.apply({"params": params}, patches)  # type: ignore[assignment]
    return projected


def init_heads(networks: Networks, params: Params, key: Array, image_shape: tuple[int, ...]) -> Params:
    """Draws parameters of the heads, for a generator with `params`."""

    def shapes(params: Params, images: Array) -> Params:
        maps = features(networks.g_a2b, networks.heads.names, params, images)
        patches = {name: found.reshape(len(found), -1, found.shape[-1]) for name, found in maps.items()}
        heads: Params = networks.heads.init(keys.root_key(0), patches)["params"]  # traced for shapes alone
        return heads

    return parameters.draw(jax.eval_shape(shapes, params, jnp.zeros((1, *image_shape))), key)


def draw_places(key: Array, maps: Features, num: int) -> Features:
    """Draws `num` places of each map, the same for all images: int32 [num] by name.

    A map that has fewer gives all. Of `maps` it needs the shapes alone.
    """
    # By sorted names, so that the order of --cut.features changes no draw.
    place_keys = zip(sorted(maps), jax.random.split(key, len(maps)), strict=True)
    sizes = {name: found.shape[1] * found.shape[2] for name, found in maps.items()}
    return {name: jax.random.permutation(place_key, sizes[name])[:num] for name, place_key in place_keys}


def patches(maps: Features, places: Mapping[str, Array]) -> Features:
    """Takes the pixels at some places of each map: [b, n, c] by name."""
    return {name: found.reshape(len(found), -1, found.shape[-1])[:, places[name]] for name, found in maps.items()}


def _layer(name: str) -> str:
    """Returns the encoder's layer of a feature (gan/generators.py)."""
    kind, _, number = name.partition("_")
    # A norm also adds what its block passes by. The stem and the strides have one norm each, a block two.
    return f"Conv_{int(number) - 1}" if kind == "down" else f"Norm_{2 * int(number) + 2}"
