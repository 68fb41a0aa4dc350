import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import keys
from genjax.evaluation import classifier
from genjax.train import fingerprint

SHAPE = (8, 8, 1)


def halves(num=60):
    """Noise with the left (0) or the right (1) half brighter, in no order."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, num)
    images = rng.integers(0, 100, (num, *SHAPE), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:, 4 * label : 4 * label + 4] += 80
    return images, labels


def fit(images, labels, seed=0, num_classes=2, learning_rate=3e-3):
    return classifier.fit(images, labels, num_classes, seed, 30, 16, learning_rate)


@pytest.fixture(scope="module")
def fitted():
    return fit(*halves())


@pytest.mark.slow
def test_fit_learns_the_classes(fitted):
    images, labels = halves(200)
    assert classifier.accuracy(fitted, images, labels) > 0.97
    assert classifier.accuracy(fitted, images, 1 - labels) < 0.03
    mirrored = images[:, :, ::-1]
    assert classifier.accuracy(fitted, mirrored, 1 - labels) > 0.97


def test_fit_depends_on_seed_alone(fitted):
    assert fingerprint.tree_digest(fit(*halves()).params) == fingerprint.tree_digest(fitted.params)
    first, other = (fit(*halves(), seed=seed, learning_rate=1e-9).params for seed in (0, 1))
    assert np.abs(first["conv_1"]["kernel"] - other["conv_1"]["kernel"]).max() > 0.01


def test_probabilities_are_softmax_of_linear_features(fitted, monkeypatch):
    images, _ = halves(7)
    features = classifier.features(fitted.params, jnp.asarray(images, float) / 255)
    logits = np.asarray(features) @ fitted.params["out"]["kernel"] + fitted.params["out"]["bias"]
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    monkeypatch.setattr(classifier, "CHUNK", 3)  # as many parts as that takes
    np.testing.assert_allclose(classifier.probabilities(fitted, images), expected, rtol=1e-4)
    assert features.shape == (7, 128) and float(jnp.min(features)) >= 0


def test_load_is_inverse_of_save_with_digest(fitted, tmp_path):
    sha = classifier.save(tmp_path / "new" / "c.npz", fitted)
    loaded, found = classifier.load(tmp_path / "new" / "c.npz")
    assert (found, loaded.image_shape, loaded.num_classes) == (sha, SHAPE, 2)
    assert fingerprint.tree_digest(loaded.params) == fingerprint.tree_digest(fitted.params)
    assert classifier.save(tmp_path / "again.npz", loaded) == sha
    changed = fitted._replace(params=jax.tree.map(lambda leaf: leaf + np.float32(1e-3), fitted.params))
    assert classifier.save(tmp_path / "other.npz", changed) != sha


def test_load_refuses_missing_and_other_files(fitted, tmp_path):
    path = tmp_path / "c.npz"
    with pytest.raises(FileNotFoundError, match=f"no such classifier: {path}"):
        classifier.load(path)
    classifier.save(path, fitted)
    whole = path.read_bytes()
    of_another_shape = fitted._replace(image_shape=(12, 12, 1))
    for damage in (lambda: path.write_bytes(whole[:-100]), lambda: np.savez(path, x_train=np.zeros(3)),
                   lambda: classifier.save(path, of_another_shape)):  # fmt: skip
        damage()
        with pytest.raises(ValueError, match=f"{path} holds no classifier"):
            classifier.load(path)


@pytest.mark.parametrize(("images", "labels", "message"), [
    (np.zeros((3, *SHAPE)), np.zeros(3, int), "expected uint8 or uint16 images"),
    (np.zeros((3, *SHAPE), np.uint8), np.zeros(2, int), r"an integer label for each of 3 images, got int64 \(2,\)"),
    (np.zeros((3, *SHAPE), np.uint8), np.zeros(3), "got float64"),
    (np.zeros((0, *SHAPE), np.uint8), np.zeros(0, int), "each of 0 images"),
    (np.zeros((3, *SHAPE), np.uint8), np.array([0, 1, 2]), "expected labels in 0..1, got 0 to 2"),
])  # fmt: skip
def test_fit_refuses_other_images_and_labels(images, labels, message):
    with pytest.raises(ValueError, match=message):
        fit(images, labels)


def test_init_gives_shapes_of_larger_images():
    shapes = jax.eval_shape(lambda: classifier.init((16, 12, 3), 10, keys.root_key(0)))
    assert shapes["hidden"]["kernel"].shape == (4 * 3 * 64, 128) and shapes["out"]["kernel"].shape == (128, 10)
