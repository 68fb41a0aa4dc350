"""What rules without a network score on the test pairs of an embedded set, beside which a translation is to be judged.

$ python experiments/translation_baselines.py icons --workdir runs/icons

All figures are means over the test images of the absolute difference from the truth, pixels in [0, 1], from A to B. The
rules know the training images of both domains, which come in no pairs, but no truth.
"""

import dataclasses
from typing import Any, Literal

import _start
import numpy as np
import tyro

from genjax.config import DataConfig
from genjax.data import sources
from genjax.loading import load_translator


@dataclasses.dataclass(frozen=True, kw_only=True)
class Baselines:
    """Which images."""

    source: tyro.conf.Positional[Literal["icons", "gray-colour", "satellite-relief"]]
    """An embedded set with paired test images."""
    size: int = 32
    """Height and width."""
    workdir: str = ""
    """A CycleGAN run on it, to be scored beside the rules; with its inputs shuffled, too, which must be worse if it
    looks at them."""


def match_histograms(images: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Each channel of uint8 `images` [n, h, w, c], taken together, brought to the distribution of that of `target`."""
    matched = np.empty_like(images)
    for channel in range(images.shape[-1]):
        counts = np.bincount(images[..., channel].ravel(), minlength=256)
        share = (np.cumsum(counts) - counts / 2) / counts.sum()  # of pixels below the middle of each level
        levels = np.quantile(target[..., channel], share, method="inverted_cdf").astype(np.uint8)
        matched[..., channel] = levels[images[..., channel]]
    return matched


def main() -> dict[str, Any]:
    """The score of each rule."""
    options = tyro.cli(Baselines, description=__doc__)
    channels = (1, 1) if options.source == "icons" else (3, 3)
    data = DataConfig(source=options.source, image_size=(options.size, options.size), channels=channels, batch_size=1)
    splits = sources.load(data, seed=0)
    (_, train_b), (a, truth) = splits.train, splits.test
    rules = {
        "copy": a,
        "constant": np.rint(np.median(train_b, axis=(0, 1, 2))),
        "mean_image": train_b.mean(axis=0),
        "histogram_matching": match_histograms(a, train_b),
    }
    if options.workdir:
        translated = load_translator(options.workdir).a2b(a)
        rules |= {"translation": translated * 255, "shuffled": np.roll(translated, len(a) // 2, axis=0) * 255}
    scores = {f"l1_{name}": float(np.abs(guess / 255 - truth / 255).mean()) for name, guess in rules.items()}
    if options.source == "icons":
        ink_a, ink_truth = a < 128, truth < 128
        scores["iou_copy"] = float((ink_a & ink_truth).sum() / (ink_a | ink_truth).sum())
    return {"images": len(a), **{name: round(score, 4) for name, score in scores.items()}}


if __name__ == "__main__":
    _start.run(main)
