"""The Inception of FID against torch-fidelity's on random weights, and files of weights that are not its own."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import keys, torch_files
from genjax.evaluation import features, inception


def random_tensors():
    """Tensors by the names of the published file, scaled so that no layer vanishes or explodes."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: inception.Inception().init(keys.root_key(0), jnp.zeros((1, 299, 299, 3))))["params"]
    tensors = {"fc.weight": np.zeros((1008, 2048), np.float32), "fc.bias": np.zeros(1008, np.float32)}
    for name, leaves in shapes.items():
        height, width, inputs, outputs = leaves["kernel"].shape
        kernel = rng.normal(size=(outputs, inputs, height, width)) * (2 / (inputs * height * width)) ** 0.5
        tensors[f"{name}.conv.weight"] = kernel.astype(np.float32)
        for part, low, high in (("weight", 0.8, 1.2), ("bias", -0.2, 0.4), ("running_mean", -0.2, 0.2)):
            tensors[f"{name}.bn.{part}"] = rng.uniform(low, high, outputs).astype(np.float32)
        tensors[f"{name}.bn.running_var"] = rng.uniform(0.5, 1.5, outputs).astype(np.float32)
        tensors[f"{name}.bn.num_batches_tracked"] = np.zeros((), np.float32)
    return tensors


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file as that of torch-fidelity, and its tensors."""
    pytest.importorskip("torch", reason="PyTorch is needed: pip install -e '.[parity]'")
    path, tensors = str(tmp_path_factory.mktemp("inception") / "inception.pth"), random_tensors()
    torch_files.write(path, tensors)
    return path, tensors


@pytest.mark.slow
def test_features_equal_torch_fidelity_on_random_weights(weights, torch_fidelity):
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    images = np.random.default_rng(0).integers(0, 256, (2, 299, 299, 3), np.uint8)
    images[1, 100:200] //= 4  # an image with a structure, too
    network = FeatureExtractorInceptionV3("random", ["2048"], weights[0], "float64")  # loads all names, or fails
    expected = network(torch.tensor(images).permute(0, 3, 1, 2))[0].numpy()
    assert expected.shape == (2, 2048) and expected.std() > 0.1 and abs(expected[0] - expected[1]).mean() > 0.05
    params, _ = inception.load(weights[0])
    found = jax.jit(inception.features)(params, images.astype(np.float32) / 255)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * expected.std())


def test_load_gives_inception_features_their_hash_and_size(weights):
    network = features.load(f"inception:{weights[0]}")
    with open(weights[0], "rb") as file:
        assert network.sha256 == hashlib.sha256(file.read()).hexdigest()
    assert (network.size, network.channels, network.resize) == ((299, 299), 3, "bicubic")


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"fc.weight": np.zeros((1000, 2048), np.float32)},
            r"fc.weight has \[1000, 2048\] and should",
        ),
        ({"Mixed_6b.branch7x7_2.bn.running_var": None}, "Mixed_6b.branch7x7_2.bn.running_var is missing"),
        (
            {"Conv2d_1a_3x3.conv.weight": np.full((32, 3, 3, 3), np.nan, np.float32)},
            "Conv2d_1a_3x3.conv.weight is not finite",
        ),
    ],
)
def test_load_refuses_other_networks(weights, tmp_path, change, message):
    path = str(tmp_path / "other.pth")
    torch_files.write(path, {name: x for name, x in (weights[1] | change).items() if x is not None})
    with pytest.raises(ValueError, match=f"other.pth is not the Inception of FID: {message}"):
        features.load(f"inception:{path}")


def test_load_refuses_missing_and_damaged_files(tmp_path):
    pytest.importorskip("torch", reason="PyTorch is needed: pip install -e '.[parity]'")
    with pytest.raises(FileNotFoundError):
        features.load(f"inception:{tmp_path / 'none.pth'}")
    (tmp_path / "damaged.pth").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="damaged.pth is no state dict that can be read"):
        features.load(f"inception:{tmp_path / 'damaged.pth'}")
