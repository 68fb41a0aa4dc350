"""How good translations are where the truth is known, beside rules without a network: NumPy on the host.

Images and truths are those of test pairs, uint8 [n, h, w, c]; translations are floats in [0, 1], of the truths' shape.
"""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from genjax.cyclegan import translation
from genjax.evaluation import image_metrics

INVERTS, COLLAPSED, IDLE = 0.05, 0.5, 0.25
"""Where the words of `flags` begin: a choice, not a finding. No translation that is any good comes near them."""


def rules(images: np.ndarray, target: np.ndarray) -> dict[str, np.ndarray]:
    """What is made of `images` without a network: by nothing, or by what the unpaired images `target` look like.

    The image itself; the median of `target`'s pixels; the mean of its images; the image with the levels of `target`.
    """
    guesses = {
        "copy": images,
        "constant": np.rint(np.median(target, axis=(0, 1, 2))),
        "mean_image": target.mean(axis=0),
        "histogram_matching": match_histograms(images, target),
    }
    shape = (len(images), *target.shape[1:])
    return {name: np.broadcast_to(guess / 255, shape) for name, guess in guesses.items()}


def match_histograms(images: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Each channel of uint8 `images` [n, h, w, c], taken together, brought to the distribution of that of `target`."""
    matched = np.empty_like(images)
    for channel in range(images.shape[-1]):
        counts = np.bincount(images[..., channel].ravel(), minlength=256)
        share = (np.cumsum(counts) - counts / 2) / counts.sum()  # of pixels below the middle of each level
        levels = np.quantile(target[..., channel], share, method="inverted_cdf").astype(np.uint8)
        matched[..., channel] = levels[images[..., channel]]
    return matched


def figures(images: np.ndarray, translated: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Distances of translations from their truths, then what they have of `images` and of each other.

    l1: mean absolute difference. psnr: of the squared error of all images together, in dB. ssim: mean over images. iou:
    of the ink of all images together, where they are grey. change: L1 from image to translation; correlation of their
    luminances, mean over images, and the share inverted, where it is below 0. diversity: see there.
    """
    given, wanted = images / 255, truth / 255
    found = {
        "l1": float(np.abs(translated - wanted).mean()),
        "psnr": float(image_metrics.psnr(translated.reshape(1, -1, 1, 1), wanted.reshape(1, -1, 1, 1))[0]),
        "ssim": float(image_metrics.ssim(translated, wanted).mean()),
    }
    if truth.shape[-1] == 1:
        ink, true_ink = translated < 0.5, wanted < 0.5
        either = (ink | true_ink).sum()
        found["iou"] = float((ink & true_ink).sum() / either) if either else 1.0  # as in training's evaluations
    correlation = np.asarray(translation.correlation(*(jnp.asarray(x, jnp.float32) for x in (translated, given))))
    return found | {
        "change": float(np.abs(translated - given).mean()),
        "correlation": float(correlation.mean()),
        "inverted": float((correlation < 0).mean()),
        "diversity": diversity(translated, wanted),
    }


def diversity(translated: np.ndarray, truth: np.ndarray) -> float:
    """How far two translations lie apart, over how far their truths do: 0 where all are equal, 1 for the truths.

    Distances are Euclidean, and their mean is that of squares, over all pairs of images.
    """
    # The mean squared distance of two draws is twice the variance: no need of all pairs.
    spread, wanted = (float(x.astype(np.float64).var(axis=0).sum()) for x in (translated, truth))
    return float(np.sqrt(spread / wanted))


def flags(figures: Mapping[str, float], copy: Mapping[str, float]) -> list[str]:
    """Words for what looks unwell about a translation, by its figures and those of the rule copy.

    inverts: light is dark in many images. collapsed: translations are much alike. idle: they are all but their inputs,
    and the truths are not. forgets (of a network alone): there and back again leads further than to the other domain.
    """
    unwell = {
        "inverts": figures["inverted"] > INVERTS,
        "collapsed": figures["diversity"] < COLLAPSED,
        "idle": figures["change"] < IDLE * copy["l1"],
        "forgets": figures.get("cycle", 0.0) > copy["l1"],
    }
    return [word for word, applies in unwell.items() if applies]
