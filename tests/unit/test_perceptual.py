"""Perceptual losses in a step of UNIT: its coders learn from features that no state holds."""

import jax
import numpy as np
import pytest

from genjax import unit
from genjax.unit import losses
from studies.reproducibility.stepping import mesh_of, walk
from tiny import tiny_unit
from two_domains import noise

ALONE = dict.fromkeys((*losses.TERMS, "adversarial_a2b", "adversarial_b2a"), 0.0) | {
    "perceptual_reconstruction": 2.0, "perceptual_cycle": 3.0, "perceptual_features": "alexnet",
}  # fmt: skip


@pytest.mark.slow
def test_train_step_learns_from_features_alone(small_lpips):
    config = tiny_unit("unused", loss=ALONE, unit={"discriminator": "pixel"})
    ((after, metrics),) = walk(unit.TASK, config, noise(), mesh_of(2), 1)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(after.coders.opt_state.mu))
    total = 2 * metrics["perceptual_reconstruction"] + 3 * metrics["perceptual_cycle"]
    assert metrics["perceptual_cycle"] > 0
    np.testing.assert_allclose(metrics["g_loss"], total, rtol=1e-6)
