"""Metrics of images or pairs of images, which are floats [n, h, w, c] in [0, 1].

`l1`, `luminance`, `correlation` and `intersection_and_union` take NumPy or JAX arrays, also inside a compiled step, and
return the same kind. The others take NumPy arrays and compute in float64.
"""

import math
from collections.abc import Callable
from types import ModuleType
from typing import TypeVar

import numpy as np
from jax import Array

from genjax.data.image_arrays import LUMA
from genjax.evaluation import intervals
from genjax.evaluation.intervals import Interval

A = TypeVar("A", np.ndarray, Array)

Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(images [n, h, w, c], others) -> distances [n], such as LPIPS."""

SSIM_SIGMA, SSIM_SIZE = 1.5, 11  # standard deviation and size of the Gaussian window of Wang et al. 2004, in pixels

FLAT = 1e-12  # least divisor; a smaller variance means that images are flat, or all equal


def l1(images: A, truth: A) -> A:
    """Computes the mean absolute difference: [n]."""
    xp = _namespace(images)
    return xp.mean(xp.abs(images - truth), axis=(1, 2, 3))


def luminance(images: A) -> A:
    """Converts images [n, h, w, c] to grey levels [n, h, w].

    Colour is weighted as in Pillow (ITU-R BT.601); two, four and more channels are averaged.
    """
    xp = _namespace(images)
    if images.shape[-1] == 1:
        return images[..., 0]
    if images.shape[-1] != 3:
        return xp.mean(images, axis=-1)
    weights = xp.asarray(LUMA, dtype=images.dtype).reshape(1, 1, 1, 3)
    return xp.sum(images * weights, axis=-1)  # not a matrix product, which bfloat16 runs would round


def correlation(images: A, others: A) -> A:
    """Computes Pearson's correlation of luminances over the pixels of an image: [n]; 0 if one image is flat."""
    xp = _namespace(images)
    # Subtract the first pixel first: then a flat image is exactly 0. Its level minus its rounded mean need not be.
    x, y = (luminance(z - z[:, :1, :1]).reshape(len(z), -1) for z in (images, others))
    x, y = (values - xp.mean(values, axis=1, keepdims=True) for values in (x, y))
    scale = xp.sqrt(xp.sum(x**2, axis=1) * xp.sum(y**2, axis=1))
    return xp.sum(x * y, axis=1) / xp.maximum(scale, FLAT)


def intersection_and_union(images: A, truth: A) -> tuple[A, A]:
    """Computes the shares of pixels darker than mid-grey in both images, and in either, for `iou`: [n] each."""
    xp = _namespace(images)
    x, y = (luminance(z) < 0.5 for z in (images, truth))
    return xp.mean(x & y, axis=(1, 2)), xp.mean(x | y, axis=(1, 2))


def iou(intersection: float, union: float) -> float:
    """Returns intersection over union; 1 if both are empty."""
    return intersection / union if union > 0 else 1.0


