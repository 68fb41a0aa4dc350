"""Perceptual losses in whole steps: generators learn from features that no state holds."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from genjax import cyclegan, keys
from genjax.cyclegan.config import LossConfig
from genjax.data import image_arrays
from genjax.evaluation import perceptual
from genjax.gan import networks
from genjax.gan.params import apply
from studies.reproducibility.stepping import mesh_of, walk
from tiny import tiny_cyclegan
from two_domains import small_networks

pytestmark = pytest.mark.slow

ALONE = LossConfig(
    adversarial_a2b=0.0, adversarial_b2a=0.0, cycle_a=0.0, cycle_b=0.0, perceptual_cycle=2.0, perceptual_identity=3.0,
    perceptual_features="alexnet",
)  # fmt: skip


def test_train_step_learns_from_features_that_no_state_holds(small_lpips):
    config, task = tiny_cyclegan("unused", loss=dataclasses.asdict(ALONE)), cyclegan.make_task(small_networks)
    rng = np.random.default_rng(0)
    source = tuple(rng.integers(0, 256, (8, 16, 16, 1), np.uint8) for _ in range(2))
    before = jax.jit(lambda: task.init(config, keys.root_key(0)))()
    ((after, metrics),) = walk(task, config, source, mesh_of(2), 1)

    assert jax.tree.structure(after) == jax.tree.structure(before)
    assert len(jax.tree.leaves(before.g_a2b.params)) == 4  # of two convolutions
    for name in networks.GENERATORS:
        moments = getattr(after, name).opt_state.mu
        assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(moments)), name

    small = small_networks(config)
    to_b, to_a = (functools.partial(apply, getattr(small, n), getattr(before, n).params) for n in networks.GENERATORS)
    a, b = (2 * image_arrays.unit_floats(images) - 1 for images in source)

    def compare(x, y):
        return np.mean(perceptual.distance(small_lpips, (x + 1) / 2, (y + 1) / 2))

    expected = {
        "perceptual_cycle": compare(to_a(to_b(a)), a) + compare(to_b(to_a(b)), b),
        "perceptual_identity": compare(to_a(a), a) + compare(to_b(b), b),
    }
    for name, value in expected.items():
        assert value > 1
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4)
    total = sum(getattr(ALONE, name) * value for name, value in expected.items())
    np.testing.assert_allclose(metrics["g_loss"], total, rtol=1e-4)
