"""Scores that choose among adapted classifiers without a label of the target; in each, higher is better.

Probabilities are [n, classes], features [n, d], losses and weights [n].
"""

from collections.abc import Sequence
from types import ModuleType

import jax
import numpy as np
from scipy import special, stats

from genjax.data import image_arrays
from genjax.data.imports import optional_module
from genjax.data.splits import Splits
from genjax.evaluation import classifier
from genjax.evaluation.classifier import Classifier
from studies import markdown
from studies.adaptation.methods import Domain, Row

TEMPERATURE = 0.05
"""Temperature of soft neighbourhoods in Saito et al. 2021."""

SCORES = {
    "source": "log-likelihood of source labels", "entropy": "entropy of predictions",
    "density": "soft neighbourhood density", "weighted": "importance-weighted validation",
    "deep_embedded": "deep embedded validation", "reverse": "reverse validation",
}  # fmt: skip
"""Scores by name, in words. The first one ignores the target, and is what the others should beat."""


def negative_entropy(probabilities: np.ndarray) -> float:
    """Computes minus the mean entropy of predictions for target images, in nats (Morerio et al. 2018)."""
    return -float(np.mean(np.sum(special.entr(probabilities.astype(np.float64)), axis=1)))


def soft_neighbourhood_density(probabilities: np.ndarray, temperature: float = TEMPERATURE) -> float:
    """Computes the mean entropy, in nats, of each target image's neighbourhood among the others (Saito et al. 2021).

    Neighbours are weighted by softmax(cosine of predictions / temperature): log(m - 1) if predictions form clusters of
    m images. Raises ValueError for fewer than 2 images.
    """
    if len(probabilities) < 2:
        raise ValueError(f"a neighbourhood needs at least 2 images, got {len(probabilities)}")
    units = probabilities / np.linalg.norm(probabilities.astype(np.float64), axis=1, keepdims=True)
    similarity = units @ units.T / temperature
    np.fill_diagonal(similarity, -np.inf)
    return float(np.mean(np.sum(special.entr(special.softmax(similarity, axis=1)), axis=1)))


def importance_weights(source: np.ndarray, target: np.ndarray, validation: np.ndarray) -> np.ndarray:
    """Estimates p_target / p_source of the features of `validation`, by a logistic regression of the domain.

    It learns from features of both domains' training images, and divides the odds by those of their numbers (Bickel et
    al. 2007; You et al. 2019).
    """
    domains = np.concatenate([np.zeros(len(source)), np.ones(len(target))])
    fitted = linear_models().LogisticRegression(max_iter=10_000).fit(np.concatenate([source, target]), domains)
    weights: np.ndarray = np.exp(fitted.decision_function(validation)) * len(source) / len(target)
    return weights


def importance_weighted(losses: np.ndarray, weights: np.ndarray) -> float:
    """Computes minus the mean of weighted losses of labelled source images (Sugiyama et al. 2007)."""
    return -float(np.mean(weights * losses))


def deep_embedded(losses: np.ndarray, weights: np.ndarray) -> float:
    """Computes the same with the weights, whose mean is 1, as a control variate (You et al. 2019)."""
    weighted = weights * losses
    variance = np.var(weights, ddof=1)
    eta = -np.cov(weighted, weights)[0, 1] / variance if variance > 0 else 0.0
    return -float(np.mean(weighted) + eta * (np.mean(weights) - 1))


def measure(found: Classifier, source: Domain, target: Splits) -> dict[str, float]:
    """Computes all scores but reverse, which needs a training, from a source and the images of a target.

    They see training and validation images of both, and the labels of the source's validation images. Raises
    ValueError if scikit-learn is missing.
    """
    (x,), (x_validation,), _ = source.images
    (target_x,), (target_validation,), _ = target
    losses = _losses(classifier.probabilities(found, x_validation), source.labels.validation[0])
    weights = importance_weights(*(_features(found, images) for images in (x, target_x, x_validation)))
    predicted = classifier.probabilities(found, target_validation)
    return {
        "source": -float(np.mean(losses)),
        "entropy": negative_entropy(predicted),
        "density": soft_neighbourhood_density(predicted),
        "weighted": importance_weighted(losses, weights),
        "deep_embedded": deep_embedded(losses, weights),
    }


def linear_models() -> ModuleType:
    """Imports scikit-learn's linear models; raises ValueError if it is missing."""
    return optional_module("sklearn.linear_model", "choosing without target labels", "'genjax-images[demo]'")


def table(rows: Sequence[Row]) -> str:
    """Formats, for each direction and score, its rank correlation with the accuracy, and what it chooses.

    A setting is a method and a seed. Rows without scores are left out.
    """
    lines = []
    for direction in dict.fromkeys(row["direction"] for row in rows):
        settings = [
            (f"{method} {row['seed']}", row[method], of)
            for row in rows if row["direction"] == direction
            for method, of in row.get("scores", {}).items()
        ]  # fmt: skip
        for name, words in SCORES.items():
            if settings:
                lines.append([direction, words, *_ranked([(who, right, of[name]) for who, right, of in settings])])
    header = ["direction", "score", "settings", "rank correlation", "its choice", "accuracy", "best", "median"]
    return markdown.table(header, lines)


def _ranked(settings: Sequence[tuple[str, float, float]]) -> list[str]:
    """Formats what a score says of settings: names, accuracies, scores."""
    accuracies, scores = (np.array([setting[i] for setting in settings]) for i in (1, 2))
    alike = min(np.ptp(accuracies), np.ptp(scores)) == 0
    rank = "" if alike else f"{stats.spearmanr(scores, accuracies).statistic:.2f}"
    chosen, right, _ = settings[int(scores.argmax())]
    shares = (right, accuracies.max(), np.median(accuracies))
    return [str(len(settings)), rank, chosen, *(f"{100 * share:.1f}" for share in shares)]


def _losses(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns -log p(label) in nats, which float32 bounds at about 100."""
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return -np.log(np.maximum(chosen, np.finfo(np.float32).tiny))


def _features(found: Classifier, images: np.ndarray) -> np.ndarray:
    """Returns the last hidden layer [n, 128] of uint8 images."""
    return np.asarray(_apply(found.params, image_arrays.unit_floats(images)))


_apply = jax.jit(classifier.features)
