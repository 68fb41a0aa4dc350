"""Pixels at random."""

import numpy as np

_generator = np.random.default_rng(0)


def restart() -> None:
    """Makes the pixels of a test independent of the tests before it, and others than those of modules."""
    global _generator
    _generator = np.random.default_rng(1)


def pixels(height, width, channels, dtype=np.uint8):
    """Others in each call."""
    return _generator.integers(0, np.iinfo(dtype).max, (height, width, channels), dtype, endpoint=True)
