import numpy as np
import pytest

from genjax.evaluation.memorisation import authenticity, nearest_training, train_test_gap


def normal(num, dims, seed):
    return np.random.default_rng(seed).normal(size=(num, dims))


TRAINING, TEST, HONEST = normal(1500, 16, 0), normal(200, 16, 1), normal(200, 16, 2)


def with_copies(share):
    """Honest images, a share of them replaced by training images with a little noise."""
    num = int(share * len(HONEST))
    return np.concatenate([TRAINING[:num] + 0.05 * normal(num, 16, 3), HONEST[num:]])


def test_nearest_training_finds_neighbours_in_order():
    found = nearest_training(HONEST, TRAINING, 4)
    distances = np.linalg.norm(HONEST[:, None] - TRAINING, axis=-1)
    np.testing.assert_array_equal(found.rows, np.argsort(distances, axis=1)[:, :4])
    np.testing.assert_allclose(found.distances, np.sort(distances, axis=1)[:, :4], rtol=1e-9)
    copies = nearest_training(TRAINING[[7, 3]], TRAINING)
    assert copies.rows.tolist() == [[7], [3]] and copies.distances.tolist() == [[0], [0]]
    with pytest.raises(ValueError, match="at least 4 training images are needed, got 3"):
        nearest_training(HONEST, TRAINING[:3], 4)


def test_authenticity_equals_its_definition():
    found = authenticity(with_copies(0.3), TRAINING)
    authentic = []
    for image in with_copies(0.3):
        distances = np.linalg.norm(image - TRAINING, axis=1)
        row = distances.argmin()
        authentic.append(distances[row] > np.sort(np.linalg.norm(TRAINING[row] - TRAINING, axis=1))[1])
    assert found.value == np.mean(authentic) and found.low < found.value < found.high


def test_authenticity_and_gap_catch_a_copier():
    shares = (0, 0.25, 0.5, 1)
    authentic = [authenticity(with_copies(share), TRAINING).value for share in shares]
    gaps = [train_test_gap(with_copies(share), TRAINING, TEST) for share in shares]
    assert np.all(np.diff(authentic) < 0) and authentic[0] > 0.6 and authentic[-1] == 0
    assert np.all(np.diff([gap.value for gap in gaps]) > 0) and gaps[-1].value == 1
    assert gaps[0].low < 0 < gaps[0].high and gaps[1].low > 0
    exact = TRAINING[:200]
    assert authenticity(exact, TRAINING).value == 0 and train_test_gap(exact, TRAINING, TEST).value == 1


def test_train_test_gap_of_honest_models_covers_zero():
    gaps = []
    for seed in range(40):
        training, test, generated = np.split(normal(600, 8, seed), [400, 500])
        gaps.append(train_test_gap(generated, training, test))
    assert abs(np.mean([gap.value for gap in gaps])) < 0.05
    assert np.mean([gap.low <= 0 <= gap.high for gap in gaps]) >= 0.9


def test_train_test_gap_counts_pairs():
    generated, training, test = np.array([[0.0], [2.0], [9.0]]), np.array([[0.0], [5.0]]), np.array([[1.0], [8.0]])
    closeness = [0, 2 / 3, 4 / 5], [1 / 8, 3 / 10]  # d(training) / (d(training) + d(other test image))
    expected = np.mean([np.sign(t - g) for g in closeness[0] for t in closeness[1]])
    assert train_test_gap(generated, training, test).value == pytest.approx(expected)
    same = np.zeros((4, 2))
    assert train_test_gap(same, same, same) == (0, 0, 0)
