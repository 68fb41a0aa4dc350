"""Domains for adaptation, methods without a CycleGAN, and a table of results."""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from etils import epath
from PIL import Image

from genjax import files
from genjax.data import labels, sources
from genjax.data.config import DataConfig
from genjax.data.splits import Splits
from studies import markdown
from studies.adaptation import bounding_box

DRAWN = 28
"""Height and width (those of MNIST) of images before they are cropped to the drawing; smaller ones are enlarged."""
SIZE, MARGIN = 16, 1
"""Height and width of the networks' images, and their margin: a digit's longer side has 14 of 16 pixels."""
COPIES = 8
"""Number of differently distorted copies of each training image."""
SURE = 0.9
"""Least probability of a class that is used as a label."""
SINKHORN_STEPS = 100
"""Steps of Sinkhorn's iteration; more steps do not change the labels."""

Row = Mapping[str, Any]
"""Results of one seed and direction: names and numbers of images, then RESULTS."""

METHODS = ("source_only", "moments", "pseudo_labels", "guessed", "translated", "both", "no_semantics", "oracle")
RESULTS = (
    *METHODS, "gap_pseudo_labels", "gap_translated", "gap_both", "flips_translated", "flips_no_semantics",
    "oracle_error",
)  # fmt: skip


class Domain(NamedTuple):
    """Images, uint8 [n, 16, 16, 1], and their labels, int32 [n], in three splits."""

    name: str
    images: Splits
    labels: Splits


def load(source: str) -> Domain:
    """Loads a domain from a source, with all drawings at one place and size; errors are those of `sources`."""
    data = DataConfig(source=source, image_size=(DRAWN, DRAWN), channels=(1,), batch_size=1, upscale=True)
    loaded, classes = sources.load(data, seed=0), labels.load(data)
    labels.check(classes, loaded)
    drawn = Splits(*(tuple(bounding_box.normalise(images, SIZE, MARGIN) for images in split) for split in loaded))
    name = Path(source).stem if source.startswith("npz:") else re.sub(r"[^\w.]+", "-", source)
    return Domain(name, drawn, classes)


def check_pair(first: Domain, second: Domain) -> None:
    """Raises ValueError if two domains have the same name or different classes."""
    if first.name == second.name:
        raise ValueError(f"--first and --second are both called {first.name}: give two sets of images, or rename one")
    classes = [sorted({int(label) for (array,) in domain.labels for label in array}) for domain in (first, second)]
    if classes[0] != classes[1]:
        raise ValueError(
            f"{first.name} has the classes {classes[0]}, and {second.name} has {classes[1]}: give sets of one kind"
        )


def write_images(workdir: epath.Path, settings: dict[str, Any], domains: tuple[Domain, Domain]) -> None:
    """Writes the CycleGANs' training images, and adaptation.json with `settings` and digests.

    SOURCE-to-TARGET.npz holds the source as A and the target as B. The source's training images are distorted copies:
    otherwise a generator would memorise how to keep the class of each image. Raises ValueError if the directory holds
    other settings or images.
    """
    written = {}
    for source, target in (domains, domains[::-1]):
        arrays: Any = {
            f"x_{split}{letter}": distort(array, COPIES) if domain is source and split == "train" else array
            for letter, domain in zip("AB", domains, strict=True)
            for split, (array,) in domain.images._asdict().items()
        }
        written[f"{source.name}-to-{target.name}.npz"] = files.encode_npz(arrays)
    labels = hashlib.sha256(b"".join(array.tobytes() for domain in domains for (array,) in domain.labels))
    images = hashlib.sha256(b"".join(written.values()))
    record = settings | {"images": images.hexdigest(), "labels": labels.hexdigest()}
    path = workdir / "adaptation.json"
    saved = files.read_json(path) if path.exists() else {}
    if saved and saved != record:
        changed = (f"{name} {saved.get(name)} -> {value}" for name, value in record.items() if saved.get(name) != value)
        raise ValueError(f"{workdir} was begun otherwise: {', '.join(changed)}. Choose another --workdir")
    if not saved and workdir.exists() and any(workdir.iterdir()):
        raise ValueError(f"{workdir} is not empty and holds no adaptation.json: choose another --workdir")
    files.write_json(path, record)
    for name, content in written.items():
        files.write_atomically(workdir / name, content)


