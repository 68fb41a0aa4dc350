"""Can images of one domain, translated, teach a classifier for another whose labels nobody knows (as in CyCADA)?

$ python experiments/domain_adaptation.py --workdir runs/adaptation

Each of two domains in turn is the source, whose labels are known, and the target, whose labels only judge. A classifier
learns from

    source_only    the source
    moments        the source at the mean and covariance of the target's pixels
    pseudo_labels  the source and the target's images that it is sure of itself, in four rounds from source_only, once
                   its guesses have been brought to the source's proportions of classes
    guessed        those images of the target alone, with the labels that pseudo_labels guesses
    translated     the source translated by a CycleGAN with semantic losses: a translation has to look to guessed like
                   what the image looks like to source_only
    both           the same and the target's images that pseudo_labels is sure of
    no_semantics   the source translated by a CycleGAN without
    oracle         the target

All have the same network, as many steps, and distorted copies of the images they learn from, and are judged on the
target's test images. The CycleGANs, too, learn from distorted copies of the source. No target label is used for
training, nor to choose a checkpoint, which is always the last.

The same command again goes on where it ended, and with more seeds trains those. Hardware: 2 CPU cores. Time: about 30
minutes. Result: experiments/results/domain_adaptation.md.
"""

import dataclasses
import logging
from typing import Any, NamedTuple

import jax
import numpy as np
import tyro
from etils import epath
from jax import Array

from genjax import cli, cyclegan, files
from genjax.config import DataConfig, OptimConfig, TrainConfig, check_seed
from genjax.cyclegan import translation
from genjax.cyclegan.config import CycleGanConfig, CycleGanRun, LossConfig
from genjax.cyclegan.nets import DOMAINS, Direction
from genjax.data import image_arrays
from genjax.evaluation import classifier
from genjax.evaluation.classifier import Classifier
from genjax.loading import load_translator
from genjax.nn import layers
from studies.adaptation import methods
from studies.adaptation.methods import COPIES, METHODS, SIZE, Domain

ROUNDS = 4
"""Of labelling images of the target and learning from them."""
NOISE = 0.5
"""Standard deviation of what is added to a translation, black being -1 and white 1, before a classifier judges it."""
PICTURES = 16
"""Images of a domain in the picture."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adaptation:
    """Which domains, and for how long to train."""

    workdir: str
    """Holds images, classifiers, a run directory for each CycleGAN, pictures and results."""
    first: str = "digits"
    """Grey images with labels, light ink on dark ground: digits, mnist5k, npz:PATH with y_train, or tfds:NAME."""
    second: str = "mnist5k"
    """Another such set, of the same classes."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """For each, everything is trained in both directions."""
    seeds_without_semantics: tuple[int, ...] = (0,)
    """Those of them for which no_semantics is trained too."""
    num_steps: int = 3000
    """Steps of each CycleGAN."""
    classifier_steps: int = 2000
    """Steps of each classifier."""
    semantic: float = 1.0
    """Weight of the semantic loss in either direction."""


def main() -> dict[str, Any]:
    """Adapts as the command line says."""
    return adapt(tyro.cli(Adaptation, description=__doc__))


def adapt(options: Adaptation) -> dict[str, Any]:
    """Trains and judges all, prints a row for each seed and direction, and returns their means."""
    if options.semantic <= 0:
        raise ValueError(
            f"--semantic must be positive, got {options.semantic}: no_semantics is the translation without"
        )
    cli.check_different(seeds=options.seeds)
    if options.num_steps < 2:
        raise ValueError(f"--num-steps must be at least 2, got {options.num_steps}")
    first, second = methods.load(options.first), methods.load(options.second)
    if first.name == second.name:
        raise ValueError(f"--first and --second are both called {first.name}: give two sets of images, or rename one")
    classes = [sorted({int(label) for (array,) in domain.labels for label in array}) for domain in (first, second)]
    if classes[0] != classes[1]:
        raise ValueError(
            f"{options.first} has the classes {classes[0]}, {options.second} has {classes[1]}: they differ"
        )
    workdir = files.resolve(options.workdir)
    if options.classifier_steps < 1:
        raise ValueError(f"--classifier-steps must be at least 1, got {options.classifier_steps}")
    for seed in options.seeds:
        check_seed("each of --seeds", seed)
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


class Case(NamedTuple):
    """One seed and one direction."""

    workdir: epath.Path
    options: Adaptation
    direction: Direction
    seed: int
    source: Domain
    target: Domain

    @property
    def name(self) -> str:
        """As source-to-target."""
        return f"{self.source.name}-to-{self.target.name}"

    @property
    def num_classes(self) -> int:
        """Of both domains; the training images of one may lack some, and so may guessed labels."""
        return 1 + max(int(labels.max()) for (labels,) in self.source.labels)


def _adapt(case: Case) -> dict[str, Any]:
    """How well each method does on the target's test images, and what translation did to the labels."""
    (x,), _, (x_test,) = case.source.images
    (y,), _, (y_test,) = case.source.labels
    (target_x,), _, (judged,) = case.target.images
    (target_y,), _, (truth,) = case.target.labels

    source_only = _fit(case, case.source.name, x, y)
    oracle = _fit(case, case.target.name, target_x, target_y)
    found = {
        "source_only": source_only,
        "moments": _fit(case, f"{case.name}-moments", methods.match_moments(x, x, target_x), y),
        "pseudo_labels": (pseudo := _label_oneself(case, source_only)),
        "guessed": _fit(case, f"{case.name}-guessed", *_guessed(case, pseudo)),
        "oracle": oracle,
    }
    flips = {}
    for method in ("translated", "no_semantics"):
        if method == "no_semantics" and case.seed not in case.options.seeds_without_semantics:
            continue
        run = _cyclegan(case, method)
        translated, translated_test = (_translate(run, case.direction, images) for images in (x, x_test))
        found[method] = _fit(case, f"{case.name}-{method}", translated, y)
        if method == "translated":
            found["both"] = _fit(case, f"{case.name}-both", *_joined(case, pseudo, translated))
        flips[f"flips_{method}"] = 1 - classifier.accuracy(oracle, translated_test, y_test)
        _draw(case.workdir / f"{case.name}-{method}-seed-{case.seed}.png", x_test, translated_test, judged)
    accuracies = {method: classifier.accuracy(found[method], judged, truth) for method in METHODS if method in found}
    gaps = {
        f"gap_{method}": methods.gap_closed(accuracies["source_only"], accuracies[method], accuracies["oracle"])
        for method in ("pseudo_labels", "translated", "both")
    }
    return {
        "direction": case.name, "seed": case.seed, "source_test": len(x_test), "target_test": len(judged),
        **accuracies, **gaps, **flips, "oracle_error": 1 - accuracies["oracle"],
    }  # fmt: skip


