"""Trains a classifier for one set of digits with the labels of another, by CycleGAN and by cheaper methods (CyCADA).

$ python experiments/domain_adaptation.py --workdir runs/adaptation

Each of two domains in turn is the source, whose labels are used, and the target, whose labels are used for evaluation
alone. The methods are classifiers that are trained on

    source_only    the source
    moments        the source, brought to the mean and covariance of the target's pixels
    pseudo_labels  the source, and the target's images that the classifier before is sure of: four rounds from
                   source_only on, its guesses brought to the source's shares of the classes
    guessed        those images of the target alone, with the labels that pseudo_labels guesses
    translated     the source, translated by a CycleGAN with semantic losses: guessed has to see in a translation what
                   source_only sees in the image
    both           the same, and the target's images that pseudo_labels is sure of
    no_semantics   the source, translated by a CycleGAN without semantic losses
    oracle         the target, with its labels

All classifiers have the same network and number of steps, train on distorted copies of their images, and are tested on
the target's test images. The CycleGANs train on distorted copies of the source too. No label of the target is used for
training, or to choose a checkpoint, which is always the last.

The same command again resumes; with more seeds, it trains those. Hardware: 2 CPU cores. Time: about 30 minutes.
Result: experiments/results/domain_adaptation.md.
"""

import dataclasses
import logging
from typing import Any, NamedTuple

import jax
import numpy as np
import tyro
from etils import epath
from jax import Array

from genjax import cli, files, parallel
from genjax.compiled import compile_rows
from genjax.config import DataConfig, OptimConfig, TrainConfig, check_seed
from genjax.cyclegan import translation
from genjax.cyclegan.config import CycleGanConfig, CycleGanRun, LossConfig
from genjax.cyclegan.nets import DOMAINS, Direction
from genjax.data import image_arrays
from genjax.evaluation import classifier
from genjax.evaluation.classifier import Classifier
from genjax.loading import load_translator
from genjax.parallel import PyTree
from studies.adaptation import methods
from studies.adaptation.methods import COPIES, METHODS, SIZE, Domain

ROUNDS = 4
"""Rounds of guessing labels for the target and training on them."""
NOISE = 0.5
"""Standard deviation of the noise on a translation, pixels in [-1, 1], before a classifier sees it."""
COLUMNS = 16
"""Images of a domain in the picture."""
CHUNK = 256
"""Images that are translated at a time."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The domains, and how long to train."""

    workdir: str
    """For images, classifiers, a run directory for each CycleGAN, pictures and results."""
    first: str = "digits"
    """Grey images with labels, light on dark: digits, mnist5k, npz:PATH with y_train, or tfds:NAME."""
    second: str = "mnist5k"
    """Another such set, of the same classes."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Everything is trained in both directions with each."""
    seeds_without_semantics: tuple[int, ...] = (0,)
    """Those of --seeds with which no_semantics is trained too."""
    num_steps: int = 3000
    """Steps of each CycleGAN."""
    classifier_steps: int = 2000
    """Steps of each classifier."""
    semantic: float = 1.0
    """Weight of the semantic loss in either direction."""


def main() -> dict[str, Any]:
    """Adapts as the command line says."""
    return adapt(tyro.cli(Options, description=__doc__))


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
            rows.append(_adapt(Case(workdir, options, direction, seed, domains[source], domains[target])))
            logging.info("%s", rows[-1])
    files.write_json(workdir / "results.json", rows)
    print(f"{methods.table(rows)}\n")
    return methods.means(rows)


def _check(options: Options) -> None:
    """Raises ValueError for numbers that will not do."""
    if options.semantic <= 0:
        raise ValueError(f"--semantic must be positive, got {options.semantic}: no_semantics is trained without it")
    if options.num_steps < 2:
        raise ValueError(f"--num-steps must be at least 2, got {options.num_steps}")
    if options.classifier_steps < 1:
        raise ValueError(f"--classifier-steps must be at least 1, got {options.classifier_steps}")
    cli.check_different(seeds=options.seeds)
    for seed in options.seeds:
        check_seed("each of --seeds", seed)


