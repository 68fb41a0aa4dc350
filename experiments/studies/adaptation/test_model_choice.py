"""Scores without target labels: closed forms, and skada's own."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from studies.adaptation import model_choice

RNG = np.random.default_rng(0)


def clusters(num_clusters, size):
    """Predictions that are sure, of `size` images for each class."""
    return np.repeat(np.eye(num_clusters), size, axis=0)


def test_negative_entropy_is_that_of_known_distributions():
    half = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    assert model_choice.negative_entropy(half) == pytest.approx(-np.log(2) / 2)
    assert model_choice.negative_entropy(np.full((3, 10), 0.1)) == pytest.approx(-np.log(10))
    assert model_choice.negative_entropy(clusters(4, 2)) == 0


def test_density_is_the_log_of_the_neighbours_in_a_cluster():
    """Images of the same cluster have cosine 1, those of the others 0. An image is no neighbour of its own."""
    near, far, ratio = 4, 15, np.exp(-1 / 0.05)
    total = near + far * ratio
    expected = near / total * np.log(total) + far * ratio / total * np.log(total / ratio)
    assert model_choice.soft_neighbourhood_density(clusters(4, 5)) == pytest.approx(expected)
    assert expected == pytest.approx(np.log(4), abs=1e-6)
    assert model_choice.soft_neighbourhood_density(np.full((7, 3), 1 / 3)) == pytest.approx(np.log(6))
    with pytest.raises(ValueError, match="a neighbourhood needs at least 2 images, got 1"):
        model_choice.soft_neighbourhood_density(np.eye(1))


def test_importance_weighted_is_the_risk_of_the_target():
    """With the true ratio of four kinds of images, the mean over the source is that over the target."""
    source, target, losses = np.array([10, 20, 30, 40]), np.array([35, 5, 40, 20]), np.array([0.5, 2.0, 0.1, 1.0])
    kinds = np.repeat(np.arange(4), source)
    expected = -np.sum(target / 100 * losses)
    assert model_choice.importance_weighted(losses[kinds], (target / source)[kinds]) == pytest.approx(expected)


def test_deep_embedded_has_no_variance_where_losses_are_alike():
    """Whatever the weights; and it is the plain mean where weights say nothing."""
    weights, losses = RNG.lognormal(size=50), RNG.random(50)
    assert model_choice.deep_embedded(np.full(50, 0.7), weights) == pytest.approx(-0.7)
    assert model_choice.importance_weighted(np.full(50, 0.7), weights) != pytest.approx(-0.7)
    assert model_choice.deep_embedded(losses, np.ones(50)) == pytest.approx(-losses.mean())


def test_importance_weights_are_a_ratio_of_normals():
    """N((1, 0), 1) over N(0, 1), by different numbers of images: the logarithm of the ratio is x - 1/2."""
    source, target = RNG.normal(size=(8000, 2)), RNG.normal(size=(4000, 2)) + [1, 0]
    x = RNG.normal(size=(200, 2)).clip(-2, 2)
    found = model_choice.importance_weights(source, target, x)
    np.testing.assert_allclose(np.log(found), x[:, 0] - 0.5, atol=0.15)


@pytest.fixture(scope="module")
def shifted():
    """A classifier of three classes that learned 120 images of the source domain, and arrays to score it on.

    They are the images of the source and 60 of the target, their labels and domains, as skada takes them.
    """
    pytest.importorskip("skada", reason="skada is needed: pip install -e '.[parity]'")

    class Tolerant(Pipeline):
        """A pipeline that ignores skada's additional arguments."""

        def predict_proba(self, x, **ignored):
            return super().predict_proba(x)

        def predict_log_proba(self, x, **ignored):
            return super().predict_log_proba(x)

    y, of_source = np.arange(180) % 3, np.arange(180) < 120
    x = 1.5 * np.eye(3)[y] + RNG.normal(size=(180, 3)) + np.where(of_source, 0, 0.8)[:, None]
    fitted = Tolerant([("scale", StandardScaler()), ("classify", LogisticRegression())]).fit(x[:120], y[:120])
    return fitted, x, y, np.where(of_source, 1, -2)


def test_entropy_and_density_equal_skada(shifted):
    from skada import metrics

    predicted = shifted[0].predict_proba(shifted[1][120:])
    # Its entropy is a mean over classes too; in its density an image is a neighbour of its own, of cosine -1.
    found = 3 * metrics.PredictionEntropyScorer()._score(None, *shifted)
    assert model_choice.negative_entropy(predicted) == pytest.approx(found, rel=1e-5)
    found = metrics.SoftNeighborhoodDensity()._score(None, *shifted)
    assert model_choice.soft_neighbourhood_density(predicted) == pytest.approx(found, rel=1e-6)


def test_deep_embedded_equals_skada(shifted):
    from skada import metrics

    def loss(y, probabilities):
        """In a column, as its own losses [n] would meet its weights [n, 1] as a matrix."""
        return -np.log(probabilities[np.arange(len(y)), y])[:, None]

    judge = LogisticRegression(max_iter=10_000)
    found = metrics.DeepEmbeddedValidation(judge, loss, random_state=3)._score(None, *shifted)
    fitted, x, y, _ = shifted
    split = train_test_split(np.arange(120), test_size=0.33, random_state=np.random.RandomState(3))
    train, target, validation = (fitted[:-1].transform(x[rows]) for rows in (split[0], slice(120, None), split[1]))
    weights = model_choice.importance_weights(train, target, validation)
    losses = model_choice._losses(fitted.predict_proba(x[split[1]]), y[split[1]])
    assert np.ptp(weights) > 1
    assert model_choice.deep_embedded(losses, weights) == pytest.approx(found, rel=1e-6)
