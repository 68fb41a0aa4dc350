"""Times data loading against the training step.

$ python experiments/benchmark.py loading

It measures digits, icons and a folder of 300x300 JPEGs, loaded at 286x286 and cropped to 256x256. For each it times, in
milliseconds: loading a batch onto the device; a step that reuses one batch; and a step with a fresh batch, loaded ahead
in a thread as in training. `share` is the first time over the second, and `added` the extra time of the third over the
second, both in percent. A folder is decoded once, into a cache; that rate is given too. One device; medians.
"""

import dataclasses
import functools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import tyro
from PIL import Image

import configs
from genjax import flag_help, keys, parallel
from genjax.compiled import compile_train_step
from genjax.config import RunConfig
from genjax.data import batches, sources
from genjax.families import task_of
from genjax.train import preemption


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The data, and how long to measure."""

    seconds: float = 20.0
    """Seconds for each kind of step and data; at least 3 steps."""
    jpegs: int = 60
    """JPEGs in each of the two domains of the folder."""
    cases: tuple[Literal["mnist5k", "icons", "folder"], ...] = ("mnist5k", "icons", "folder")
    """Data to measure with."""


def main() -> dict[str, Any]:
    """Returns milliseconds and percent for each source."""
    options = tyro.cli(Options, description=flag_help.description(__doc__))
    results: dict[str, Any] = {"device": jax.devices()[0].device_kind}
    with tempfile.TemporaryDirectory() as directory:
        _write_jpegs(Path(directory), options.jpegs)
        folder = configs.make("cyclegan:folder")
        data = dataclasses.replace(
            folder.data, source=f"folder:{directory}", cache_dir=f"{directory}/cache", load_scale=(286 / 256,)
        )
        cases = {
            "mnist5k": configs.make("vae:mnist5k"),
            "icons": configs.make("cyclegan:icons"),
            "folder": dataclasses.replace(folder, data=data),
        }
        for name in options.cases:
            results |= {f"{name}.{key}": value for key, value in _measure(cases[name], options.seconds).items()}
    return {name: float(f"{v:.4g}") if isinstance(v, float) else v for name, v in results.items()}


def _write_jpegs(directory: Path, num: int) -> None:
    """Writes two domains of enlarged noise, which is as large and smooth as photographs."""
    rng = np.random.default_rng(0)
    for domain in ("trainA", "trainB"):
        (directory / domain).mkdir()
        for i in range(num):
            small = Image.fromarray(rng.integers(0, 256, (30, 30, 3), np.uint8))
            small.resize((300, 300), Image.Resampling.BICUBIC).save(directory / domain / f"{i}.jpg", quality=90)


def _measure(config: RunConfig, seconds: float) -> dict[str, float]:
    began = time.perf_counter()
    source, size = sources.load(config.data, 0).train, config.data.batch_size
    decoding = time.perf_counter() - began
    mesh, load_host = parallel.make_mesh(jax.devices()[:1]), batches.loader(source, size, 0)

    def load(step: int) -> batches.Batch:
        batch: batches.Batch = parallel.shard_batch(mesh, load_host(step))
        return batch

    def load_and_wait(step: int) -> None:
        jax.block_until_ready(load(step))

    host = [_timed(functools.partial(load_and_wait, step)) for step in range(200)]
    state = parallel.replicate(mesh, lambda: task_of(config).init(config, keys.root_key(0)))
    seed, no_signal = parallel.replicate_scalar(mesh, 0), preemption.per_device(mesh)[0]
    step_fn = compile_train_step(task_of(config), config, mesh)
    batch = load(0)

    def step(batch: batches.Batch) -> None:
        nonlocal state
        state, *_ = jax.block_until_ready(step_fn(state, batch, seed, no_signal))

    step(batch)
    num = max(3, min(1000, int(seconds / _timed(lambda: step(batch)))))
    same, fresh = [], []
    loaded = batches.prefetch(load, range(num), config.data.prefetch)
    for _ in range(num):  # in turn, so that other work on the machine slows down both alike
        same.append(_timed(lambda: step(batch)))
        fresh.append(_timed(lambda: step(next(loaded))))
    loaded.close()
    results = {"host_ms": host, "step_ms": same, "step_and_loading_ms": fresh}
    times = {name: 1e3 * statistics.median(values) for name, values in results.items()}
    if config.data.source.startswith("folder:"):
        times["decoded_per_second"] = sum(len(array) for array in source) / decoding
    share, added = times["host_ms"] / times["step_ms"], times["step_and_loading_ms"] / times["step_ms"] - 1
    return times | {"share_percent": 100 * share, "added_percent": 100 * added}


def _timed(fn: Callable[[], object]) -> float:
    began = time.perf_counter()
    fn()
    return time.perf_counter() - began
