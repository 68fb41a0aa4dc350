"""Measures translation rules without a network on the test pairs of a demo set, to compare with a trained run.

$ python experiments/study.py baselines icons --workdir runs/icons

L1 is the mean absolute difference from the truth over the test images, pixels in [0, 1], from A to B. The rules use the
unpaired training images of both domains, and no truth.
"""

import dataclasses
from typing import Any, Literal

import numpy as np
import tyro

from genjax import flag_help
from genjax.data import sources
from genjax.data.config import DataConfig
from genjax.loading import load_translator
from studies.translation import rules


@dataclasses.dataclass(frozen=True, kw_only=True)
class Baselines:
    """Options: the images, and a run to compare with."""

    source: tyro.conf.Positional[Literal["icons", "gray-colour", "satellite-relief", "faces-glasses"]]
    """A demo set with paired test images."""
    size: int = 32
    """Height and width."""
    workdir: str = ""
    """A CycleGAN run on these images, to compare with the rules. It is also measured with its translations shuffled,
    which is worse if the run uses its inputs."""


def main() -> dict[str, Any]:
    """Measures each rule."""
    options = tyro.cli(Baselines, description=flag_help.description(__doc__))
    channels = (1, 1) if options.source == "icons" else (3, 3)
    data = DataConfig(source=options.source, image_size=(options.size, options.size), channels=channels, batch_size=1)
    splits = sources.load(data, seed=0)
    (_, train_b), (a, truth) = splits.train, splits.test
    predictions = rules.predict(a, train_b)
    if options.workdir:
        translated = load_translator(options.workdir).a2b(a)
        predictions |= {"translation": translated, "shuffled": np.roll(translated, len(a) // 2, axis=0)}
    found = {name: rules.metrics(a, prediction, truth) for name, prediction in predictions.items()}
    results = {f"l1_{name}": metrics["l1"] for name, metrics in found.items()}
    if options.source == "icons":
        results["iou_copy"] = found["copy"]["iou"]
    return {"images": len(a), **{name: round(value, 4) for name, value in results.items()}}
