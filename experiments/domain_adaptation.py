"""Can images of one domain, translated, teach a classifier for another whose labels nobody knows (as in CyCADA)?

$ python experiments/domain_adaptation.py --workdir runs/adaptation

Each of two domains in turn is the source, whose labels are known, and the target, whose labels only judge. A classifier
learns from

    source_only    the source
    moments        the source at the mean and covariance of the target's pixels
    styles         the source blurred and exposed at random
    pseudo_labels  the source and the target's images that it is sure of itself, in two rounds from source_only
    translated     the source translated by a CycleGAN with a semantic loss, whose fixed classifier is that of styles
    self_labelled  the same and the target's images that it and styles, which sees them translated back, are sure of on
                   average, in two rounds from translated (after SBADA-GAN, Russo et al. 2018)
    no_semantics   the source translated by a CycleGAN without the semantic loss
    oracle         the target

All have the same network, as many steps, and distorted copies of the images they learn from, and are judged on the
target's test images. No target label is used for training, nor to choose a checkpoint, which is always the last.

The same command again goes on where it ended, and with more seeds trains those. Hardware: 2 CPU cores.
"""

import dataclasses
import functools
import hashlib
import io
import logging
from typing import Any

import _adaptation
import _start
import jax
import numpy as np
import tyro
from _adaptation import COPIES, SIZE, STYLES, Domain
from etils import epath
from jax import Array

from genjax import classifier, cyclegan, files, layers
from genjax import images as image_ops
from genjax.classifier import Classifier
from genjax.config import CycleGanConfig, CycleGanRun, DataConfig, LossConfig, OptimConfig, TrainConfig
from genjax.cyclegan import translation
from genjax.cyclegan.nets import DOMAINS, Direction
from genjax.loading import load_translator

METHODS = ("source_only", "moments", "styles", "pseudo_labels", "translated", "self_labelled", "no_semantics", "oracle")
FIGURES = (*METHODS, "gap_translated", "gap_self_labelled", "flips_translated", "flips_no_semantics", "oracle_error")
ROUNDS = 2
"""Of labelling images of the target and learning from them."""
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
    num_steps: int = 1500
    """Steps of each CycleGAN."""
    classifier_steps: int = 800
    """Steps of each classifier."""
    semantic: float = 1.0
    """Weight of the semantic loss, from source to target."""


def main() -> dict[str, Any]:
    """Adapts as the command line says."""
    return adapt(tyro.cli(Adaptation, description=__doc__))


def adapt(options: Adaptation) -> dict[str, Any]:
    """Trains and judges all, prints a row for each seed and direction, and returns their means."""
    if options.semantic <= 0:
        raise ValueError(
            f"--semantic must be positive, got {options.semantic}: no_semantics is the translation without"
        )
    first, second = _adaptation.load(options.first), _adaptation.load(options.second)
    if first.name == second.name:
        raise ValueError(f"--first and --second are both called {first.name}: give two sets of images, or rename one")
    classes = [sorted({int(label) for (array,) in domain.labels for label in array}) for domain in (first, second)]
    if classes[0] != classes[1]:
        raise ValueError(
            f"{options.first} has the classes {classes[0]}, {options.second} has {classes[1]}: they differ"
        )
    workdir = files.resolve(options.workdir)
    _write_images(workdir, options, (first, second))
    rows = []
    for seed in options.seeds:
        for direction in DOMAINS:
            rows.append(_adapt(workdir, options, (first, second), direction, seed))
            logging.info("%s", rows[-1])
    files.write_json(workdir / "results.json", rows)
    print(f"{_table(rows)}\n")
    return _means(rows)


def _write_images(workdir: epath.Path, options: Adaptation, domains: tuple[Domain, Domain]) -> None:
    """images.npz, and in adaptation.json all that classifiers and CycleGANs depend on but the seed.

    ValueError if the directory was begun with something else.
    """
    buffer = io.BytesIO()
    arrays: Any = {
        f"x_{split}{letter}": array
        for letter, domain in zip("AB", domains, strict=True)
        for split, (array,) in domain.images._asdict().items()
    }
    np.savez(buffer, **arrays)
    fields = ("first", "second", "num_steps", "classifier_steps", "semantic")
    labels = hashlib.sha256(b"".join(array.tobytes() for domain in domains for (array,) in domain.labels))
    record = {name: getattr(options, name) for name in fields}
    record |= {"images": hashlib.sha256(buffer.getvalue()).hexdigest(), "labels": labels.hexdigest()}
    path = workdir / "adaptation.json"
    saved = files.read_json(path) if path.exists() else {}
    if saved and saved != record:
        changed = (f"{name} {saved.get(name)} -> {value}" for name, value in record.items() if saved.get(name) != value)
        raise ValueError(f"{workdir} was begun with others: {', '.join(changed)}. Choose another --workdir")
    if not saved and workdir.exists() and any(workdir.iterdir()):
        raise ValueError(f"{workdir} is not empty and holds no adaptation.json: choose another --workdir")
    files.write_json(path, record)
    files.write_atomically(workdir / "images.npz", buffer.getvalue())


