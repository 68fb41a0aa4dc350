"""Masks of where translation may act: loading of the one that a run names, and measuring one without pairs."""

import dataclasses
import hashlib

import numpy as np

from genjax.cyclegan.config import CycleGanRun
from genjax.data import folders, image_arrays

SAMPLE = 1000
"""Largest number of images of each domain, evenly spaced, that a mask is measured from."""
SHUFFLES = 20
"""Random halves of all images. Of sets without a difference, one in 21 has a free pixel by chance."""


def load(config: CycleGanRun) -> tuple[CycleGanRun, dict[str, np.ndarray]]:
    """Loads `keep_mask` as uint8 [h, w, 1], 255 where translation is free, after `config` with its SHA-256.

    Without one there is none. Raises FileNotFoundError or ValueError if the picture cannot be read, or if its pixels
    are not those that the SHA-256 says.
    """
    if not config.keep_mask:
        return config, {}
    # A mask is grey and of 8 bits, whatever the images are, and may be small.
    data = dataclasses.replace(config.data, channels=(1, 1), bits=8, levels="full", upscale=True)
    masks = folders.read_images([config.keep_mask], data)
    if len(masks) > 1:
        raise ValueError(f"--keep-mask {config.keep_mask} holds {len(masks)} pictures: give one of them")
    mask = masks[0]
    sha256 = hashlib.sha256(np.ascontiguousarray(mask).data).hexdigest()
    if config.keep_mask_sha256 not in ("", sha256):
        raise ValueError(
            f"{config.keep_mask} is not the mask of this run: the SHA-256 of its pixels is {sha256}, not "
            f"{config.keep_mask_sha256}. Restore it, or give no --keep-mask-sha256 and another --workdir"
        )
    return dataclasses.replace(config, keep_mask_sha256=sha256), {"keep_mask": mask}


def measure(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Finds where two sets of aligned images differ by more than chance.

    Images [n, h, w, c] give uint8 [h, w, 1]: 255 where they differ, else 0. At a pixel that needs no translation, both
    sets have the same distribution. Random halves of all images show how large a distance chance makes; a pixel above
    the largest one, of any pixel and shuffle, is free. Raises ValueError for images of different shapes.
    """
    if a.shape[1:] != b.shape[1:]:
        raise ValueError(
            f"images of {list(a.shape[1:])} and {list(b.shape[1:])} have no pixels in common: give equal channels"
        )
    num = min(SAMPLE, len(a), len(b))  # as many of either, as sorted levels are compared one by one
    both = np.concatenate([image_arrays.evenly_spaced(images, num) for images in (a, b)])
    by_chance = 0.0
    for shuffle in range(SHUFFLES):  # raw words of Philox, as for batches: the same in every NumPy version
        order = np.argsort(np.random.Philox(np.random.SeedSequence(shuffle)).random_raw(2 * num), kind="stable")
        by_chance = max(by_chance, _distance(both[order[:num]], both[order[num:]]).max())
    return np.where(_distance(both[:num], both[num:]) > by_chance, 255, 0).astype(np.uint8)[..., None]


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Computes the largest distance over channels between distributions of levels, at each pixel: [h, w].

    The distance is Wasserstein's first: the mean difference of sorted levels.
    """
    ordered = (np.sort(images, axis=0).astype(np.int32) for images in (a, b))  # signed, for differences
    return np.abs(np.subtract(*ordered)).mean(axis=0).max(axis=-1)
