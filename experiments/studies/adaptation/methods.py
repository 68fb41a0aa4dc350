"""Domains for adaptation, the cheap rivals of translation, and what all are judged by: arrays in, arrays out."""

import hashlib
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from etils import epath
from PIL import Image

from genjax import files
from genjax.config import DataConfig
from genjax.data import bounding_box, labels, sources
from genjax.data.splits import Splits

DRAWN = 28
"""Height and width, MNIST's, that images are brought to before their ink is measured; smaller ones are enlarged."""
SIZE, MARGIN = 16, 1
"""What classifiers and CycleGANs see: the longer side of the ink has 14 of 16 pixels."""
COPIES = 8
"""How often each image is there that something learns from, turned and bent otherwise each time."""
SURE = 0.9
"""Probability from which a class is taken for a label."""
TURNS = 100
"""Of Sinkhorn's alternation, after which nothing changes that matters to SURE."""

METHODS = ("source_only", "moments", "pseudo_labels", "guessed", "translated", "both", "no_semantics", "oracle")
FIGURES = (
    *METHODS, "gap_pseudo_labels", "gap_translated", "gap_both", "flips_translated", "flips_no_semantics",
    "oracle_error",
)  # fmt: skip


class Domain(NamedTuple):
    """A set of images, uint8 [n, 16, 16, 1], and their labels, int32 [n], in three splits."""

    name: str
    images: Splits
    labels: Splits


def load(source: str) -> Domain:
    """The domain of a data string, its ink at one place and size; ValueError or FileNotFoundError as from `sources`."""
    data = DataConfig(source=source, image_size=(DRAWN, DRAWN), channels=(1,), batch_size=1, upscale=True)
    found, classes = sources.load(data, seed=0), labels.load(data)
    labels.check(classes, found)
    drawn = Splits(*(tuple(bounding_box.normalise(images, SIZE, MARGIN) for images in split) for split in found))
    name = Path(source).stem if source.startswith("npz:") else re.sub(r"[^\w.]+", "-", source)
    return Domain(name, drawn, classes)


def write_images(workdir: epath.Path, settings: dict[str, Any], domains: tuple[Domain, Domain]) -> None:
    """Writes what the CycleGANs of each direction learn from, and adaptation.json, which holds `settings` and digests.

    SOURCE-to-TARGET.npz has both domains, as A and B, and of the source's training images distorted copies: a generator
    would else learn by heart what keeps the class of each. ValueError if the directory was begun with something else.
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
        raise ValueError(f"{workdir} was begun with others: {', '.join(changed)}. Choose another --workdir")
    if not saved and workdir.exists() and any(workdir.iterdir()):
        raise ValueError(f"{workdir} is not empty and holds no adaptation.json: choose another --workdir")
    files.write_json(path, record)
    for name, content in written.items():
        files.write_atomically(workdir / name, content)


def distort(images: np.ndarray, copies: int) -> np.ndarray:
    """Copies of uint8 images [n, h, w, 1], one after another as [copies * n, h, w, 1], each turned and bent a little.

    Turned by up to 0.25 radians, slanted by up to 0.25, scaled by up to 20% in either direction and moved by up to one
    pixel (bilinear, black outside), all uniformly and always the same.
    """
    words = np.random.Philox(np.random.SeedSequence(0)).random_raw((copies * len(images), 6))
    uniform = 2 * (words / 2.0**64) - 1  # from raw words, which no NumPy release may change
    turn, slant, scale_x, scale_y, move_x, move_y = (uniform * [0.25, 0.25, 0.2, 0.2, 1.0, 1.0]).T
    # Rows of the maps from a pixel of the copy to the place in the image that it shows, both from the centre.
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
    """uint8 `images` of the source [n, h, w, c], brought to the mean and covariance of the target's pixels.

    (x - mean_s) C_s^(-1/2) C_t^(1/2) + mean_t for pixels in 0..255, both covariances with the identity added, as CORAL
    has it for features (Sun, Feng and Saenko 2016, algorithm 1); then rounded and clipped. `source` and `target` are
    the training images, which need no labels.
    """
    (mean_s, root_s), (mean_t, root_t) = (_moments(rows) for rows in (source, target))
    flat = images.reshape(len(images), -1).astype(np.float64)
    matched = (flat - mean_s) @ np.linalg.solve(root_s, root_t) + mean_t
    return np.rint(matched).clip(0, 255).astype(np.uint8).reshape(images.shape)


def _moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [p], and the symmetric square root of the covariance plus the identity [p, p]."""
    flat = images.reshape(len(images), -1).astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(flat, rowvar=False) + np.eye(flat.shape[1]))
    return flat.mean(axis=0), (vectors * np.sqrt(values)) @ vectors.T


