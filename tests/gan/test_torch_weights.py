"""Names and layouts of the original's generators against our parameter trees."""

import jax
import numpy as np
import pytest

from genjax.gan import generators, params, torch_weights
from genjax.gan.torch_weights import GeneratorSizes

SIZES = {
    "resnet": (GeneratorSizes("resnet", 4, 3, 3, 1), generators.resnet(1, 4, 3)),
    "unet": (GeneratorSizes("unet", 2, 6, 3, 1), generators.unet(1, 2, 6)),
}


def state_dict(sizes):
    rng, tensors = np.random.default_rng(0), {}
    for layer in torch_weights.layers(sizes):
        tensors[f"{layer.name}.weight"] = rng.normal(size=layer.weight_shape).astype(np.float32)
        tensors[f"{layer.name}.bias"] = rng.normal(size=layer.out_channels).astype(np.float32)
    return tensors


@pytest.mark.parametrize("name", SIZES)
def test_to_params_gives_paths_and_shapes_of_networks(name):
    sizes, generator = SIZES[name]
    expected = params.shapes(generator, (64, 64, 3))
    found = torch_weights.to_params(sizes, state_dict(sizes))
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    assert jax.tree.map(np.shape, found) == jax.tree.map(lambda leaf: leaf.shape, expected)


@pytest.mark.parametrize("name", SIZES)
def test_to_tensors_is_inverse_of_to_params(name):
    sizes, _ = SIZES[name]
    tensors = state_dict(sizes)
    assert torch_weights.sizes_of(tensors) == sizes
    again = torch_weights.to_tensors(sizes, torch_weights.to_params(sizes, tensors))
    assert again.keys() == tensors.keys()
    for key, value in tensors.items():
        np.testing.assert_array_equal(again[key], value)
