"""Tests the warnings about CycleGAN's training and the remedies for collapse, in three parts with a table each.

$ python experiments/study.py collapse --workdir runs/collapse
$ python experiments/study.py collapse --workdir runs/collapse --parts small --seeds 0 1 2 3 4

injected: the quickstart unchanged, which should raise no warning in 500 steps, and with each fault of faults.py, which
should raise a warning within 200 steps. small: the quickstart on 100 images of each domain, with and without
DiffAugment. modes: noise translated to digits by the adversarial loss alone, with a fast discriminator and no cycle
loss, which loses digits; a classifier counts how many of the ten digits each remedy recovers.

Repeat the command to resume. Hardware: 2 CPU cores. Time: 90 minutes (injected: 13).
"""

import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import tyro

from configs import cyclegan as cyclegan_configs
from genjax import cli, cyclegan, files, flag_help
from genjax.config import OptimConfig, TrainConfig
from genjax.cyclegan.config import CycleGanConfig, CycleGanRun, LossConfig
from genjax.data import image_arrays, sources
from genjax.data.config import DataConfig
from genjax.evaluation import classifier
from genjax.loading import load_translator
from genjax.train import run_directory
from genjax.train.rows import read_rows
from studies.adaptation import methods
from studies.collapse import faults

Part = Literal["injected", "small", "modes"]

EXPECTED = {
    "collapsed": ("collapsed_a2b", "collapsed_b2a"),
    "inverted": ("inverted_a2b", "inverted_b2a"),
    "outplayed": ("outplayed_by_d_a", "outplayed_by_d_b"),
}
"""Expected warnings by fault; at least one of them must be raised."""
FEW = 100
"""Training images of a domain in part small."""
REMEDIES: dict[str, dict[str, dict[str, Any]]] = {
    "none": {},
    "diff_augment": {"cyclegan": {"diff_augment": 1.0}},
    "discriminator_lr_scale": {"cyclegan": {"discriminator_lr_scale": 0.5}},
    "spectral_norm": {"cyclegan": {"spectral_norm": True}},
    "instance_noise": {"cyclegan": {"instance_noise": 0.5}},
    "label_smoothing": {"loss": {"label_smoothing": 0.2}},
    "r1": {"loss": {"r1": 1.0}},
}
"""Changes to the configuration of the provoked collapse, by remedy."""
DRAWN, SEEN, SURE = 500, 0.01, 0.5
"""Number of translations to classify; least share of a digit that counts as seen; least probability of a class."""
NO_DIGIT = 10
"""Class of images that show no digit; a classifier without it would call them digits."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """Options: parts and seeds."""

    workdir: str
    """Directory of the study; each run has a directory in WORKDIR/PART, and WORKDIR/PART.md is the table."""
    parts: tuple[Part, ...] = ("injected", "small", "modes")
    """Parts to run."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of each part."""
    num_steps: int | None = None
    """Steps of every run instead of the study's, for a trial."""


def main() -> dict[str, Any]:
    """Runs each part, writes its table, and returns its results."""
    options, began = tyro.cli(Study, description=flag_help.description(__doc__)), time.perf_counter()
    cli.check_different(parts=options.parts, seeds=options.seeds)
    results: dict[str, Any] = {}
    for part in options.parts:
        rows, found = {"injected": injected, "small": small, "modes": modes}[part](options)
        table = _table(rows)
        files.write_atomically(files.resolve(options.workdir) / f"{part}.md", table.encode())
        logging.info("%s\n%s", part, table)
        results |= {f"{part}.{name}": value for name, value in found.items()}
    return {**results, "seconds": round(time.perf_counter() - began, 1)}


