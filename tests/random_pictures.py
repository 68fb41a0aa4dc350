"""Pixels at random."""

import numpy as np

RNG = np.random.default_rng(0)


def pixels(height, width, channels, dtype=np.uint8):
    """Others in each call."""
    return RNG.integers(0, np.iinfo(dtype).max, (height, width, channels), dtype, endpoint=True)