def _adapt(
    workdir: epath.Path, options: Adaptation, domains: tuple[Domain, Domain], direction: Direction, seed: int
) -> dict[str, Any]:
    """How well each method does on the target's test images, and what translation did to the labels."""
    source, target = (domains[i] for i in DOMAINS[direction])
    (x,), _, (x_test,) = source.images
    (y,), _, (y_test,) = source.labels
    (unlabelled,), _, (judged,) = target.images
    (target_labels,), _, (truth,) = target.labels
    name = f"{source.name}-to-{target.name}"

    def fit(what: str, images: np.ndarray, labels: np.ndarray) -> Classifier:
        path = workdir / "classifiers" / f"{what}-seed-{seed}.npz"
        if not path.exists():
            steps, num_classes = options.classifier_steps, 1 + int(y.max())
            images, labels = _adaptation.distort(images, COPIES), np.tile(labels, COPIES)
            fitted = classifier.fit(images, labels, num_classes, seed, steps, batch_size=64, learning_rate=2e-3)
            classifier.save(path, fitted)
        return classifier.load(path)[0]

    def label_oneself(what: str, first: Classifier, images: np.ndarray, other: list[np.ndarray]) -> Classifier:
        """Learns from labelled images and from those of the target that it is sure of, together with `other`s."""
        current = first
        for turn in range(1, ROUNDS + 1):
            opinions = [classifier.probabilities(current, unlabelled), *other]
            sure, guessed = _adaptation.pseudo_labels(np.mean(opinions, axis=0))
            known_and_sure = np.concatenate([images, unlabelled[sure]]), np.concatenate([y, guessed])
            current = fit(f"{what}-{turn}", *known_and_sure)
        return current

    source_only, oracle = fit(source.name, x, y), fit(target.name, unlabelled, target_labels)
    styles = fit(f"{source.name}-styles", _adaptation.restyle(x, STYLES), np.tile(y, STYLES))
    found = {
        "source_only": source_only,
        "moments": fit(f"{name}-moments", _adaptation.match_moments(x, x, unlabelled), y),
        "styles": styles,
        "pseudo_labels": label_oneself(f"{name}-pseudo", source_only, x, []),
    }
    flips = {}
    for method in ("translated", "no_semantics"):
        if method == "no_semantics" and seed not in options.seeds_without_semantics:
            continue
        semantic = f"{source.name}-styles-seed-{seed}" if method == "translated" else ""
        run = _cyclegan(workdir, options, f"{name}-{method}-seed-{seed}", direction, seed, semantic)
        there = functools.partial(_translate, run, direction)
        translated, translated_test = there(x), there(x_test)
        found[method] = fit(f"{name}-{method}", translated, y)
        flips[f"flips_{method}"] = 1 - classifier.accuracy(oracle, translated_test, y_test)
        _draw(workdir / f"{name}-{method}-seed-{seed}.png", x_test, translated_test, judged)
        if method == "translated":
            back = _translate(run, "b2a" if direction == "a2b" else "a2b", unlabelled)
            opinion = classifier.probabilities(styles, back)
            found["self_labelled"] = label_oneself(f"{name}-self", found[method], translated, [opinion])
    found["oracle"] = oracle
    accuracies = {method: classifier.accuracy(one, judged, truth) for method, one in found.items()}
    gaps = {
        f"gap_{method}": _adaptation.gap_closed(accuracies["source_only"], accuracies[method], accuracies["oracle"])
        for method in ("translated", "self_labelled")
    }
    return {
        "direction": name, "seed": seed, "source_test": len(x_test), "target_test": len(judged), **accuracies,
        **gaps, **flips, "oracle_error": 1 - accuracies["oracle"],
    }  # fmt: skip


