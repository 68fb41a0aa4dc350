"""Two domains of noise, networks of a CycleGAN that trains on them, and a step of any family on many devices."""

import flax.linen as nn
import jax
import numpy as np

from genjax.gan import generators
from genjax.gan.discriminators import PixelDiscriminator
from genjax.gan.networks import TwoWay
from studies.reproducibility.stepping import mesh_of, replicas_agree, walk

NETWORKS = ("g_a2b", "g_b2a", "d_a", "d_b")
SMALL = {"base_channels": 2, "num_blocks": 0, "discriminator_channels": 2, "pool_size": 12}


def noise(shape=(16, 16, 1), num=(20, 28)):
    """Two domains of unequal size, one dark and one light."""
    rng = np.random.default_rng(0)
    dark, light = (rng.integers(low, low + 128, (n, *shape), np.uint8) for low, n in zip((0, 128), num, strict=True))
    return dark, light


def small_networks(config):
    """Networks of few layers, which compile in a moment, for what does not depend on them."""
    small = (generators.Generator(nn.Conv(2, (3, 3)), nn.Conv(1, (3, 3))) for _ in range(2))
    return TwoWay(*small, PixelDiscriminator(2), PixelDiscriminator(2))


def assert_step_agrees_on_devices(task, config, networks):
    """Compares a step on eight devices with that on one, in float64, and returns the metrics.

    All metrics are compared, and gradients, as Adam's first moments of these networks keep them (R3, R4); the eight
    replicas have to be equal (R6).
    """
    (one, alone), (eight, shared) = (next(walk(task, config, noise(), mesh_of(num), 1, np.float64)) for num in (1, 8))
    assert replicas_agree(eight)
    close = dict(rtol=1e-8, atol=1e-12)
    for name in alone:
        np.testing.assert_allclose(alone[name], shared[name], **close, err_msg=name)
    for name in networks:
        moments = (jax.tree.leaves(getattr(state, name).opt_state.mu) for state in (one, eight))
        for a, b in zip(*moments, strict=True):
            np.testing.assert_allclose(a, b, **close, err_msg=name)
    return alone
