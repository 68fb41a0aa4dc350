"""Distances of images from their truths, one figure for each pair: floats [n, h, w, c] in [0, 1], NumPy on the host."""

import numpy as np
from scipy import ndimage

SSIM_SIGMA, SSIM_SIZE = 1.5, 11
"""The Gaussian window of Wang et al. 2004, of 11x11 pixels."""


def psnr(images: np.ndarray, truth: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
    """-10 log10 of the mean squared error, in dB: [n]; infinite for equal images.

    `where` (bool, [h, w] or [n, h, w]) are the pixels that count, all of them if it is not given. Raises ValueError if
    an image has none. The mean over images of a figure in dB is not the figure of their mean error: say which it is.
    """
    error = (images.astype(np.float64) - truth) ** 2
    if where is None:
        return _decibels(error.mean(axis=(1, 2, 3)))
    counted = np.broadcast_to(where, error.shape[:3])
    num = counted.sum(axis=(1, 2))
    if num.min() == 0:
        raise ValueError(f"image {int(num.argmin())} has no pixel to compare")
    return _decibels((error * counted[..., None]).sum(axis=(1, 2, 3)) / (num * error.shape[3]))


def _decibels(squared_error: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return -10 * np.log10(squared_error)


def ssim(images: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Structural similarity, at most 1, which equal images have: [n] (Wang, Bovik, Sheikh and Simoncelli 2004).

    The mean over channels and over all windows that lie within the image, so of 11 pixels or more: ValueError below.
    """
    _, height, width, _ = images.shape
    if min(height, width) < SSIM_SIZE:
        raise ValueError(f"the window of SSIM has {SSIM_SIZE}x{SSIM_SIZE} pixels, the images {height}x{width}")
    radius = SSIM_SIZE // 2

    def blurred(x: np.ndarray) -> np.ndarray:
        whole = ndimage.gaussian_filter(x, (0, SSIM_SIGMA, SSIM_SIGMA, 0), radius=(0, radius, radius, 0))
        return whole[:, radius:-radius, radius:-radius]

    x, y = images.astype(np.float64), truth.astype(np.float64)
    mean_x, mean_y = blurred(x), blurred(y)
    var_x, var_y = blurred(x**2) - mean_x**2, blurred(y**2) - mean_y**2
    covariance = blurred(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity /= (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return similarity.mean(axis=(1, 2, 3))