def _cyclegan(
    workdir: epath.Path, options: Adaptation, name: str, direction: Direction, seed: int, known: str
) -> CycleGanRun:
    """Trains the CycleGAN of one direction, or finds it trained; `known` is the source's classifier, if it has one."""
    half = options.num_steps // 2
    loss = LossConfig(adversarial_a2b=1.0, adversarial_b2a=1.0, cycle_a=10.0, cycle_b=10.0)
    if known and direction == "a2b":
        loss = dataclasses.replace(loss, semantic_a2b=options.semantic)
    elif known:
        loss = dataclasses.replace(loss, semantic_b2a=options.semantic)
    config = CycleGanRun(
        workdir=str(workdir / name),
        seed=seed,
        data=DataConfig(
            source=f"npz:{workdir / 'images.npz'}", image_size=(SIZE, SIZE), channels=(1, 1), batch_size=16
        ),
        optim=OptimConfig(learning_rate=4e-4, b1=0.5, schedule="linear", decay_steps=half, ema_decay=0.99),
        train=TrainConfig(
            num_steps=options.num_steps, log_every=100, eval_every=half, checkpoint_every=half, num_pictures=24
        ),
        cyclegan=CycleGanConfig(width=16, blocks=2, discriminator_width=16, discriminator_layers=1),
        loss=loss,
        classifier=str(workdir / "classifiers" / f"{known}.npz") if known else "",
    )
    task, config = cyclegan.with_classifier(config)
    _start.train(task, config)
    return config


def _translate(config: CycleGanRun, direction: Direction, pictures: np.ndarray) -> np.ndarray:
    """uint8 images [n, h, w, c] of the source in the target's domain, by the averaged generator."""
    translator = load_translator(config.workdir)

    @jax.jit
    def translate(params: Any, chunk: Array) -> Array:
        with jax.default_matmul_precision(layers.matmul_precision(config.precision)):
            return translation.translate(config, params, direction, image_ops.to_unit(chunk))

    size = 256  # the translator itself takes one at a time, as for photographs
    padded = np.resize(pictures, (-(-len(pictures) // size) * size, *pictures.shape[1:]))
    parts = [translate(translator.params, padded[i : i + size]) for i in range(0, len(padded), size)]
    return image_ops.to_uint8(np.concatenate(jax.device_get(parts)))[: len(pictures)]


def _draw(path: epath.Path, source: np.ndarray, translated: np.ndarray, target: np.ndarray) -> None:
    """A picture: source images, below them their translations, and images of the target beneath."""
    rows = np.linspace(0, len(source) - 1, PICTURES).astype(int)
    others = np.linspace(0, len(target) - 1, PICTURES).astype(int)
    grid = image_ops.grid(np.concatenate([source[rows], translated[rows], target[others]]), PICTURES)
    image_ops.write_png(path, grid.repeat(3, axis=0).repeat(3, axis=1))


def _table(rows: list[dict[str, Any]]) -> str:
    """Every seed and the mean of each direction, in percent."""
    lines = [["direction", "seed", *FIGURES], ["---"] * (2 + len(FIGURES))]
    for direction in dict.fromkeys(row["direction"] for row in rows):
        of_direction = [row for row in rows if row["direction"] == direction]
        for name, part in (*((str(row["seed"]), [row]) for row in of_direction), ("mean", of_direction)):
            means = (_mean(part, column) for column in FIGURES)
            lines.append([direction, name, *("" if mean is None else f"{100 * mean:.1f}" for mean in means)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _means(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The means over the seeds of each direction, with the standard error that the number of test images leaves."""
    flat: dict[str, Any] = {"seeds": len({row["seed"] for row in rows})}
    for direction in dict.fromkeys(row["direction"] for row in rows):
        of_direction = [row for row in rows if row["direction"] == direction]
        for figure in FIGURES:
            mean = _mean(of_direction, figure)
            flat |= {} if mean is None else {f"{direction}.{figure}": mean}
        adapted, num = flat[f"{direction}.translated"], of_direction[0]["target_test"]
        flat[f"{direction}.translated_standard_error"] = _adaptation.standard_error(adapted, num)
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in flat.items()}


def _mean(rows: list[dict[str, Any]], figure: str) -> float | None:
    """Over those seeds that have it."""
    values = [row[figure] for row in rows if row.get(figure) is not None]
    return float(np.mean(values)) if values else None


if __name__ == "__main__":
    _start.run(main)
