"""Trainings of an adaptation: classifiers and CycleGANs, each saved in the workdir and trained once."""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np
from etils import epath
from jax import Array

from genjax import cli, parallel
from genjax.compiled import compile_rows
from genjax.config import OptimConfig, TrainConfig
from genjax.cyclegan import nets
from genjax.cyclegan.config import CycleGanConfig, CycleGanRun, LossConfig
from genjax.data import image_arrays
from genjax.data.config import DataConfig
from genjax.evaluation import classifier
from genjax.evaluation.classifier import Classifier
from genjax.gan import translation
from genjax.gan.networks import DOMAINS, Direction
from genjax.loading import load_translator
from genjax.optim import Params
from studies.adaptation import methods
from studies.adaptation.methods import COPIES, SIZE, Domain

ROUNDS = 4
"""Rounds of predicting labels for the target and training on them."""
NOISE = 0.5
"""Standard deviation of the noise on a translation, pixels in [-1, 1], before a classifier sees it."""
COLUMNS = 16
"""Number of images of a domain in the picture."""
CHUNK = 256
"""Images that are translated at a time."""


class Case(NamedTuple):
    """One seed and one direction of an adaptation."""

    workdir: epath.Path
    direction: Direction
    seed: int
    source: Domain
    target: Domain
    num_steps: int
    """Steps of a CycleGAN."""
    classifier_steps: int
    semantic: float
    """Weight of the semantic losses."""

    @property
    def name(self) -> str:
        """Source-to-target."""
        return f"{self.source.name}-to-{self.target.name}"

    @property
    def num_classes(self) -> int:
        """Number of classes in all splits of the source; training images or predicted labels may lack some."""
        return 1 + max(int(labels.max()) for (labels,) in self.source.labels)


def fit(case: Case, name: str, images: np.ndarray, labels: np.ndarray) -> Classifier:
    """Trains a classifier on distorted copies of `images`, or loads it if it was trained before."""
    path = classifier_file(case, name)
    if not path.exists():
        distorted, steps = methods.distort(images, COPIES), case.classifier_steps
        fitted = classifier.fit(distorted, np.tile(labels, COPIES), case.num_classes, case.seed, steps, 64, 2e-3)
        classifier.save(path, fitted)
    return classifier.load(path)[0]


def classifier_file(case: Case, name: str) -> epath.Path:
    """Returns the path of a classifier by name."""
    return case.workdir / "classifiers" / f"{name}-seed-{case.seed}.npz"


def fit_pseudo_labels(case: Case, current: Classifier) -> Classifier:
    """Trains ROUNDS classifiers, each on the source and on target labels predicted by the one before."""
    for turn in range(1, ROUNDS + 1):
        current = fit(case, f"{case.name}-pseudo-{turn}", *joined(case, current, case.source.images.train[0]))
    return current


def joined(case: Case, current: Classifier, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Joins images `x` with labels of the source, and target images that a classifier is sure of."""
    target, labels = guessed(case, current)
    return np.concatenate([x, target]), np.concatenate([case.source.labels.train[0], labels])


def guessed(case: Case, current: Classifier) -> tuple[np.ndarray, np.ndarray]:
    """Selects target training images that a classifier is sure of, with the labels that it predicts.

    Raises ValueError if there are none.
    """
    (y,), (target_x,) = case.source.labels.train, case.target.images.train
    proportions = np.bincount(y, minlength=case.num_classes) / len(y)  # of the source: the target's are unknown
    sure, labels = methods.pseudo_labels(classifier.probabilities(current, target_x), proportions)
    if len(sure) == 0:
        raise ValueError(
            f"{case.name}, seed {case.seed}: the classifier is not sure of any of the {len(target_x)} target images. "
            "Train for longer with --classifier-steps, or give sets with similar shares of the classes"
        )
    return target_x[sure], labels


def reverse_accuracy(case: Case, method: str, forward: Classifier) -> float:
    """Tests on the source's validation images a classifier that learned what `forward` predicts for the target.

    It trains for a quarter of the steps. Reverse validation: Zhong et al. 2010; Ganin et al. 2016.
    """
    (target_x,), (x,), (y,) = case.target.images.train, case.source.images.validation, case.source.labels.validation
    labels = classifier.probabilities(forward, target_x).argmax(axis=1).astype(np.int32)
    shorter = case._replace(classifier_steps=max(1, case.classifier_steps // 4))
    return classifier.accuracy(fit(shorter, f"{case.name}-{method}-reverse", target_x, labels), x, y)


def fit_cyclegan(case: Case, method: str) -> CycleGanRun:
    """Trains or resumes the CycleGAN of a method."""
    num_steps, half = case.num_steps, case.num_steps // 2
    loss = LossConfig(adversarial_a2b=1.0, adversarial_b2a=1.0, cycle_a=10.0, cycle_b=10.0)
    classifiers = ["", ""]
    if method == "translated":
        weight = case.semantic
        loss = dataclasses.replace(loss, semantic_a2b=weight, semantic_b2a=weight, semantic_noise=NOISE)
        for domain, name in zip(DOMAINS[case.direction], (case.source.name, f"{case.name}-guessed"), strict=True):
            classifiers[domain] = str(classifier_file(case, name))
    config = CycleGanRun(
        workdir=str(case.workdir / f"{case.name}-{method}-seed-{case.seed}"),
        seed=case.seed,
        data=DataConfig(
            source=f"npz:{case.workdir / case.name}.npz", image_size=(SIZE, SIZE), channels=(1, 1), batch_size=16
        ),
        optim=OptimConfig(learning_rate=4e-4, b1=0.5, schedule="linear", ema_decay=0.99),
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


def translate(config: CycleGanRun, direction: Direction, images: np.ndarray) -> np.ndarray:
    """Translates uint8 images [n, h, w, c] of the source with the averaged generator of a finished run."""
    mesh = parallel.make_mesh(jax.devices()[:1])

    def translate_rows(config: CycleGanRun, params: Params, rows: Array) -> Array:
        return translation.translate(config, params, direction, image_arrays.to_unit(rows), nets.make_networks)

    # Translator takes one image at a time, as photographs need; these images are small and many.
    run = compile_rows(translate_rows, config, mesh, CHUNK)
    params = load_translator(config.workdir, mesh=mesh).params
    return image_arrays.to_uint8(run((params,), (images,)))


def write_pictures(path: epath.Path, source: np.ndarray, translated: np.ndarray, target: np.ndarray) -> None:
    """Writes a picture with three rows: source images, their translations, and images of the target."""
    rows = np.linspace(0, len(source) - 1, COLUMNS).astype(int)
    target_rows = np.linspace(0, len(target) - 1, COLUMNS).astype(int)
    grid = image_arrays.grid(np.concatenate([source[rows], translated[rows], target[target_rows]]), COLUMNS)
    image_arrays.write_png(path, grid.repeat(3, axis=0).repeat(3, axis=1))
