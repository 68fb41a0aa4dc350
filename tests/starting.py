"""Starts of tiny runs from other weights."""

import dataclasses

import jax

from genjax import cyclegan, vae
from genjax.train import fingerprint, starts


def prepared(config, *init_from, **changes):
    """The configuration with its digests, and the parts, of a VAE or a CycleGAN that begins from these sources."""
    task = vae.TASK if config.data.source == "digits" else cyclegan.TASK
    return starts.prepared(task, dataclasses.replace(config, init_from=tuple(map(str, init_from)), **changes))


def equal(a, b):
    return fingerprint.tree_digest(jax.device_get(a)) == fingerprint.tree_digest(jax.device_get(b))
