"""Steps that need less memory: gradients in parts, and layers that are computed again."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax import cut, cyclegan, optim, unit, vae
from genjax.gan import params
from studies.reproducibility.stepping import mesh_of, walk
from tiny import tiny_cut, tiny_cyclegan, tiny_run, tiny_unit
from two_domains import small_networks

FEW = {"discriminator": "pixel"}
SEEN = FEW | {
    "spectral_norm": True, "discriminator_norm": "none", "diff_augment": 1.0, "instance_noise": 0.2,
}  # fmt: skip

FAMILIES = {
    "vae": (vae.TASK, tiny_run("unused", vae={"objective": "iwae", "train_draws": 3})),
    "cyclegan": (
        cyclegan.make_task(small_networks),
        tiny_cyclegan(
            "unused", cyclegan=SEEN, data={"paired": True, "train_pairs": True},
            loss={"adversarial": "wgan_gp", "paired": 1.0},
        ),
    ),
    "cut": (
        cut.TASK,
        tiny_cut("unused", cut=FEW | {"mirror": True, "num_blocks": 0, "features": ("pixels", "down_1")}),
    ),
    "unit": (unit.TASK, tiny_unit("unused", unit=FEW)),
}  # fmt: skip


def images(config):
    rng, (height, width) = np.random.default_rng(0), config.data.image_size
    return tuple(rng.integers(0, 256, (8, height, width, channels), np.uint8) for channels in config.data.channels)


def with_train(config, **changes):
    return dataclasses.replace(config, train=dataclasses.replace(config.train, **changes))


def first_moments(state):
    """Gradients of all networks times a constant, after one step."""
    adam = optax.ScaleByAdamState
    found = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, adam))
    moments = [jax.tree.leaves(node.mu) for node in found if isinstance(node, adam)]
    return [np.concatenate([np.ravel(leaf) for leaf in leaves]) for leaves in moments]


@pytest.mark.slow
@pytest.mark.parametrize("family, train", [
    ("vae", {"accumulate": 4}), ("cyclegan", {"accumulate": 4, "remat": True}),
    ("cut", {"accumulate": 2, "remat": True}), ("unit", {"accumulate": 2, "remat": True}),
])  # fmt: skip
def test_train_step_in_parts_equals_one_at_once(family, train, x64):
    """On two devices, with all that is drawn for an image, and penalties of second derivatives."""
    task, config = FAMILIES[family]
    (whole, at_once), (parts, in_parts) = (
        next(walk(task, of, images(config), mesh_of(2), 1, jnp.float64)) for of in (config, with_train(config, **train))
    )
    assert at_once.keys() == in_parts.keys()
    for name, value in at_once.items():
        np.testing.assert_allclose(in_parts[name], value, rtol=1e-10, atol=1e-12, err_msg=name)
    for moment, other in zip(first_moments(whole), first_moments(parts), strict=True):
        assert 0 < np.linalg.norm(moment) and np.linalg.norm(other - moment) <= 1e-10 * np.linalg.norm(moment)


def test_in_parts_averages_and_joins():
    numbers = jnp.arange(12.0).reshape(6, 2)

    def function(rows):
        assert rows.shape == (2, 2)
        return {"mean": jnp.mean(rows, axis=0)}, rows + 1

    means, each = optim.in_parts(3, function, numbers)
    np.testing.assert_allclose(means["mean"], [5, 6])
    np.testing.assert_array_equal(each, numbers + 1)


def temporary_bytes(function, *arguments):
    return jax.jit(function).lower(*arguments).compile().memory_analysis().temp_size_in_bytes


def convolve(kernels, images):
    for kernel in kernels:
        images = jnp.tanh(jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=CHANNELS_LAST))
    return images


CHANNELS_LAST = ("NHWC", "HWIO", "NHWC")


@pytest.mark.parametrize("num_parts, share", [(2, 0.6), (8, 0.3)])
def test_in_parts_needs_the_memory_of_one(num_parts, share):
    kernels, images = jnp.ones((12, 3, 3, 4, 4)), jnp.ones((8, 32, 32, 4))

    def gradient(kernels, images, num_parts):
        def of_part(part):
            return jax.grad(lambda kernels: jnp.mean(convolve(kernels, part)))(kernels), ()

        return optim.in_parts(num_parts, of_part, images)[0]

    whole, parts = (temporary_bytes(functools.partial(gradient, num_parts=n), kernels, images) for n in (1, num_parts))
    assert parts < share * whole


@pytest.mark.slow
def test_computed_again_keeps_no_layers(x64):
    """Here for a chain of two networks, which then holds the layers of one; gradients are the same to the last bits."""
    kernels = jnp.asarray(np.random.default_rng(0).normal(0, 0.3, (12, 3, 3, 4, 4)))
    images = jnp.asarray(np.random.default_rng(1).normal(size=(8, 32, 32, 4)))

    def gradient(network, kernels, images):
        return jax.grad(lambda kernels: jnp.sum(network(kernels, network(kernels, images)) ** 2))(kernels)

    usual, again = (functools.partial(gradient, network) for network in (convolve, params.computed_again(convolve)))
    assert temporary_bytes(again, kernels, images) < 0.75 * temporary_bytes(usual, kernels, images)
    np.testing.assert_allclose(jax.jit(again)(kernels, images), jax.jit(usual)(kernels, images), rtol=1e-10, atol=1e-12)
