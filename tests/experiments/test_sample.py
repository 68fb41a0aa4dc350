"""sample.py: pictures that move."""

import io

import numpy as np
from PIL import Image

import sample
from genjax.data import image_arrays


def test_animation_goes_there_and_back_without_loss():
    """Of two rows of four pictures: six frames, each of both rows side by side."""
    pictures = np.random.default_rng(0).integers(0, 256, (8, 5, 6, 1), np.uint8)
    with Image.open(io.BytesIO(sample.animation(pictures, 4))) as found:
        frames = []
        for i in range(found.n_frames):
            found.seek(i)
            frames.append(np.asarray(found.convert("RGB"))[..., :1])
    shown = [image_arrays.grid(pictures[[step, 4 + step]], 2) for step in (0, 1, 2, 3, 2, 1)]
    np.testing.assert_array_equal(frames, shown)
