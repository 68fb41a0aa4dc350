"""Trains a classifier for one set of digits with the labels of another, by CycleGAN (CyCADA) and cheaper methods.

$ python experiments/domain_adaptation.py --workdir runs/adaptation

Each of two domains is the source once and the target once. Labels of the source are used for training, labels of the
target only for evaluation. The methods are classifiers that are trained on

    source_only    the source
    moments        the source, brought to the mean and covariance of the target's pixels
    pseudo_labels  the source, and those target images that the previous classifier is sure of; four rounds, the first
                   from source_only, with predictions scaled to the source's shares of the classes
    guessed        only those target images, with the labels that pseudo_labels predicts
    translated     the source, translated by a CycleGAN with semantic losses: guessed has to find the same class in the
                   translation as source_only in the image
    both           the same, and the target images that pseudo_labels is sure of
    no_semantics   the source, translated by a CycleGAN without semantic losses
    oracle         the target, with its labels

All classifiers have the same network and number of steps, train on distorted copies of their images, and are tested on
the target's test images. The CycleGANs train on distorted copies of the source too. No label of the target is used for
training, or to choose a checkpoint, which is always the last. A second table compares scores that choose among the
methods without target labels: how they rank them, and how accurate their choice is.

Repeat the command to resume, or to train more seeds. Hardware: 2 CPU cores. Time: about 30 minutes.
Result: experiments/results/domain_adaptation.md.
"""

import dataclasses
import logging
from typing import Any

import tyro

from genjax import cli, files, flag_help
from genjax.checks import check_seed
from genjax.evaluation import classifier
from genjax.gan.networks import DOMAINS
from studies.adaptation import methods, model_choice, training
from studies.adaptation.training import Case


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Options: the domains, and the length of the trainings."""

    workdir: str
    """Directory for images, classifiers, a run directory of each CycleGAN, pictures and results."""
    first: str = "digits"
    """Grey images with labels, light on dark: digits, mnist5k, npz:PATH with y_train, or tfds:NAME."""
    second: str = "mnist5k"
    """Another such set, of the same classes."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds; everything is trained in both directions with each of them."""
    seeds_without_semantics: tuple[int, ...] = (0,)
    """Seeds among --seeds with which no_semantics is trained too."""
    num_steps: int = 3000
    """Steps of each CycleGAN."""
    classifier_steps: int = 2000
    """Steps of each classifier."""
    semantic: float = 1.0
    """Weight of the semantic loss in either direction."""


def main() -> dict[str, Any]:
    """Runs the adaptation that the command line describes."""
    return adapt(tyro.cli(Options, description=flag_help.description(__doc__)))


def adapt(options: Options) -> dict[str, Any]:
    """Trains and tests all methods, prints a row for each seed and direction, and returns their means."""
    _check(options)
    first, second = methods.load(options.first), methods.load(options.second)
    methods.check_pair(first, second)
    workdir = files.resolve(options.workdir)
    settings = ("first", "second", "num_steps", "classifier_steps", "semantic")
    methods.write_images(workdir, {name: getattr(options, name) for name in settings}, (first, second))
    rows = []
    for seed in options.seeds:
        for direction, (source, target) in DOMAINS.items():
            domains = (first, second)
            case = Case(
                workdir, direction, seed, domains[source], domains[target],
                options.num_steps, options.classifier_steps, options.semantic,
            )  # fmt: skip
            rows.append(_adapt(case, seed in options.seeds_without_semantics))
            logging.info("%s", rows[-1])
    files.write_json(workdir / "results.json", rows)
    print(f"{methods.table(rows)}\n\n{model_choice.table(rows)}\n")
    return methods.means(rows)


def _check(options: Options) -> None:
    """Raises ValueError for options out of range, and without scikit-learn."""
    model_choice.linear_models()  # fails now, not after the trainings
    if options.semantic <= 0:
        raise ValueError(f"--semantic must be positive, got {options.semantic}: no_semantics is trained without it")
    if options.num_steps < 2:
        raise ValueError(f"--num-steps must be at least 2, got {options.num_steps}")
    if options.classifier_steps < 1:
        raise ValueError(f"--classifier-steps must be at least 1, got {options.classifier_steps}")
    cli.check_different(seeds=options.seeds)
    for seed in options.seeds:
        check_seed("each of --seeds", seed)


def _adapt(case: Case, without_semantics: bool) -> dict[str, Any]:
    """Trains all methods; returns accuracies on the target's test images, and the share of labels that flip."""
    (x,), _, (x_test,) = case.source.images
    (y,), _, (y_test,) = case.source.labels
    (target_x,), _, (target_x_test,) = case.target.images
    (target_y,), _, (target_y_test,) = case.target.labels

    source_only = training.fit(case, case.source.name, x, y)
    oracle = training.fit(case, case.target.name, target_x, target_y)
    classifiers = {
        "source_only": source_only,
        "moments": training.fit(case, f"{case.name}-moments", methods.match_moments(x, x, target_x), y),
        "pseudo_labels": (pseudo := training.fit_pseudo_labels(case, source_only)),
        "guessed": training.fit(case, f"{case.name}-guessed", *training.guessed(case, pseudo)),
        "oracle": oracle,
    }
    flips = {}
    for method in ("translated", "no_semantics") if without_semantics else ("translated",):
        run = training.fit_cyclegan(case, method)
        translated, translated_test = (training.translate(run, case.direction, images) for images in (x, x_test))
        classifiers[method] = training.fit(case, f"{case.name}-{method}", translated, y)
        if method == "translated":
            classifiers["both"] = training.fit(case, f"{case.name}-both", *training.joined(case, pseudo, translated))
        flips[f"flips_{method}"] = 1 - classifier.accuracy(oracle, translated_test, y_test)
        page = case.workdir / f"{case.name}-{method}-seed-{case.seed}.png"
        training.write_pictures(page, x_test, translated_test, target_x_test)
    # ORDER MATTERS: scores that choose without target labels stand before the target's test labels are looked at.
    scores = {
        method: model_choice.measure(found, case.source, case.target.images)
        | {"reverse": training.reverse_accuracy(case, method, found)}
        for method, found in classifiers.items()
        if method != "oracle"
    }
    accuracies = {
        method: classifier.accuracy(classifiers[method], target_x_test, target_y_test)
        for method in methods.METHODS
        if method in classifiers
    }
    gaps = {
        f"gap_{method}": methods.gap_closed(accuracies["source_only"], accuracies[method], accuracies["oracle"])
        for method in ("pseudo_labels", "translated", "both")
    }
    return {
        "direction": case.name, "seed": case.seed, "source_test": len(x_test), "target_test": len(target_x_test),
        **accuracies, **gaps, **flips, "oracle_error": 1 - accuracies["oracle"], "scores": scores,
    }  # fmt: skip


if __name__ == "__main__":
    cli.run(main)