def squared_error(images: np.ndarray, truth: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
    """Computes the mean squared error [n] over pixels `where` (bool [h, w] or [n, h, w]; None for all).

    Raises ValueError for an image without such pixels.
    """
    error = (images.astype(np.float64) - truth) ** 2
    if where is None:
        return error.mean(axis=(1, 2, 3))
    counted = np.broadcast_to(where, error.shape[:3])
    num = counted.sum(axis=(1, 2))
    if num.min() == 0:
        raise ValueError(f"image {int(num.argmin())} has no pixel to compare: give a mask with at least one")
    return (error * counted[..., None]).sum(axis=(1, 2, 3)) / (num * error.shape[3])


def decibels(squared_error: np.ndarray) -> np.ndarray:
    """Returns -10 log10 of a mean squared error; infinite for 0."""
    with np.errstate(divide="ignore"):
        return -10 * np.log10(squared_error)


def psnr(images: np.ndarray, truth: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
    """Computes the peak signal-to-noise ratio in dB: [n]; `where` is as in `squared_error`."""
    # Their mean is not the PSNR of the mean error, decibels(squared_error(...).mean()): say which one you report.
    return decibels(squared_error(images, truth, where))


def ssim(images: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Computes structural similarity [n], 1 for equal images (Wang, Bovik, Sheikh and Simoncelli 2004, eq. 13).

    Raises ValueError if an image is smaller than the window, 11x11 pixels.
    """
    from scipy import ndimage  # not above: its import takes 0.3 s, and trainings import this module

    _, height, width, _ = images.shape
    if min(height, width) < SSIM_SIZE:
        raise ValueError(
            f"the window of SSIM has {SSIM_SIZE}x{SSIM_SIZE} pixels, the images {height}x{width}: give larger images"
        )
    radius = SSIM_SIZE // 2

    # Only windows that lie wholly within the image, as in the authors' code.
    def blurred(x: np.ndarray) -> np.ndarray:
        whole = ndimage.gaussian_filter(x, (0, SSIM_SIGMA, SSIM_SIGMA, 0), radius=(0, radius, radius, 0))
        return whole[:, radius:-radius, radius:-radius]

    # Local moments: var = E[x^2] - E[x]^2, in float64, as their difference loses digits.
    x, y = images.astype(np.float64), truth.astype(np.float64)
    mean_x, mean_y = blurred(x), blurred(y)
    var_x, var_y = blurred(x**2) - mean_x**2, blurred(y**2) - mean_y**2
    covariance = blurred(x * y) - mean_x * mean_y
    # SSIM = (2 mu_x mu_y + C1) (2 sigma_xy + C2) / ((mu_x^2 + mu_y^2 + C1) (sigma_x^2 + sigma_y^2 + C2))
    c1, c2 = 0.01**2, 0.03**2  # (K1 L)^2 and (K2 L)^2 for a range of L = 1
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity /= (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return similarity.mean(axis=(1, 2, 3))  # over windows and channels


def paired(images: np.ndarray, truth: np.ndarray, lpips: Distance | None = None) -> dict[str, Interval]:
    """Compares images with their truths: l1, psnr, ssim, and lpips if its function is given, over all images.

    psnr (dB) is that of the mean squared error over all images; the others are means of the images' values. Images
    smaller than the window of SSIM get no ssim. Raises ValueError for shapes that differ, fewer than two images, and
    images that are not finite.
    """
    if images.shape != truth.shape or len(images) < 2:
        raise ValueError(f"expected at least 2 images and as many truths, got {images.shape} and {truth.shape}")
    error = squared_error(images, truth)
    if not np.isfinite(error).all():
        raise ValueError(f"image {int(np.isfinite(error).argmin())}, or its truth, is not finite")
    mean = float(error.mean())
    # A mean of PSNRs would be infinite if one image is exact. d psnr = 10 / ln 10 d error / error.
    standard_error = 10 / math.log(10) * float(error.std(ddof=1)) / math.sqrt(len(error)) / max(mean, FLAT)
    found = {
        "l1": intervals.of_mean(l1(images, truth)),
        "psnr": intervals.normal(float(decibels(np.array(mean))), standard_error),
    }
    if min(images.shape[1:3]) >= SSIM_SIZE:
        found["ssim"] = intervals.of_mean(ssim(images, truth))
    if lpips is not None:
        found["lpips"] = intervals.of_mean(lpips(images, truth))
    return found


def pairwise_diversity(images: np.ndarray, distance: Distance, seed: int = 0) -> Interval:
    """Computes the mean distance of images that are paired at random, each in one pair: 0 if all are equal.

    With LPIPS this is LPIPS diversity (Zhu et al. 2017, BicycleGAN). Raises ValueError for fewer than four images.
    """
    if len(images) < 4:
        raise ValueError(f"at least 4 images are needed for their diversity, got {len(images)}: give more images")
    order = np.random.default_rng(seed).permutation(len(images))[: len(images) // 2 * 2]
    return intervals.of_mean(distance(images[order[::2]], images[order[1::2]]))


def diversity(images: np.ndarray, reference: np.ndarray) -> float:
    """Computes the diversity of images relative to a reference set: 0 if all are equal, 1 if as diverse.

    Sets may differ in size and channels.
    """
    # The ratio of root mean squared distances over all pairs in a set; the half in each variance cancels.
    return float(np.sqrt(mean_and_variance(images)[1] / max(mean_and_variance(reference)[1], FLAT)))


def mean_and_variance(images: np.ndarray) -> tuple[np.ndarray, float]:
    """Computes the mean image [h, w, c], and the variance over images averaged over pixels.

    The variance is half the mean squared distance of two images.
    """
    # In float64, and one image at a time, as there may be thousands of photographs.
    mean = images.mean(axis=0, dtype=np.float64)
    return mean, sum(float(np.mean((image - mean) ** 2)) for image in images) / len(images)


def _namespace(array: np.ndarray | Array) -> ModuleType:
    """Returns the module numpy or jax.numpy, by the array API standard."""
    return array.__array_namespace__()
