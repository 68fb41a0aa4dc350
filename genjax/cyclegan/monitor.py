"""What looks unwell about a training, in words with what to do: from the rows of metrics that it writes, on the host.

A flag is about the mean over the latest rows, so no single step raises one, and the first steps raise none. The same
rows have the same flags, whether the run was interrupted or not.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from genjax.cyclegan.config import CycleGanRun
from genjax.data.image_arrays import LUMA
from genjax.data.splits import Splits
from genjax.task import Monitor, Row

FIRST, LEAST = 100, 3
"""Rows are judged from this step on, once there are so many, all of them together."""
COLLAPSED, INVERTED, OUTPLAYED, HIDDEN, RELATED = 0.25, 0.1, 0.97, 0.05, 0.3
"""Where flags begin; see `flags`. A choice: healthy runs and injected faults lie well apart on either side."""
WHERE = {"a2b": "A to B", "b2a": "B to A"}
SAMPLE = 1000
"""Training images of a domain, spread over it, that a reference is taken from."""


class Reference(NamedTuple):
    """What translations of these data should look like."""

    luminance: float
    """How the luminances of an image and its counterpart correlate, in [-1, 1]; near 0 where they are unrelated."""
    diversity: dict[str, float]
    """By direction: how far images of the target lie apart, over how far those of the source do."""


def watch(config: CycleGanRun, splits: Splits) -> Monitor:
    """What watches over a run on these images."""
    known = reference(config, splits)
    return lambda recent, evaluation: flags(config, known, recent, evaluation)


def reference(config: CycleGanRun, splits: Splits) -> Reference:
    """Taken from the training images, and from the validation pairs where there are any.

    Without pairs, all that two domains say about light and dark in an image and its counterpart is where in the frame
    they mostly have them: the correlation of their mean images. That of pairs is the mean over all.
    """
    (mean_a, spread_a), (mean_b, spread_b) = (_moments(_sample(images)) for images in splits.train)
    pairs = zip(*map(_sample, splits.validation), strict=True) if config.data.paired else [(mean_a, mean_b)]
    luminance = float(np.mean([_correlation(_luminance(a), _luminance(b)) for a, b in pairs]))
    ratio = math.sqrt(spread_b / spread_a) if min(spread_a, spread_b) > 0 else 1.0
    return Reference(luminance, {"a2b": ratio, "b2a": 1 / ratio})


def flags(config: CycleGanRun, known: Reference, rows: Sequence[Row], validated: Row) -> dict[str, str]:
    """What looks unwell at the last of `rows`, training rows, and `validated`, the latest evaluation: names, and sentences.

    collapsed_a2b: translations lie apart less than COLLAPSED times as far as images of the target do. inverted_a2b:
    their luminance correlates with that of their inputs by more than INVERTED against the sign of the data's own, if
    that is above RELATED at all. outplayed_by_d_b: it is right about more than OUTPLAYED of what it sees, and a
    generator is to fool it (critics of wgan_gp should be as good). hidden_a2b: one grey level of noise raises the error
    of there and back again by more than HIDDEN, as validated last.
    """
    recent = [row for row in rows if row["step"] >= FIRST]
    if len(recent) < LEAST:
        return {}
    found: dict[str, str] = {}
    for direction, where in WHERE.items():
        found |= _collapsed(known, recent, direction, where) | _inverted(known, recent, direction, where)
        found |= _hidden(validated, direction, where)
    for name, weight in (("d_a", config.loss.adversarial_b2a), ("d_b", config.loss.adversarial_a2b)):
        if weight > 0 and config.loss.adversarial != "wgan_gp":
            found |= _outplayed(recent, name)
    return found


def _collapsed(known: Reference, recent: Sequence[Row], direction: str, where: str) -> dict[str, str]:
    diversity = _mean(recent, f"diversity_{direction}")
    if diversity is None or diversity >= COLLAPSED * known.diversity[direction]:
        return {}
    sentence = (
        f"Translations from {where} are much alike: they lie apart {diversity:.2f} times as far as their inputs, and "
        f"images of that domain {known.diversity[direction]:.2f} times. Try --cyclegan.diff-augment 1, --loss.r1 1 or "
        "a lower --cyclegan.discriminator-lr-scale, from an earlier checkpoint or the start."
    )
    return {f"collapsed_{direction}": sentence}


def _inverted(known: Reference, recent: Sequence[Row], direction: str, where: str) -> dict[str, str]:
    correlation = _mean(recent, f"correlation_{direction}")
    if correlation is None or abs(known.luminance) < RELATED:
        return {}
    if correlation * math.copysign(1, known.luminance) >= -INVERTED:
        return {}
    sentence = (
        f"Light and dark change places from {where}: luminances of images and translations correlate by "
        f"{correlation:.2f}, and by {known.luminance:.2f} in the data. This seldom mends itself: try another --seed, "
        "--cyclegan.output residual, or the identity loss."
    )
    return {f"inverted_{direction}": sentence}


def _outplayed(recent: Sequence[Row], name: str) -> dict[str, str]:
    accuracy, gap = _mean(recent, f"accuracy_{name}"), _mean(recent, f"gap_{name}")
    if accuracy is None or accuracy <= OUTPLAYED:
        return {}
    sentence = (
        f"Discriminator {name} wins: it is right about {accuracy:.1%} of what it sees (logits {gap or 0:.2f} apart), "
        "and its generator does not follow. Try a lower --cyclegan.discriminator-lr-scale, --cyclegan.diff-augment 1, "
        "--cyclegan.instance-noise 0.1 or --loss.r1 1."
    )
    return {f"outplayed_by_{name}": sentence}


def _hidden(validated: Row, direction: str, where: str) -> dict[str, str]:
    cycle, probe = (validated.get(f"validation/{name}_{direction}") for name in ("cycle", "probe"))
    if cycle is None or probe is None or probe - cycle <= HIDDEN:
        return {}
    sentence = (
        f"Translations from {where} hide what they cannot show: one grey level of noise on them raises the error of "
        f"there and back again from {cycle:.3f} to {probe:.3f}. Try a lower weight of that cycle in --loss."
    )
    return {f"hidden_{direction}": sentence}


def _mean(rows: Sequence[Row], name: str) -> float | None:
    """Over those rows that have a finite number there; None of none."""
    values = [row[name] for row in rows if row.get(name) is not None]
    return sum(values) / len(values) if values else None


def _sample(images: np.ndarray) -> np.ndarray:
    return images[np.linspace(0, len(images) - 1, min(SAMPLE, len(images))).astype(int)]


def _moments(images: np.ndarray) -> tuple[np.ndarray, float]:
    """The mean image [h, w, c] in [0, 1], and the variance of the pixels over the images, mean over pixels."""
    mean, square = np.zeros(images.shape[1:]), np.zeros(images.shape[1:])
    for image in images:  # one by one: they may be photographs
        mean += image / 255 / len(images)
        square += (image / 255) ** 2 / len(images)
    return mean, float(np.mean(square - mean**2))


def _luminance(image: np.ndarray) -> np.ndarray:
    """[h, w, 1 or 3] to [h, w]."""
    return image[..., 0].astype(float) if image.shape[-1] == 1 else image @ np.array(LUMA)


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's, over the pixels of two pictures [h, w]; 0 where one is flat."""
    x, y = (picture - picture.mean() for picture in (x, y))
    return float((x * y).sum() / max(math.sqrt((x**2).sum() * (y**2).sum()), 1e-12))