def injected(options: Study) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Finds the step of the first expected warning, and all warnings, for each fault and seed."""
    rows = []
    for seed in options.seeds:
        for fault, name in enumerate(faults.FAULTS):
            base = cyclegan_configs.quickstart()
            config = _with_length(
                options, "injected", f"{name}-{seed}", seed, base, 200 if fault else base.train.num_steps
            )
            _train(dataclasses.replace(config, train=dataclasses.replace(config.train, log_every=10)), fault)
            written = read_rows(files.resolve(config.workdir) / "metrics.jsonl")
            raised = [(row["step"], warning) for row in written for warning in row["warnings"]]
            first = min((step for step, warning in raised if warning in EXPECTED.get(name, ())), default=None)
            rows.append({"fault": name, "seed": seed, "first step": first, "warnings": sorted({w for _, w in raised})})
    healthy = [row for row in rows if row["fault"] == "none"]
    results: dict[str, Any] = {"none.runs_with_a_warning": sum(row["warnings"] != [] for row in healthy)}
    for name in EXPECTED:
        steps = [row["first step"] for row in rows if row["fault"] == name]
        results |= {f"{name}.runs_with_its_warning": sum(step is not None for step in steps)}
        results |= {f"{name}.latest_step": max((step for step in steps if step is not None), default=None)}
    return rows, results | {"runs_of_each": len(options.seeds)}


def small(options: Study) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Trains on FEW images of each domain; measures distances from the truth on all test pairs."""
    base = cyclegan_configs.quickstart()
    splits = sources.load(base.data, seed=0)
    chosen = splits._replace(train=tuple(x[np.linspace(0, len(x) - 1, FEW).astype(int)] for x in splits.train))
    arrays = {
        f"x_{split}{letter}": images
        for split, both in chosen._asdict().items()
        for letter, images in zip("AB", both, strict=True)
    }
    source = _write_npz(options, "small", arrays)
    base = dataclasses.replace(base, data=dataclasses.replace(base.data, source=source))
    rows = []
    for seed in options.seeds:
        for name in ("none", "diff_augment"):
            config = _with_length(options, "small", f"{name}-{seed}", seed, base, base.train.num_steps)
            test = _train(_changed(config, REMEDIES[name]))
            measured = {name: test[name] for name in ("l1_a2b", "iou_a2b", "l1_b2a", "iou_b2a")}
            rows.append({"remedy": name, "seed": seed, **measured})
    return rows, _means(rows, "remedy")