def pseudo_labels(probabilities: np.ndarray, proportions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows of `probabilities` [n, classes] that are sure of their class, and those classes (Lee 2013).

    Sure after the classes have been brought to `proportions` [classes]: see `in_proportion`.
    """
    balanced = in_proportion(probabilities, proportions)
    sure = np.flatnonzero(balanced.max(axis=1) >= SURE)
    return sure, balanced.argmax(axis=1)[sure].astype(np.int32)


def in_proportion(probabilities: np.ndarray, proportions: np.ndarray) -> np.ndarray:
    """`probabilities` [n, classes] times a factor for each image and for each class, so that every image has 1 in all,
    and the mean over the images is `proportions` [classes] (Sinkhorn 1964; for labels Asano et al. 2020).

    A classifier that takes one class for another sees more of the other than there are, and this takes them back.
    """
    balanced, tiny = probabilities.astype(np.float64), np.finfo(np.float64).tiny
    for _ in range(TURNS):
        balanced *= proportions / np.maximum(balanced.mean(axis=0), tiny)
        balanced /= np.maximum(balanced.sum(axis=1, keepdims=True), tiny)
    return balanced


def gap_closed(source_only: float, adapted: float, oracle: float) -> float | None:
    """The share of the way from source only to the oracle that an adaptation has come; None if there is no way."""
    return (adapted - source_only) / (oracle - source_only) if oracle > source_only else None


def standard_error(share: float, num: int) -> float:
    """Of a share of `num` independent images: sqrt(p (1 - p) / n)."""
    return math.sqrt(share * (1 - share) / num)


def table(rows: list[dict[str, Any]]) -> str:
    """Every seed and the mean of each direction, in percent."""
    lines = [["direction", "seed", *FIGURES], ["---"] * (2 + len(FIGURES))]
    for direction in dict.fromkeys(row["direction"] for row in rows):
        of_direction = [row for row in rows if row["direction"] == direction]
        for name, part in (*((str(row["seed"]), [row]) for row in of_direction), ("mean", of_direction)):
            cells = (_mean(part, column) for column in FIGURES)
            lines.append([direction, name, *("" if mean is None else f"{100 * mean:.1f}" for mean in cells)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def means(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The means over the seeds of each direction, with the standard error that the number of test images leaves."""
    flat: dict[str, Any] = {"seeds": len({row["seed"] for row in rows})}
    for direction in dict.fromkeys(row["direction"] for row in rows):
        of_direction = [row for row in rows if row["direction"] == direction]
        for figure in FIGURES:
            mean = _mean(of_direction, figure)
            flat |= {} if mean is None else {f"{direction}.{figure}": mean}
        adapted, num = flat[f"{direction}.translated"], of_direction[0]["target_test"]
        flat[f"{direction}.translated_standard_error"] = standard_error(adapted, num)
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in flat.items()}


def _mean(rows: list[dict[str, Any]], figure: str) -> float | None:
    """Over those seeds that have it."""
    values = [row[figure] for row in rows if row.get(figure) is not None]
    return float(np.mean(values)) if values else None
