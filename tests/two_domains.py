"""Two domains of noise, and the networks of a CycleGAN that trains on them."""

import flax.linen as nn
import numpy as np

from genjax.gan import generators
from genjax.gan.discriminators import PixelDiscriminator
from genjax.gan.networks import TwoWay

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
