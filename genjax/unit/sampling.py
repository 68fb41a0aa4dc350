"""Pictures from UNIT's shared latent: draws of reconstructions and translations, and paths between the domains.

`params` are averaged parameters by direction, as `Translator.params` holds them. Images are [n, h, w, c] in [0, 1], of
a height and width that the generator accepts.
"""

import functools

import jax.numpy as jnp
from jax import Array

from genjax import keys
from genjax.data import image_arrays
from genjax.data.batches import Batch
from genjax.gan import evaluation
from genjax.optim import Params
from genjax.task import State
from genjax.unit import nets
from genjax.unit.config import UnitRun
from genjax.unit.nets import OUT_OF, Domain, MakeNetworks, make_networks

SHOWN = 7
"""Pictures from an image of A to one of B in the rows of samples."""


def draw(
    config: UnitRun, params: Params, source: Domain, target: Domain, images: Array, example_keys: Array,
    temperature: float = 1.0, *, make_networks: MakeNetworks = make_networks,
) -> Array:  # fmt: skip
    """Decodes into `target` a draw z = E(x) + temperature e for each image of `source`, e from `example_keys` [n].

    With equal domains these are reconstructions. Temperature 0 decodes the mean, which is the translation.
    """
    networks = make_networks(config)
    mean = nets.encode(networks, params, source, 2 * images - 1)
    noise = keys.normal(example_keys, mean[0].size).reshape(mean.shape)
    return _unit(nets.decode(networks, params, target, mean + temperature * noise))


def interpolate(
    config: UnitRun, params: Params, target: Domain, images_a: Array, images_b: Array, num: int,
    *, make_networks: MakeNetworks = make_networks,
) -> Array:  # fmt: skip
    """Decodes into `target` `num` latents on the line from E_A(a) to E_B(b): [n, num, h, w, c].

    The first is an image of A as `target` shows it, the last one of B.
    """
    networks = make_networks(config)
    encode = functools.partial(nets.encode, networks, params)
    mean_a, mean_b = encode("a", 2 * images_a - 1), encode("b", 2 * images_b - 1)
    shares = jnp.linspace(0, 1, num, dtype=mean_a.dtype).reshape(1, -1, 1, 1, 1)
    between = mean_a[:, None] + shares * (mean_b - mean_a)[:, None]  # [n, num, h', w', c']
    decoded = nets.decode(networks, params, target, between.reshape(-1, *mean_a.shape[1:]))
    return _unit(decoded).reshape(len(images_a), num, *decoded.shape[1:])


def visualize(
    config: UnitRun, state: State, batch: Batch, key: Array, *, make_networks: MakeNetworks
) -> dict[str, Array]:
    """Returns the rows of other families, and paths from an image of A to one of B, in each domain."""
    rows = evaluation.visualize(config, state, batch, key, make_networks=make_networks)
    a, b = map(image_arrays.to_unit, batch.images)
    for domain in OUT_OF:
        between = interpolate(config, state.ema, domain, a, b, SHOWN, make_networks=make_networks)
        # The pictures of a path side by side: [n, h, num * w, c].
        rows[f"paths-in-{domain}"] = jnp.concatenate(list(between.swapaxes(0, 1)), axis=2)
    return rows


def _unit(images: Array) -> Array:
    return (images + 1) / 2