class Case(NamedTuple):
    """One seed and one direction of an adaptation."""

    workdir: epath.Path
    options: Options
    direction: Direction
    seed: int
    source: Domain
    target: Domain

    @property
    def name(self) -> str:
        """Source-to-target."""
        return f"{self.source.name}-to-{self.target.name}"

    @property
    def num_classes(self) -> int:
        """Classes of the source in all splits: its training images, or guessed labels, may lack some."""
        return 1 + max(int(labels.max()) for (labels,) in self.source.labels)


def _adapt(case: Case) -> dict[str, Any]:
    """Accuracies of all methods on the target's test images, and the share of labels that translation flips."""
    (x,), _, (x_test,) = case.source.images
    (y,), _, (y_test,) = case.source.labels
    (target_x,), _, (target_x_test,) = case.target.images
    (target_y,), _, (target_y_test,) = case.target.labels

    source_only = _fit(case, case.source.name, x, y)
    oracle = _fit(case, case.target.name, target_x, target_y)
    classifiers = {
        "source_only": source_only,
        "moments": _fit(case, f"{case.name}-moments", methods.match_moments(x, x, target_x), y),
        "pseudo_labels": (pseudo := _fit_pseudo_labels(case, source_only)),
        "guessed": _fit(case, f"{case.name}-guessed", *_guessed(case, pseudo)),
        "oracle": oracle,
    }
    flips = {}
    for method in ("translated", "no_semantics"):
        if method == "no_semantics" and case.seed not in case.options.seeds_without_semantics:
            continue
        run = _cyclegan(case, method)
        translated, translated_test = (_translate(run, case.direction, images) for images in (x, x_test))
        classifiers[method] = _fit(case, f"{case.name}-{method}", translated, y)
        if method == "translated":
            classifiers["both"] = _fit(case, f"{case.name}-both", *_joined(case, pseudo, translated))
        flips[f"flips_{method}"] = 1 - classifier.accuracy(oracle, translated_test, y_test)
        _draw(case.workdir / f"{case.name}-{method}-seed-{case.seed}.png", x_test, translated_test, target_x_test)
    accuracies = {
        method: classifier.accuracy(classifiers[method], target_x_test, target_y_test)
        for method in METHODS
        if method in classifiers
    }
    gaps = {
        f"gap_{method}": methods.gap_closed(accuracies["source_only"], accuracies[method], accuracies["oracle"])
        for method in ("pseudo_labels", "translated", "both")
    }
    return {
        "direction": case.name, "seed": case.seed, "source_test": len(x_test), "target_test": len(target_x_test),
        **accuracies, **gaps, **flips, "oracle_error": 1 - accuracies["oracle"],
    }  # fmt: skip


def _fit(case: Case, name: str, images: np.ndarray, labels: np.ndarray) -> Classifier:
    """Trains a classifier on distorted copies of these images, or loads the one that was trained before."""
    path = _classifier_file(case, name)
    if not path.exists():
        distorted, steps = methods.distort(images, COPIES), case.options.classifier_steps
        fitted = classifier.fit(distorted, np.tile(labels, COPIES), case.num_classes, case.seed, steps, 64, 2e-3)
        classifier.save(path, fitted)
    return classifier.load(path)[0]


def _classifier_file(case: Case, name: str) -> epath.Path:
    return case.workdir / "classifiers" / f"{name}-seed-{case.seed}.npz"


def _fit_pseudo_labels(case: Case, current: Classifier) -> Classifier:
    """Trains ROUNDS classifiers, each on the source and on what the one before guesses of the target."""
    for turn in range(1, ROUNDS + 1):
        current = _fit(case, f"{case.name}-pseudo-{turn}", *_joined(case, current, case.source.images.train[0]))
    return current