def modes(options: Study) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Counts the digits among the translations of noise, with each remedy.

    digits: share of translations that are a digit with a probability of at least SURE. modes: number of digits with a
    share of at least SEEN. effective: exponential of the entropy of the digits' shares, 10 if all are equally frequent.
    """
    digits = methods.load("digits")
    arrays = {f"x_{split}B": x for split, (x,) in digits.images._asdict().items()}
    noise = np.random.Philox(np.random.SeedSequence(0)).random_raw((2000, *digits.images.train[0].shape[1:])) >> 56
    arrays |= {"x_trainA": noise[:1400].astype(np.uint8), "x_validationA": noise[1400:1500].astype(np.uint8)}
    arrays |= {"x_testA": noise[1500:].astype(np.uint8)}
    source = _write_npz(options, "modes", arrays)
    referee = _fit_referee(digits)
    rows = []
    for seed in options.seeds:
        for name, changes in REMEDIES.items():
            config = _changed(_with_length(options, "modes", f"{name}-{seed}", seed, _provoked(source), 400), changes)
            _train(config)
            translated = load_translator(config.workdir).a2b(arrays["x_testA"][:DRAWN])
            found = _count(classifier.probabilities(referee, image_arrays.to_uint8(translated)))
            rows.append({"remedy": name, "seed": seed, **found})
            logging.info("%s", rows[-1])
    accuracy = classifier.accuracy(referee, digits.images.test[0], digits.labels.test[0])
    return rows, _means(rows, "remedy") | {"classifier_accuracy": accuracy}


def _fit_referee(digits: methods.Domain) -> classifier.Classifier:
    """Trains a classifier of ten digits and NO_DIGIT: digits with their quarters reordered, and smooth noise."""
    (images,), (labels,) = digits.images.train, digits.labels.train
    rows = np.concatenate([images[:, 8:], images[:, :8]], axis=1)
    torn = np.concatenate([np.concatenate([x[:, :, 8:], x[:, :, :8]], axis=2) for x in (images, rows)] + [rows])
    rough = np.random.Philox(np.random.SeedSequence(1)).random_raw((len(images), 16, 16, 1)) / 2.0**64
    smooth = np.mean([np.roll(rough, (i, j), (1, 2)) for i in range(3) for j in range(3)], axis=0)
    none = np.concatenate([torn, *(image_arrays.to_uint8(8 * (x - 0.5) + 0.3) for x in (rough, smooth))])
    known = np.concatenate([methods.distort(images, 4), none])
    classes = np.concatenate([np.tile(labels, 4), np.full(len(none), NO_DIGIT, np.int32)])
    return classifier.fit(known, classes, NO_DIGIT + 1, 0, 1500, 64, 2e-3)


def _count(probabilities: np.ndarray) -> dict[str, float]:
    """Counts the digits among translations from their probabilities [n, 11]."""
    chosen, sure = probabilities.argmax(axis=1), probabilities.max(axis=1) >= SURE
    counts = np.bincount(chosen[sure], minlength=NO_DIGIT + 1)[:NO_DIGIT]
    share = counts[counts > 0] / max(counts.sum(), 1)
    effective = float(np.exp(-np.sum(share * np.log(share)))) if counts.any() else 0.0
    seen = int(np.sum(counts >= SEEN * len(chosen)))
    return {"modes": seen, "effective": effective, "digits": float(counts.sum() / len(chosen))}


def _provoked(source: str) -> CycleGanRun:
    """Makes a run from noise to digits, by the adversarial loss alone and with a fast discriminator."""
    return CycleGanRun(
        data=DataConfig(source=source, image_size=(16, 16), channels=(1, 1), batch_size=16),
        optim=OptimConfig(learning_rate=1e-3, b1=0.5, ema_decay=0.9),
        train=TrainConfig(num_steps=400, num_sample_images=64),
        cyclegan=CycleGanConfig(
            base_channels=16,
            num_blocks=1,
            discriminator_channels=32,
            discriminator_layers=2,
            pool_size=0,
            discriminator_lr_scale=2.0,
        ),
        loss=LossConfig(adversarial="vanilla", adversarial_a2b=1.0, adversarial_b2a=0.0, cycle_a=0.0, cycle_b=0.0),
    )


def _with_length(options: Study, part: str, name: str, seed: int, base: CycleGanRun, num_steps: int) -> CycleGanRun:
    """Makes a run from `base` with another length and the same share of decay; validated half-way and at the end."""
    num_steps = num_steps if options.num_steps is None else options.num_steps
    half = max(num_steps // 2, 1)
    train = dataclasses.replace(base.train, num_steps=num_steps, eval_every=half, checkpoint_every=half)
    workdir = str(files.resolve(options.workdir) / part / name)
    return dataclasses.replace(base, workdir=workdir, seed=seed, train=train)


def _changed(config: CycleGanRun, changes: Mapping[str, Mapping[str, Any]]) -> CycleGanRun:
    parts = {part: dataclasses.replace(getattr(config, part), **fields) for part, fields in changes.items()}
    return dataclasses.replace(config, **parts)


def _train(config: CycleGanRun, fault: int = 0) -> dict[str, float]:
    """Trains a run, unless it is finished; returns its metrics on the test images."""
    path = run_directory.check_workdir(config) / "result.json"
    if path.exists() and files.read_json(path)["step"] == config.train.num_steps:
        return files.read_json(path)["test"]
    return cli.train(config, cyclegan.make_task(faults.faulty_networks(fault)) if fault else None)


def _write_npz(options: Study, part: str, arrays: dict[str, np.ndarray]) -> str:
    """Writes images to a file and returns the source that names it."""
    path = files.resolve(options.workdir) / f"{part}.npz"
    if not path.exists():
        files.write_atomically(path, files.encode_npz(arrays))
    return f"npz:{path}"


def _means(rows: Sequence[Mapping[str, Any]], by: str) -> dict[str, float]:
    """Averages over seeds for each name in the column `by`; returns them as `NAME.METRIC`."""
    metrics = [metric for metric in rows[0] if metric not in (by, "seed")]
    return {
        f"{name}.{metric}": round(float(np.mean([row[metric] for row in rows if row[by] == name])), 4)
        for name in dict.fromkeys(row[by] for row in rows)
        for metric in metrics
    }


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Formats a Markdown table with a line for each row."""

    def cell(value: Any) -> str:
        if isinstance(value, list):
            return ", ".join(value)
        return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)

    lines = [list(rows[0]), ["---"] * len(rows[0]), *([cell(value) for value in row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
