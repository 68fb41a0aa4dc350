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


def test_unwrapped_finds_the_generator_under_any_prefix():
    for name in SIZES:
        tensors = state_dict(SIZES[name][0])
        for prefix in ("", "module.", "_orig_mod.", "module._orig_mod.", "state_dict.netG_A.", "model."):
            optimiser = {"optimizer.exp_avg": np.zeros(3)} if prefix else {}
            wrapped = {prefix + key: value for key, value in tensors.items()} | optimiser
            assert torch_weights.unwrapped(wrapped).keys() == tensors.keys(), (name, prefix)


def test_unwrapped_takes_the_named_one_of_several():
    sizes, _ = SIZES["resnet"]
    a, b = state_dict(sizes), {key: 2 * value for key, value in state_dict(sizes).items()}
    discriminator = {"model.0.weight": np.zeros((4, 3, 4, 4)), "model.2.weight": np.zeros((8, 4, 4, 4))}
    networks = {"state_dict.netG_A2B.": a, "state_dict.netG_B2A.": b, "state_dict.netD_A.model.": discriminator}
    nested = {prefix + key: value for prefix, tensors in networks.items() for key, value in tensors.items()}
    for key, expected in (("netG_A2B", a), ("state_dict.netG_B2A", b)):
        found = torch_weights.unwrapped(nested, key)
        assert found.keys() == expected.keys()
        np.testing.assert_array_equal(found["model.1.weight"], expected["model.1.weight"])
    with pytest.raises(
        ValueError, match="several generators: name one of state_dict.netG_A2B, state_dict.netG_B2A with"
    ):
        torch_weights.unwrapped(nested)
    with pytest.raises(
        ValueError, match="no generator called netD_A: it holds state_dict.netG_A2B, state_dict.netG_B2A"
    ):
        torch_weights.unwrapped(nested, "netD_A")
    alone = {key: value for key, value in nested.items() if "netD" in key}
    assert torch_weights.unwrapped(alone) == alone
