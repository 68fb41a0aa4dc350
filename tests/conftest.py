"""Eight emulated CPU devices, and JAX's strict checks, for every test."""

import atexit
import contextlib
import dataclasses
import gc
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Read once, when JAX is imported, here and in the scripts that tests start.
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
os.environ["JAX_PLATFORMS"] = "cpu"
# Many tests compile the same program: a cache for this process and those that it starts, and nothing of earlier ones.
os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="genjax-tests-")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from PIL import Image  # noqa: E402

from genjax import cyclegan, train, vae  # noqa: E402
from genjax.config import DataConfig, OptimConfig, TrainConfig  # noqa: E402
from genjax.cyclegan import losses  # noqa: E402
from genjax.cyclegan.config import CycleGanConfig, CycleGanRun  # noqa: E402
from genjax.vae.config import VaeConfig, VaeRun  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)


@contextlib.contextmanager
def cheaply_compiled():
    """XLA without LLVM's optimisations, in a third of the time: for what is compared with a tolerance, or not at all.

    Never for what is compared bit by bit, which has to be the machine code that users run; so nothing else should be
    compiled meanwhile that later tests might find in memory. On the disk the two kinds are kept apart.
    """
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture
def x64():
    """Arithmetic in float64 for one test, which tells numbers apart that a tolerance of 1e-8 does, and not bits."""
    with jax.enable_x64(True), cheaply_compiled():
        yield


def tiny_run(workdir: str, **changes: Any) -> VaeRun:
    """A tiny VAE on 8x8 digits with the given fields changed: `tiny_run(workdir, vae={"beta": 2.0}, seed=1)`."""
    run = VaeRun(
        workdir=workdir,
        data=DataConfig(source="digits", image_size=(8, 8), channels=(1,), batch_size=16, binarize="stochastic"),
        optim=OptimConfig(learning_rate=2e-3),
        train=TrainConfig(num_steps=12, log_every=2, eval_every=4, checkpoint_every=4),
        vae=VaeConfig(architecture="mlp", hidden=(16,), latent_size=4),
    )
    return changed(run, changes)


def tiny_cyclegan(workdir: str, **changes: Any) -> CycleGanRun:
    """A tiny CycleGAN between two sets of 16x16 noise, changed as for `tiny_run`; its data has to be put in place."""
    run = CycleGanRun(
        workdir=workdir,
        data=DataConfig(source="folder:unused", image_size=(16, 16), channels=(1, 1), batch_size=8),
        optim=OptimConfig(learning_rate=2e-3, b1=0.5),
        train=TrainConfig(num_steps=12, log_every=2, eval_every=4, checkpoint_every=4, num_pictures=8),
        cyclegan=CycleGanConfig(width=2, blocks=1, discriminator_width=2, discriminator_layers=1, pool_size=12),
        loss=losses.CLASSIC,
    )
    return changed(run, changes)


def changed(run: Any, changes: dict[str, Any]) -> Any:
    """`run` with fields replaced, those of its parts given as dictionaries."""
    for name, change in changes.items():
        part = getattr(run, name)
        changes[name] = dataclasses.replace(part, **change) if isinstance(change, dict) else change
    return dataclasses.replace(run, **changes)


@pytest.fixture
def make_run(tmp_path) -> Callable[..., VaeRun]:
    """`tiny_run` in a directory of the test's own."""
    return lambda workdir=str(tmp_path / "run"), **changes: tiny_run(workdir, **changes)


@pytest.fixture
def make_cyclegan(tmp_path) -> Callable[..., CycleGanRun]:
    """`tiny_cyclegan` in a directory of the test's own."""
    return lambda workdir=str(tmp_path / "run"), **changes: tiny_cyclegan(workdir, **changes)


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> VaeRun:
    """A finished tiny run; tests may read it, and copy it to change it."""
    run = tiny_run(str(tmp_path_factory.mktemp("trained") / "run"))
    train.fit(vae.TASK, run)
    return run


@pytest.fixture(scope="module")
def failing_loads():
    """For modules in which Orbax fails to load: its other reads lose their event loop, and each says so at its end.

    That is an unraisable exception, which such modules ignore. Some reads end as garbage: while that is still ignored,
    and not in whichever test of another module they happen to be collected.
    """
    yield
    gc.collect()


def write_noise(folder: Path, number: int, size: tuple[int, int] = (16, 16), suffix: str = ".png") -> None:
    """Colour images of noise, 0.png and so on, in a new folder."""
    rng = np.random.default_rng(number)
    folder.mkdir(parents=True)
    for i in range(number):
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(folder / f"{i}{suffix}")


@pytest.fixture(scope="session")
def trained_identity(tmp_path_factory) -> CycleGanRun:
    """A finished CycleGAN between folders of colour noise, whose translations are their images all but exactly."""
    root = tmp_path_factory.mktemp("identity")
    for name, number in (("trainA", 10), ("trainB", 12), ("testA", 3), ("testB", 4)):
        write_noise(root / "images" / name, number)
    data = {"source": f"folder:{root / 'images'}", "channels": (3, 3), "cache_dir": str(root / "cache")}
    run = tiny_cyclegan(
        str(root / "run"), data=data, train={"num_steps": 4}, optim={"learning_rate": 1e-9},
        cyclegan={"output": "residual", "blocks": 0},
    )  # fmt: skip
    with cheaply_compiled():
        train.fit(cyclegan.TASK, run)
    return run
