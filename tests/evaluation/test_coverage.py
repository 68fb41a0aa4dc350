import numpy as np
import pytest

from genjax.evaluation import neighbours
from genjax.evaluation.coverage import prdc


def normal(num, dims, seed, mean=0.0, scale=1.0):
    return mean + scale * np.random.default_rng(seed).normal(size=(num, dims))


def values(generated, reference):
    return {name: found.value for name, found in prdc(generated, reference).items()}


def brute_force(generated, reference):
    """As the papers define them, one image at a time."""
    distance = lambda x, others: np.array([np.linalg.norm(x - other) for other in others])  # noqa: E731
    radii = lambda points, k: [np.sort(distance(x, points))[k] for x in points]  # noqa: E731
    of_generated = np.array([distance(x, reference) for x in generated])
    real_3, real_5, own_3 = radii(reference, 3), radii(reference, 5), radii(generated, 3)
    return {
        "precision": np.mean([any(row <= real_3) for row in of_generated]),
        "recall": np.mean([any(column <= own_3) for column in of_generated.T]),
        "density": np.mean([sum(row <= real_5) / 5 for row in of_generated]),
        "coverage": np.mean([column.min() <= radius for column, radius in zip(of_generated.T, real_5, strict=True)]),
    }


@pytest.mark.parametrize("block", [neighbours.BLOCK, 200])
def test_prdc_equals_brute_force(block, monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK", block)
    generated, reference = normal(70, 3, 0, mean=0.7, scale=0.8), normal(90, 3, 1)
    found = values(generated, reference)
    assert found == pytest.approx(brute_force(generated, reference))
    assert len(set(found.values())) == 4 and 0.2 < min(found.values()) and max(found.values()) < 1.5
    assert values(generated + 1e4, reference + 1e4) == pytest.approx(found)


def test_prdc_of_copies_and_of_far_images():
    reference = normal(60, 4, 0)
    assert values(reference[::-1], reference) == {"precision": 1, "recall": 1, "density": 1.2, "coverage": 1}
    assert set(values(reference + 1000, reference).values()) == {0}
    one = np.tile(reference[:1], (60, 1))  # a model that makes one image
    found = values(one, reference)
    assert found["precision"] == 1 and found["recall"] == 1 / 60 and found["coverage"] < 0.3


def test_prdc_falls_with_noise():
    reference, clean = normal(400, 8, 0), normal(400, 8, 1)
    found = [values(clean + normal(400, 8, 2, scale=scale), reference) for scale in (0, 0.5, 1, 2)]
    for name in ("precision", "density", "coverage"):
        assert np.all(np.diff([each[name] for each in found]) < 0), name
    dropped = [values(clean[np.abs(clean[:, 0]) < most], reference[:300]) for most in (9, 1, 0.5, 0.2)]
    assert np.all(np.diff([each["recall"] for each in dropped]) < 0)


def test_prdc_intervals_hold_their_values():
    found = prdc(normal(200, 6, 0), normal(200, 6, 1))
    for interval in found.values():
        assert interval.low < interval.value < interval.high < interval.low + 0.5
    far = prdc(normal(100, 6, 0, mean=50), normal(100, 6, 1))["precision"]
    assert far.low == 0 and far.high == pytest.approx(0.037, abs=1e-3)  # Wilson: none of 100


def test_prdc_refuses_too_few_images():
    with pytest.raises(
        ValueError, match="need at least 6 images of each set, got 5 generated .*: give more images, or other metrics"
    ):
        prdc(normal(5, 2, 0), normal(9, 2, 1))
    assert prdc(normal(6, 2, 0), normal(6, 2, 0))["coverage"].value == 1
