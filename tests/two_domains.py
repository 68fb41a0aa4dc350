"""Two domains of noise, and the networks of a CycleGAN that trains on them."""

import numpy as np

NETWORKS = ("g_a2b", "g_b2a", "d_a", "d_b")
SMALL = {"base_channels": 2, "num_blocks": 0, "discriminator_channels": 2, "pool_size": 12}


def noise(shape=(16, 16, 1), num=(20, 28)):
    """Two domains of unequal size, one dark and one light."""
    rng = np.random.default_rng(0)
    dark, light = (rng.integers(low, low + 128, (n, *shape), np.uint8) for low, n in zip((0, 128), num, strict=True))
    return dark, light