def _fit(case: Case, what: str, images: np.ndarray, labels: np.ndarray) -> Classifier:
    """A classifier of these images, distorted, or the one that was trained before."""
    path = _classifier_file(case, what)
    if not path.exists():
        distorted, steps = methods.distort(images, COPIES), case.options.classifier_steps
        fitted = classifier.fit(distorted, np.tile(labels, COPIES), case.num_classes, case.seed, steps, 64, 2e-3)
        classifier.save(path, fitted)
    return classifier.load(path)[0]


def _classifier_file(case: Case, what: str) -> epath.Path:
    return case.workdir / "classifiers" / f"{what}-seed-{case.seed}.npz"


def _label_oneself(case: Case, current: Classifier) -> Classifier:
    """From one that knows the source, one that has learned from the target's images that it was sure of, too."""
    for turn in range(1, ROUNDS + 1):
        current = _fit(case, f"{case.name}-pseudo-{turn}", *_joined(case, current, case.source.images.train[0]))
    return current


def _joined(case: Case, current: Classifier, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The source's training images as `x` shows them, and those of the target that a classifier is sure of."""
    target, guessed = _guessed(case, current)
    return np.concatenate([x, target]), np.concatenate([case.source.labels.train[0], guessed])


def _guessed(case: Case, current: Classifier) -> tuple[np.ndarray, np.ndarray]:
    """The target's training images that a classifier is sure of, and the labels that it gives them.

    ValueError if there are none.
    """
    (y,), (target_x,) = case.source.labels.train, case.target.images.train
    proportions = np.bincount(y, minlength=case.num_classes) / len(y)  # the target's own are not known
    sure, guessed = methods.pseudo_labels(classifier.probabilities(current, target_x), proportions)
    if len(sure) == 0:
        raise ValueError(
            f"{case.name}, seed {case.seed}: of none of the {len(target_x)} target images is a classifier sure enough "
            "to guess a label. Train for longer with --classifier-steps, or give sets with like shares of each class"
        )
    return target_x[sure], guessed


def _cyclegan(case: Case, method: str) -> CycleGanRun:
    """Trains the CycleGAN of a method, or finds it trained."""
    num_steps, half = case.options.num_steps, case.options.num_steps // 2
    loss = LossConfig(adversarial_a2b=1.0, adversarial_b2a=1.0, cycle_a=10.0, cycle_b=10.0)
    classifiers = ["", ""]
    if method == "translated":
        weight = case.options.semantic
        loss = dataclasses.replace(loss, semantic_a2b=weight, semantic_b2a=weight, semantic_noise=NOISE)
        for domain, what in zip(DOMAINS[case.direction], (case.source.name, f"{case.name}-guessed"), strict=True):
            classifiers[domain] = str(_classifier_file(case, what))
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
    task, config = cyclegan.with_classifiers(config)
    cli.train(task, config)
    return config


def _translate(config: CycleGanRun, direction: Direction, pictures: np.ndarray) -> np.ndarray:
    """uint8 images [n, h, w, c] of the source in the target's domain, by the averaged generator."""
    translator = load_translator(config.workdir)

    @jax.jit
    def translate(params: Any, chunk: Array) -> Array:
        with jax.default_matmul_precision(layers.matmul_precision(config.precision)):
            return translation.translate(config, params, direction, image_arrays.to_unit(chunk))

    size = 256  # the translator itself takes one at a time, as for photographs
    padded = np.resize(pictures, (-(-len(pictures) // size) * size, *pictures.shape[1:]))
    parts = [translate(translator.params, padded[i : i + size]) for i in range(0, len(padded), size)]
    return image_arrays.to_uint8(np.concatenate(jax.device_get(parts)))[: len(pictures)]


def _draw(path: epath.Path, source: np.ndarray, translated: np.ndarray, target: np.ndarray) -> None:
    """A picture: source images, below them their translations, and images of the target beneath."""
    rows = np.linspace(0, len(source) - 1, PICTURES).astype(int)
    others = np.linspace(0, len(target) - 1, PICTURES).astype(int)
    grid = image_arrays.grid(np.concatenate([source[rows], translated[rows], target[others]]), PICTURES)
    image_arrays.write_png(path, grid.repeat(3, axis=0).repeat(3, axis=1))


if __name__ == "__main__":
    cli.run(main)