def distort(images: np.ndarray, copies: int) -> np.ndarray:
    """Makes distorted copies of uint8 images [n, h, w, 1], one set after another: [copies * n, h, w, 1].

    Each copy is rotated by up to 0.25 radians, sheared by up to 0.25, scaled by up to 20% in either direction and moved
    by up to one pixel (bilinear, black outside). The amounts are uniform, and the same in each call.
    """
    words = np.random.Philox(np.random.SeedSequence(0)).random_raw((copies * len(images), 6))
    uniform = 2 * (words / 2.0**64) - 1  # raw words of Philox, which no NumPy release may change
    turn, slant, scale_x, scale_y, move_x, move_y = (uniform * [0.25, 0.25, 0.2, 0.2, 1.0, 1.0]).T
    # Pillow takes the inverse map, from a pixel of the copy to a place in the image.
    across = np.stack([np.cos(turn), slant * np.cos(turn) - np.sin(turn)], axis=1) * np.exp(scale_x)[:, None]
    down = np.stack([np.sin(turn), slant * np.sin(turn) + np.cos(turn)], axis=1) * np.exp(scale_y)[:, None]
    height, width = images.shape[1:3]
    centre = np.array([width / 2, height / 2])
    shift_x, shift_y = centre[0] - across @ centre + move_x, centre[1] - down @ centre + move_y
    maps = np.column_stack([across, shift_x, down, shift_y])
    pillow = [Image.fromarray(image[..., 0]) for image in images]
    affine, bilinear = Image.Transform.AFFINE, Image.Resampling.BILINEAR
    distorted = [
        np.asarray(pillow[i % len(pillow)].transform((width, height), affine, tuple(row), bilinear))
        for i, row in enumerate(maps)
    ]
    return np.stack(distorted)[..., None]


def match_moments(images: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Maps uint8 `images` of the source [n, h, w, c] to the mean and covariance of the target's pixels.

    (x - mean_s) C_s^(-1/2) C_t^(1/2) + mean_t for pixels in 0..255, the identity added to both covariances, as in CORAL
    for features (Sun, Feng and Saenko 2016, algorithm 1); then rounded and clipped. `source` and `target` are the
    training images, which need no labels.
    """
    (mean_s, root_s), (mean_t, root_t) = (_moments(rows) for rows in (source, target))
    flat = images.reshape(len(images), -1).astype(np.float64)
    matched = (flat - mean_s) @ np.linalg.solve(root_s, root_t) + mean_t
    return np.rint(matched).clip(0, 255).astype(np.uint8).reshape(images.shape)


def _moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean [p], and the symmetric square root of the covariance plus the identity [p, p]."""
    flat = images.reshape(len(images), -1).astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(flat, rowvar=False) + np.eye(flat.shape[1]))
    return flat.mean(axis=0), (vectors * np.sqrt(values)) @ vectors.T


def pseudo_labels(probabilities: np.ndarray, proportions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Selects rows of `probabilities` [n, classes] that reach SURE; returns rows and classes (Lee 2013).

    The probabilities are first scaled to the shares `proportions` [classes] by `in_proportion`.
    """
    balanced = in_proportion(probabilities, proportions)
    sure = np.flatnonzero(balanced.max(axis=1) >= SURE)
    return sure, balanced.argmax(axis=1)[sure].astype(np.int32)


def in_proportion(probabilities: np.ndarray, proportions: np.ndarray) -> np.ndarray:
    """Scales `probabilities` [n, classes] by image and by class so that the mean over images is `proportions`.

    Every row sums to 1 (Sinkhorn 1964; for labels Asano et al. 2020). This corrects a classifier that predicts one
    class too often.
    """
    balanced, tiny = probabilities.astype(np.float64), np.finfo(np.float64).tiny
    for _ in range(SINKHORN_STEPS):
        balanced *= proportions / np.maximum(balanced.mean(axis=0), tiny)
        balanced /= np.maximum(balanced.sum(axis=1, keepdims=True), tiny)
    return balanced


def gap_closed(source_only: float, adapted: float, oracle: float) -> float | None:
    """Computes the closed share of the gap between source only and the oracle; None if there is no gap."""
    return (adapted - source_only) / (oracle - source_only) if oracle > source_only else None


def standard_error(share: float, num: int) -> float:
    """Computes the standard error sqrt(p (1 - p) / n) of a share of `num` independent images."""
    return math.sqrt(share * (1 - share) / num)


def table(rows: Sequence[Row]) -> str:
    """Formats every seed and the mean of each direction, in percent."""
    lines = []
    for direction, of_direction in _by_direction(rows).items():
        for name, part in (*((str(row["seed"]), [row]) for row in of_direction), ("mean", of_direction)):
            cells = (_mean(part, column) for column in RESULTS)
            lines.append([direction, name, *("" if mean is None else f"{100 * mean:.1f}" for mean in cells)])
    return markdown.table(["direction", "seed", *RESULTS], lines)


def means(rows: Sequence[Row]) -> dict[str, Any]:
    """Averages over the seeds of each direction; adds the standard error due to the number of test images."""
    flat: dict[str, Any] = {"seeds": len({row["seed"] for row in rows})}
    for direction, of_direction in _by_direction(rows).items():
        for name in RESULTS:
            mean = _mean(of_direction, name)
            flat |= {} if mean is None else {f"{direction}.{name}": mean}
        accuracy, num = flat[f"{direction}.translated"], of_direction[0]["target_test"]
        flat[f"{direction}.translated_standard_error"] = standard_error(accuracy, num)
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in flat.items()}


def _by_direction(rows: Sequence[Row]) -> dict[str, list[Row]]:
    directions = dict.fromkeys(row["direction"] for row in rows)
    return {direction: [row for row in rows if row["direction"] == direction] for direction in directions}


def _mean(rows: Sequence[Row], name: str) -> float | None:
    """Averages a result over the rows that have it; None if no row has it."""
    values = [row[name] for row in rows if row.get(name) is not None]
    return float(np.mean(values)) if values else None
