"""Eight emulated CPU devices, and JAX's strict checks, for every test."""

import os

# Also for the scripts that tests start. Before JAX is imported, for it reads them once.
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
os.environ["JAX_PLATFORMS"] = "cpu"

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import pytest

from genjax.config import DataConfig, OptimConfig, TrainConfig, VaeConfig, VaeRun

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)


@pytest.fixture
def x64():
    """Arithmetic in float64 for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def make_run(tmp_path) -> Callable[..., VaeRun]:
    """`make_run(vae={"beta": 2.0}, seed=1)`: a tiny VAE on 8x8 digits, with the given fields changed."""

    def make(**changes: Any) -> VaeRun:
        run = VaeRun(
            workdir=str(tmp_path / "run"),
            data=DataConfig(source="digits", image_shape=(8, 8, 1), batch_size=16, binarize="stochastic"),
            optim=OptimConfig(learning_rate=2e-3),
            train=TrainConfig(num_steps=12, log_every=2, eval_every=4, checkpoint_every=4),
            vae=VaeConfig(architecture="mlp", hidden=(16,), latent_size=4),
        )
        for name, change in changes.items():
            part = getattr(run, name)
            changes[name] = dataclasses.replace(part, **change) if isinstance(change, dict) else change
        return dataclasses.replace(run, **changes)

    return make
