"""What rules without a network score on the test pairs of an embedded set, beside which a translation is to be judged.

$ python experiments/translation_baselines.py icons --workdir runs/icons

All figures are means over the test images of the absolute difference from the truth, pixels in [0, 1], from A to B. The
rules know the training images of both domains, which come in no pairs, but no truth.
"""

import dataclasses
from typing import Any, Literal

import numpy as np
import tyro

from genjax import cli
from genjax.config import DataConfig
from genjax.data import sources
from genjax.loading import load_translator
from studies.translation import rules


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


def main() -> dict[str, Any]:
    """The score of each rule."""
    options = tyro.cli(Baselines, description=__doc__)
    channels = (1, 1) if options.source == "icons" else (3, 3)
    data = DataConfig(source=options.source, image_size=(options.size, options.size), channels=channels, batch_size=1)
    splits = sources.load(data, seed=0)
    (_, train_b), (a, truth) = splits.train, splits.test
    guesses = rules.rules(a, train_b)
    if options.workdir:
        translated = load_translator(options.workdir).a2b(a)
        guesses |= {"translation": translated, "shuffled": np.roll(translated, len(a) // 2, axis=0)}
    found = {name: rules.figures(a, guess, truth) for name, guess in guesses.items()}
    scores = {f"l1_{name}": figures["l1"] for name, figures in found.items()}
    if options.source == "icons":
        scores["iou_copy"] = found["copy"]["iou"]
    return {"images": len(a), **{name: round(score, 4) for name, score in scores.items()}}


if __name__ == "__main__":
    cli.run(main)
