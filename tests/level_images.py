"""Arrays of images that are one grey level each, and the levels of splits of them."""

import numpy as np


def arrays(splits):
    """The one array of each split."""
    assert all(len(source) == 1 for source in splits)
    return [source[0] for source in splits]


def rows(array):
    """Each image as bytes."""
    return [image.tobytes() for image in array]


def levels(splits):
    """The grey level of each image that is one level all over, split by split."""
    assert all(len(np.unique(image)) == 1 for array in arrays(splits) for image in array)
    return [array[:, 0, 0, 0].tolist() for array in arrays(splits)]


def constant(values, shape=(4, 4)):
    """Images of these grey levels."""
    return np.stack([np.full(shape, value, np.uint8) for value in values])
