"""Loading of the classifiers of the semantic losses, which a configuration names and training never changes."""

import dataclasses

from genjax.cyclegan.config import CycleGanRun
from genjax.evaluation import classifier
from genjax.optim import Params


def load(config: CycleGanRun) -> tuple[CycleGanRun, dict[str, Params]]:
    """Loads the parameters of the classifiers "a" and "b"; returns them after `config` with the SHA-256 of their files.

    Without semantic losses there are none. Raises FileNotFoundError or ValueError if a file holds no classifier,
    another one than the SHA-256 says, or one for images of another shape, and ValueError if the two have other classes.
    """
    if not config.classifier_a:
        return config, {}
    shape_a, shape_b = config.data.image_shapes
    a, sha256_a = _load("a", config.classifier_a, config.classifier_a_sha256, shape_a)
    b, sha256_b = _load("b", config.classifier_b, config.classifier_b_sha256, shape_b)
    if a.num_classes != b.num_classes:
        raise ValueError(
            f"{config.classifier_a} has {a.num_classes} classes, {config.classifier_b} {b.num_classes}: give "
            "classifiers of the same classes"
        )
    # Recorded in config.json, so that a resumed run gets the same files.
    known = dataclasses.replace(config, classifier_a_sha256=sha256_a, classifier_b_sha256=sha256_b)
    return known, {"a": a.params, "b": b.params}


def _load(domain: str, path: str, expected: str, shape: tuple[int, ...]) -> tuple[classifier.Classifier, str]:
    """Loads the classifier of a domain with images of `shape`; its SHA-256 must be `expected` unless that is empty."""
    loaded, sha256 = classifier.load(path)
    if expected not in ("", sha256):
        raise ValueError(
            f"{path} is not the classifier of this run: its SHA-256 is {sha256}, not {expected}. Restore it, or give "
            f"no --classifier-{domain}-sha256 and another --workdir"
        )
    if loaded.image_shape != shape:
        raise ValueError(
            f"{path} is for images of {loaded.image_shape} (height, width, channels), and those of {domain.upper()} "
            f"have {shape}: train another, or change --data.image-size or --data.channels"
        )
    return loaded, sha256