def _joined(case: Case, current: Classifier, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Joins `x`, images with the labels of the source, and the target's images that a classifier is sure of."""
    target, guessed = _guessed(case, current)
    return np.concatenate([x, target]), np.concatenate([case.source.labels.train[0], guessed])


def _guessed(case: Case, current: Classifier) -> tuple[np.ndarray, np.ndarray]:
    """Selects the target's training images that a classifier is sure of, with the labels that it guesses.

    Raises ValueError if there are none.
    """
    (y,), (target_x,) = case.source.labels.train, case.target.images.train
    proportions = np.bincount(y, minlength=case.num_classes) / len(y)  # the target's own are not known
    sure, guessed = methods.pseudo_labels(classifier.probabilities(current, target_x), proportions)
    if len(sure) == 0:
        raise ValueError(
            f"{case.name}, seed {case.seed}: the classifier is not sure of any of the {len(target_x)} target images. "
            "Train for longer with --classifier-steps, or give sets with similar shares of the classes"
        )
    return target_x[sure], guessed


def _cyclegan(case: Case, method: str) -> CycleGanRun:
    """Trains the CycleGAN of a method, or resumes it."""
    num_steps, half = case.options.num_steps, case.options.num_steps // 2
    loss = LossConfig(adversarial_a2b=1.0, adversarial_b2a=1.0, cycle_a=10.0, cycle_b=10.0)
    classifiers = ["", ""]
    if method == "translated":
        weight = case.options.semantic
        loss = dataclasses.replace(loss, semantic_a2b=weight, semantic_b2a=weight, semantic_noise=NOISE)
        for domain, name in zip(DOMAINS[case.direction], (case.source.name, f"{case.name}-guessed"), strict=True):
            classifiers[domain] = str(_classifier_file(case, name))
    config = CycleGanRun(
        workdir=str(case.workdir / f"{case.name}-{method}-seed-{case.seed}"),
        seed=case.seed,
        data=DataConfig(
            source=f"npz:{case.workdir / case.name}.npz", image_size=(SIZE, SIZE), channels=(1, 1), batch_size=16
        ),
        optim=OptimConfig(learning_rate=4e-4, b1=0.5, schedule="linear", decay_steps=half, ema_decay=0.99),
        train=TrainConfig(
            num_steps=num_steps, log_every=100, eval_every=half, checkpoint_every=half, num_sample_images=24
        ),
        cyclegan=CycleGanConfig(base_channels=16, num_blocks=2, discriminator_channels=32, discriminator_layers=2),
        loss=loss,
        classifier_a=classifiers[0],
        classifier_b=classifiers[1],
    )
    cli.train(config)
    return config


def _translate(config: CycleGanRun, direction: Direction, images: np.ndarray) -> np.ndarray:
    """Translates uint8 images [n, h, w, c] of the source with the averaged generator of a finished run."""
    mesh = parallel.make_mesh(jax.devices()[:1])

    def translate(config: CycleGanRun, params: PyTree, rows: Array) -> Array:
        return translation.translate(config, params, direction, image_arrays.to_unit(rows))

    # The translator's own function takes one image at a time, as it is for photographs.
    run = compile_rows(translate, config, mesh, CHUNK)
    params = load_translator(config.workdir, mesh=mesh).params
    return image_arrays.to_uint8(run((params,), (images,)))


def _draw(path: epath.Path, source: np.ndarray, translated: np.ndarray, target: np.ndarray) -> None:
    """Writes a picture with three rows: source images, their translations, and images of the target."""
    rows = np.linspace(0, len(source) - 1, COLUMNS).astype(int)
    target_rows = np.linspace(0, len(target) - 1, COLUMNS).astype(int)
    grid = image_arrays.grid(np.concatenate([source[rows], translated[rows], target[target_rows]]), COLUMNS)
    image_arrays.write_png(path, grid.repeat(3, axis=0).repeat(3, axis=1))


if __name__ == "__main__":
    cli.run(main)
