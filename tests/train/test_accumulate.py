"""Steps that need less memory: gradients in parts, and layers that are computed again."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax import cut, cyclegan, keys, optim, parallel, unit, vae
from genjax.compiled import compile_train_step
from genjax.data.batches import Batch
from genjax.train import preemption
from studies.reproducibility.stepping import mesh_of, walk
from tiny import tiny_cut, tiny_cyclegan, tiny_run, tiny_unit

SEEN = {
    "spectral_norm": True, "discriminator_norm": "none", "diff_augment": 1.0, "instance_noise": 0.2,
    "discriminator": "pixel",
}  # fmt: skip

FAMILIES = {
    "vae": (vae.TASK, tiny_run("unused", vae={"objective": "iwae", "train_draws": 3})),
    "cyclegan": (
        cyclegan.TASK,
        tiny_cyclegan(
            "unused", cyclegan=SEEN, data={"paired": True, "train_pairs": True},
            loss={"adversarial": "wgan_gp", "identity_a": 0.0, "identity_b": 0.0, "paired": 1.0},
        ),
    ),
    "cut": (cut.TASK, tiny_cut("unused", cut=SEEN | {"mirror": True}, loss={"nce_b": 0.0})),
    "unit": (unit.TASK, tiny_unit("unused", unit=SEEN)),
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
    ("cut", {"accumulate": 4, "remat": True}), ("unit", {"accumulate": 4, "remat": True}),
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


def temporary_bytes(config):
    mesh = mesh_of(1)
    state = parallel.abstract(mesh, lambda: cyclegan.TASK.init(config, keys.root_key(0)))
    batch = parallel.shard_batch(mesh, Batch(images(config), np.arange(8, dtype=np.int32)))
    step_fn = compile_train_step(cyclegan.TASK, config, mesh)
    signal = preemption.per_device(mesh)[0]
    compiled = step_fn.lower(state, batch, parallel.replicate_scalar(mesh, 0), signal).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.slow
def test_train_step_needs_less_memory():
    """In a CycleGAN, most of what a step holds is what generators compute."""
    sizes = {"base_channels": 4, "num_blocks": 3, "discriminator_channels": 2, "pool_size": 0}
    config = tiny_cyclegan("unused", cyclegan=sizes, data={"image_size": (32, 32)})
    plain, accumulated, again, both = (
        temporary_bytes(with_train(config, **train))
        for train in ({}, {"accumulate": 4}, {"remat": True}, {"accumulate": 4, "remat": True})
    )
    print(plain, accumulated, again, both)
    assert accumulated < 0.5 * plain
    assert again < 0.8 * plain
    assert both < min(accumulated, again)
