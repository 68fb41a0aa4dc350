import jax
import numpy as np
import pytest

from genjax import keys, parallel
from genjax.evaluation import classifier, features


def mesh_of(num):
    return parallel.make_mesh(jax.devices()[:num])


def noise(num, height=8, width=8, channels=1):
    return np.random.default_rng(0).integers(0, 256, (num, height, width, channels), np.uint8)


@pytest.fixture(scope="module")
def digit_classifier(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("classifier") / "c.npz")
    shapes = jax.eval_shape(lambda: classifier.init((8, 8, 3), 2, keys.root_key(0)))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32) / 8, shapes)
    classifier.save(path, classifier.Classifier((8, 8, 3), params))
    return path


def test_pixels_are_flat_floats_of_every_depth():
    images = noise(5, 3, 4, 2)
    expected = images.reshape(5, -1).astype(np.float32) / 255
    for same in (images, images.astype(np.uint16) * 257, images.astype(np.float32) / 255):
        found = features.extract(features.load("pixels"), same, mesh_of(2))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("num_devices", [1, 2, 8])
def test_extract_gives_equal_bits_anywhere(digit_classifier, num_devices):
    network, images = features.load(f"classifier:{digit_classifier}"), noise(40, channels=3)
    whole = features.extract(network, images, mesh_of(1))
    extract = features.compile_extract(network, mesh_of(num_devices))
    parts = [extract(images[start:stop]) for start, stop in [(0, 1), (1, 18), (18, 40)]]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_classifier_features_are_its_hidden_layer(digit_classifier):
    network, images = features.load(f"classifier:{digit_classifier}"), noise(3)
    grey = np.repeat(images, 3, axis=-1).astype(np.float32) / 255
    expected = classifier.features(classifier.load(digit_classifier)[0].params, grey)
    np.testing.assert_allclose(features.extract(network, images, mesh_of(1)), expected, atol=1e-5)
    assert network.sha256 == classifier.load(digit_classifier)[1]


def test_load_refuses_unknown_names():
    for name in ("vgg19", "alexnet:x", "inception", "inception:", "classifier:", "pixels:3", ""):
        with pytest.raises(ValueError, match="there are no features .*: choose from pixels, alexnet"):
            features.load(name)


@pytest.mark.parametrize(
    "images, message",
    [
        (noise(2, channels=2), "see images of 3 channel.* these have 2"),
        (noise(2, 8, 9, 3), "takes images of 8x8 pixels, and these have 8x9"),
        (noise(0), "there are no images"),
        (noise(2).astype(np.int32), "got int32"),
        (np.full((1, 8, 8, 3), np.nan), "expected floats in .* got nan"),
        (np.full((1, 8, 8, 3), 1.5), "expected floats in .* got 1.5"),
        (noise(2)[0], "expected images"),
    ],
)
def test_extract_refuses_what_the_network_cannot_see(digit_classifier, images, message):
    with pytest.raises(ValueError, match=message):
        features.extract(features.load(f"classifier:{digit_classifier}"), images, mesh_of(1))
