"""Tiny models of all kinds with random weights, for tests of exported programs."""

from collections.abc import Mapping
from types import MappingProxyType

import jax

from genjax import cyclegan, keys, parallel
from genjax.cyclegan.nets import make_networks
from genjax.gan.translator import Translator
from genjax.vae.model import from_config
from genjax.vae.sampler import Sampler
from tiny import tiny_cyclegan, tiny_run

SHAPES = {"likelihood": "gaussian", "sigma": 0.05}
VAES = {
    "mlp": {},
    "conv": {"architecture": "conv", "hidden_sizes": (4, 4), "activation": "relu"},
    "ladder": {"architecture": "ladder", "hidden_sizes": (8,), "groups": (2, 3), "activation": "silu"},
    "spatial": {"architecture": "spatial", "hidden_sizes": (4, 3), "groups": (1, 2), "strides": (4, 2)},
    "wavelet": {"architecture": "wavelet", "hidden_sizes": (4, 3), "groups": (1, 2), **SHAPES},
    "chain": {"architecture": "chain", "hidden_sizes": (8,), "groups": (2, 3), "upper_sizes": (6,)},
    "mixture": {"likelihood": "logistic_mixture", "mixtures": 2},
}
"""Fields of VaeConfig."""

GENERATORS = {
    "resnet": {},
    "residual": {"output": "residual", "generator_norm": "group", "norm_affine": True},
    "unet": {"generator": "unet", "num_downs": 3, "generator_norm": "layer"},
}
"""Fields of CycleGanConfig."""


def mesh():
    return parallel.make_mesh(jax.devices()[:1])


def make_sampler(name: str) -> Sampler:
    """Makes a VAE of 8x8 images."""
    fields = {**VAES[name]} if name in ("mlp", "conv", "mixture") else {"latent_dim": 32, **VAES[name]}
    run = tiny_run("unused", vae=fields, data={"binarize": "none"} if "likelihood" in fields else {})
    model = from_config(run)
    params = jax.tree.map(lambda leaf: 1.5 * leaf, model.init(jax.random.key(0)))
    return Sampler(run, model, params, 0, mesh())


def make_translator(name: str, data: Mapping = MappingProxyType({}), **changes) -> Translator:
    """Makes a CycleGAN of images of 3 channels in A, and 1 in B, or of 3 in both if its output is residual."""
    data = {"channels": (3, 3) if name == "residual" else (3, 1), **data}
    loss = {"identity_a": 0.0, "identity_b": 0.0}
    run = tiny_cyclegan("unused", cyclegan=GENERATORS[name], data=data, loss=loss, **changes)
    return Translator(run, cyclegan.TASK.init(run, keys.root_key(0)).ema, 0, mesh(), make_networks)
