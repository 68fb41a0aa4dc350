"""Translation rules without a network, and metrics of translations with known truth, in NumPy.

Inputs and truths are test pairs, uint8 [n, h, w, c]; translations are floats in [0, 1] of the truths' shape.
"""

from collections.abc import Mapping

import numpy as np

from genjax.evaluation import image_metrics, thresholds


def predict(inputs: np.ndarray, target: np.ndarray) -> dict[str, np.ndarray]:
    """Translates `inputs` by each rule, from unpaired uint8 images `target` of the other domain.

    The rules are: the input itself; the median colour of `target`; its mean image; the input with its histogram matched
    to `target`.
    """
    predictions = {
        "copy": inputs,
        "constant": np.rint(np.median(target, axis=(0, 1, 2))),
        "mean_image": target.mean(axis=0),
        "histogram_matching": match_histograms(inputs, target),
    }
    shape = (len(inputs), *target.shape[1:])
    return {name: np.broadcast_to(prediction / 255, shape) for name, prediction in predictions.items()}


def match_histograms(images: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Matches the histogram of each channel, over all uint8 `images` [n, h, w, c], to that of `target`."""
    matched = np.empty_like(images)
    for channel in range(images.shape[-1]):
        counts = np.bincount(images[..., channel].ravel(), minlength=256)
        share = (np.cumsum(counts) - counts / 2) / counts.sum()  # of pixels below the middle of each level
        levels = np.quantile(target[..., channel], share, method="inverted_cdf").astype(np.uint8)
        matched[..., channel] = levels[images[..., channel]]
    return matched


def metrics(inputs: np.ndarray, translated: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Measures translations against their truths, their inputs and each other.

    l1 and ssim are means over images; psnr (dB) is of the mean squared error over all images; iou is of dark pixels
    over all images, if they are grey. change is the L1 from input to translation, correlation the mean correlation of
    their luminances, inverted the share of images with a negative correlation. diversity is relative to the truths.
    """
    inputs, truth = inputs / 255, truth / 255
    found = {name: metric.value for name, metric in image_metrics.paired(translated, truth).items()}
    if truth.shape[-1] == 1:
        both, either = image_metrics.intersection_and_union(translated, truth)
        found["iou"] = image_metrics.iou(float(both.mean()), float(either.mean()))
    correlation = image_metrics.correlation(translated, inputs)
    return found | {
        "change": float(image_metrics.l1(translated, inputs).mean()),
        "correlation": float(correlation.mean()),
        "inverted": float((correlation < 0).mean()),
        "diversity": image_metrics.diversity(translated, truth),
    }


def warnings(metrics: Mapping[str, float], copy: Mapping[str, float]) -> list[str]:
    """Lists the faults of a translation, from its metrics and those of the rule copy.

    inverted: light and dark are swapped in many images. low diversity: translations are too similar. idle: they hardly
    differ from their inputs, unlike the truths. forgetful (networks only): the cycle's L1 is above that of copying.
    """
    found = {
        "inverted": metrics["inverted"] > thresholds.INVERTED_SHARE,
        "low diversity": metrics["diversity"] < thresholds.LOW_DIVERSITY,
        "idle": metrics["change"] < thresholds.IDLE * copy["l1"],
        "forgetful": metrics.get("cycle", 0.0) > copy["l1"],
    }
    return [word for word, applies in found.items() if applies]
