"""Eight emulated CPU devices, and JAX's strict checks, for every test."""

import atexit
import gc
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator

from compilation import CHEAP, fully_compiled

# Read once, when JAX is imported, here and in the scripts that tests start.
os.environ.update(CHEAP)
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
os.environ["JAX_PLATFORMS"] = "cpu"
# Many tests compile the same program: one cache for all workers and all processes that tests start. Workers inherit it
# from the process that started them, which alone makes it and removes it.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="genjax-tests-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

import random_pictures  # noqa: E402
from fitted import fit  # noqa: E402
from genjax import cyclegan  # noqa: E402
from genjax.cyclegan.config import CycleGanRun  # noqa: E402
from genjax.evaluation import lpips  # noqa: E402
from genjax.optim import Params  # noqa: E402
from genjax.train import loop  # noqa: E402
from genjax.vae.config import VaeRun  # noqa: E402
from small_disk import Disk  # noqa: E402
from tiny import tiny_cyclegan, tiny_run, write_domains  # noqa: E402

# Traced programs are many small objects that live long: looking for garbage among them takes a tenth of the time.
gc.set_threshold(20_000, 10, 10)

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)


@pytest.fixture(autouse=True)
def same_pictures() -> None:
    """The same random pictures in a test, whichever tests ran before it."""
    random_pictures.restart()


@pytest.fixture
def x64():
    """Arithmetic in float64 for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def full():
    """`fully_compiled` for one test."""
    with fully_compiled():
        yield


@pytest.fixture
def make_run(tmp_path) -> Callable[..., VaeRun]:
    """`tiny_run` in a directory of the test's own."""
    return lambda workdir=str(tmp_path / "run"), **changes: tiny_run(workdir, **changes)


@pytest.fixture
def make_cyclegan(tmp_path) -> Callable[..., CycleGanRun]:
    """`tiny_cyclegan` in a directory of the test's own."""
    return lambda workdir=str(tmp_path / "run"), **changes: tiny_cyclegan(workdir, **changes)


@pytest.fixture
def small_lpips(monkeypatch) -> Params:
    """Features that compile in a moment in the place of LPIPS's, whose distance is of squares weighted by channel."""

    def distance(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.mean((x - y) ** 2 * params["weights"].reshape(1, 1, 1, 3), axis=(1, 2, 3))

    params = {"weights": np.array([1.0, 20.0, 300.0], np.float32)}
    monkeypatch.setattr(lpips, "distance", distance)
    monkeypatch.setattr(lpips, "load", lambda name: lpips.Lpips(name, "its-sha256", params))
    return params


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> VaeRun:
    """A finished tiny run; tests may read it, and copy it to change it."""
    run = tiny_run(str(tmp_path_factory.mktemp("trained") / "run"))
    fit(run)
    return run


@pytest.fixture(scope="module")
def failing_loads():
    """For modules in which Orbax fails to load or save: other reads lose their event loop, and each says so at its end.

    That is an unraisable exception, which such modules ignore. Some reads end as garbage: while that is still ignored,
    and not in whichever test of another module they happen to be collected.
    """
    yield
    gc.collect()


@pytest.fixture(scope="session")
def trained_identity(tmp_path_factory) -> CycleGanRun:
    """A finished CycleGAN between folders of colour noise, whose translations are their images all but exactly."""
    root = tmp_path_factory.mktemp("identity")
    data = write_domains(root, (10, 12, 3, 4)) | {"channels": (3, 3)}
    run = tiny_cyclegan(
        str(root / "run"), data=data, train={"num_steps": 4, "eval_every": 2, "checkpoint_every": 2},
        optim={"learning_rate": 1e-9},
        cyclegan={"output": "residual", "num_blocks": 0, "discriminator": "pixel", "pool_size": 0},
    )  # fmt: skip
    loop.fit(cyclegan.TASK, run)
    return run


@pytest.fixture
def disk(tmp_path) -> Iterator[Disk]:
    """A disk of 4 MB of its own."""
    (tmp_path / "disk").mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", tmp_path / "disk"], capture_output=True)
    if done.returncode:
        pytest.skip("needs the right to mount a disk")
    yield Disk(tmp_path / "disk")
    subprocess.run(["umount", "-l", tmp_path / "disk"], check=True)
