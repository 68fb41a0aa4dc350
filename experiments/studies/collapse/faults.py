"""Faults of generators that the health of a run has to show, put into a training from outside."""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
from jax import Array

from genjax.cyclegan import nets

FAULTS = ("none", "collapsed", "inverted", "outplayed")
"""By number. collapsed: one and the same translation of all images, which still learns to fool its discriminator.
inverted: the negative of each image. outplayed: what the first parameters make of it, so that discriminators win."""


@contextlib.contextmanager
def injected(fault: int | Array) -> Iterator[None]:
    """Both generators have the fault of this number, in what is traced meanwhile.

    A traced number makes one program of them all.
    """
    original = nets.generate

    def generate(config: Any, direction: nets.Direction, params: Any, images: Array) -> Array:
        collapsed, inverted, outplayed = (fault == FAULTS.index(name) for name in FAULTS[1:])
        params = jax.tree.map(lambda leaf: jnp.where(outplayed, jax.lax.stop_gradient(leaf), leaf), params)
        translated = original(config, direction, params, jnp.where(collapsed, jnp.zeros_like(images), images))
        return jnp.where(inverted, -images, translated)

    with mock.patch.object(nets, "generate", generate):
        yield
