"""Warnings about a training, with remedies, computed on the host from rows of metrics.

A warning depends on the mean over the latest rows or on the latest evaluation, so no single step raises one, and the
first steps raise none. The same rows give the same warnings, also in a resumed run. genjax/gan/README.md lists the
warnings.
"""

import math
from collections.abc import Sequence

import numpy as np

from genjax.data import image_arrays
from genjax.data.splits import Splits
from genjax.evaluation import image_metrics, thresholds
from genjax.gan.config import GanRun
from genjax.task import Monitor, Row

FIRST_STEP, MIN_ROWS = 100, 3
"""First step whose rows and evaluations are used, and least number of training rows for a warning."""

NAMES = {"a2b": "A to B", "b2a": "B to A"}
SAMPLE = 1000
"""Number of training images of a domain, evenly spaced, that a reference is measured from."""


def make_monitor(config: GanRun, splits: Splits) -> Monitor:
    """Makes the monitor of a run on these images."""
    related = measure_relation(config, splits)
    return lambda recent, evaluation: find_warnings(config, related, recent, evaluation)


def measure_relation(config: GanRun, splits: Splits) -> float:
    """Computes the correlation, in [-1, 1], of luminances in the two domains; near 0 where they are unrelated.

    Of pairs it is the mean over the validation pairs. Without pairs it is the correlation of the mean training images,
    which only shows where in the frame images are mostly light or dark.
    """
    if config.data.paired:
        compared = [image_arrays.evenly_spaced(images, SAMPLE) for images in splits.validation]
    else:
        compared = [
            image_arrays.evenly_spaced(images, SAMPLE).mean(axis=0, dtype=np.float64, keepdims=True)
            for images in splits.train
        ]
    pairs = zip(*compared, strict=True)
    # One by one: they may be photographs.
    return float(np.mean([image_metrics.correlation(a[None] / 255, b[None] / 255)[0] for a, b in pairs]))


def find_warnings(config: GanRun, related: float, rows: Sequence[Row], validated: Row) -> dict[str, str]:
    """Returns warnings by name, from training `rows` and the latest evaluation row, `validated`.

    `related` is the correlation in the data. A discriminator may always be right with wgan_gp, or if its generator has
    no adversarial loss: then there is no warning about it.
    """
    recent = [row for row in rows if row["step"] >= FIRST_STEP]
    validated = validated if validated.get("step", 0) >= FIRST_STEP else {}
    if len(recent) < MIN_ROWS:
        return {}
    found: dict[str, str] = {}
    for direction in NAMES:
        found |= _collapsed(config, validated, direction) | _inverted(config, related, recent, direction)
        found |= _hidden(validated, direction)
    for name, direction in (("d_a", "b2a"), ("d_b", "a2b")):  # d_a judges translations into A
        weight = getattr(config.loss, f"adversarial_{direction}", 0.0)  # a family may lack a direction
        if weight > 0 and config.loss.adversarial != "wgan_gp":
            found |= _outplayed(config, recent, name)
    return found


def _collapsed(config: GanRun, validated: Row, direction: str) -> dict[str, str]:
    diversity = validated.get(f"validation/diversity_{direction}")
    if diversity is None or diversity >= thresholds.COLLAPSED:
        return {}
    sentence = (
        f"Translations from {NAMES[direction]} are nearly all alike (mode collapse): their diversity is "
        f"{diversity:.2f} times that of images of the target domain. Try {config.net.flag('diff_augment')} 1, "
        f"--loss.r1 1 or a lower {config.net.flag('discriminator_lr_scale')}, from an earlier checkpoint or the start."
    )
    return {f"collapsed_{direction}": sentence}


def _inverted(config: GanRun, related: float, recent: Sequence[Row], direction: str) -> dict[str, str]:
    correlation = _mean(recent, f"correlation_{direction}")
    if correlation is None or abs(related) < thresholds.RELATED:
        return {}
    if correlation * math.copysign(1, related) >= -thresholds.INVERTED:  # above 0 if the signs agree
        return {}
    sentence = (
        f"Translations from {NAMES[direction]} swap light and dark: luminances of images and translations correlate "
        f"by {correlation:.2f}, and by {related:.2f} in the data. More training seldom repairs this: try "
        f"another --seed, {config.net.flag('output')} residual, or the identity loss ({config.loss.identity})."
    )
    return {f"inverted_{direction}": sentence}


def _outplayed(config: GanRun, recent: Sequence[Row], name: str) -> dict[str, str]:
    accuracy, gap = _mean(recent, f"accuracy_{name}"), _mean(recent, f"gap_{name}")
    if accuracy is None or accuracy <= thresholds.OUTPLAYED:
        return {}
    sentence = (
        f"Discriminator {name[-1].upper()} wins: it is right about {accuracy:.1%} of its images (its logits are "
        f"{gap or 0:.2f} apart), and its generator does not keep up. Try a lower "
        f"{config.net.flag('discriminator_lr_scale')}, {config.net.flag('diff_augment')} 1, "
        f"{config.net.flag('instance_noise')} 0.1 or --loss.r1 1."
    )
    return {f"outplayed_by_{name}": sentence}


def _hidden(validated: Row, direction: str) -> dict[str, str]:
    cycle, probe = (validated.get(f"validation/{name}_{direction}") for name in ("cycle", "probe"))
    if cycle is None or probe is None or probe - cycle <= thresholds.HIDDEN:
        return {}
    sentence = (
        f"Translations from {NAMES[direction]} hide their image in invisible noise: one grey level of other noise "
        f"raises the cycle's error from {cycle:.3f} to {probe:.3f}. Try a lower weight of that cycle in --loss."
    )
    return {f"hidden_{direction}": sentence}


def _mean(rows: Sequence[Row], name: str) -> float | None:
    """Averages a metric over the rows that have it; None if no row has."""
    values = [row[name] for row in rows if row.get(name) is not None]
    return sum(values) / len(values) if values else None
