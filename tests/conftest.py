"""Eight emulated CPU devices, and JAX's strict checks, for every test."""

import os

# Also for the scripts that tests start. Before JAX is imported, for it reads them once.
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)


@pytest.fixture
def x64():
    """Arithmetic in float64 for one test."""
    with jax.enable_x64(True):
        yield
