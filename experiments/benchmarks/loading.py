"""What the host does for a training step, beside what the device does.

$ python experiments/benchmarks/loading.py

For digits, icons and a folder of JPEGs of 300x300, loaded at 286x286 and cropped to 256x256: the milliseconds to put
together a batch and hand it to the device, alone; a step with one batch again and again; and a step with a fresh batch
each time, loaded ahead in a thread, as training does. `share` is the first over the second, `added` how much longer the
third is than the second, both in percent. A folder is decoded once, into a cache, at the rate that is given. On one
device; medians.
"""

import dataclasses
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from PIL import Image

sys.path.append(str(Path(__file__).parents[1]))
import cyclegan_configs  # noqa: E402
import vae_configs  # noqa: E402

from genjax import cyclegan, keys, parallel, vae  # noqa: E402
from genjax.compiled import compile_train_step  # noqa: E402
from genjax.data import batches, sources  # noqa: E402


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How long to measure."""

    seconds: float = 20.0
    """For each kind of step and data; at least 3 steps."""
    jpegs: int = 60
    """In each of the two domains of the folder."""


def main() -> dict[str, Any]:
    """Milliseconds and percent for each."""
    options = tyro.cli(Options, description=__doc__)
    results: dict[str, Any] = {"device": jax.devices()[0].device_kind}
    with tempfile.TemporaryDirectory() as directory:
        _write_jpegs(Path(directory), options.jpegs)
        folder = cyclegan_configs.CONFIGS["folder"]()
        data = dataclasses.replace(folder.data, source=f"folder:{directory}", cache_dir=f"{directory}/cache")
        cases: dict[str, tuple[Any, Any]] = {
            "mnist5k": (vae.TASK, vae_configs.CONFIGS["mnist5k"]()),
            "icons": (cyclegan.TASK, cyclegan_configs.CONFIGS["icons"]()),
            "folder": (cyclegan.TASK, dataclasses.replace(folder, data=data)),
        }
        for name, (task, config) in cases.items():
            config = dataclasses.replace(config, workdir="unused")
            results |= {f"{name}.{key}": value for key, value in _measure(task, config, options.seconds).items()}
    return {name: float(f"{v:.4g}") if isinstance(v, float) else v for name, v in results.items()}


def _write_jpegs(directory: Path, num: int) -> None:
    """Two domains of photographs' size and smoothness: enlarged noise."""
    rng = np.random.default_rng(0)
    for domain in ("trainA", "trainB"):
        (directory / domain).mkdir()
        for i in range(num):
            small = Image.fromarray(rng.integers(0, 256, (30, 30, 3), np.uint8))
            small.resize((300, 300), Image.Resampling.BICUBIC).save(directory / domain / f"{i}.jpg", quality=90)


def _measure(task: Any, config: Any, seconds: float) -> dict[str, float]:
    began = time.perf_counter()
    source, size = sources.load(config.data, 0).train, config.data.batch_size
    decoding = time.perf_counter() - began
    mesh, order = parallel.make_mesh(jax.devices()[:1]), batches.cached_permutation(2 * len(source))

    def load(step: int) -> batches.Batch:
        return parallel.shard_batch(mesh, batches.load(source, 0, step, size, slice(None), order))

    host = [_timed(lambda step=step: jax.block_until_ready(load(step))) for step in range(200)]
    state = parallel.replicate(mesh, lambda: task.init(config, keys.root_key(0)))
    seed = parallel.replicate_scalar(mesh, 0)
    step_fn: Any = compile_train_step(task, config, mesh)
    batch = load(0)

    def step(batch: batches.Batch) -> None:
        nonlocal state
        state, *_ = jax.block_until_ready(step_fn(state, batch, seed, signal))

    step(batch)
    num = max(3, min(1000, int(seconds / _timed(lambda: step(batch)))))
    same, fresh = [], []
    loaded = batches.prefetch(load, range(num), config.data.prefetch)
    for _ in range(num):  # in turn, so that what else the machine does meets both alike
        same.append(_timed(lambda: step(batch)))
        fresh.append(_timed(lambda: step(next(loaded))))
    loaded.close()
    results = {"host_ms": host, "step_ms": same, "step_and_loading_ms": fresh}
    figures = {name: 1e3 * statistics.median(values) for name, values in results.items()}
    if config.data.source.startswith("folder:"):
        figures["decoded_per_second"] = sum(len(array) for array in source) / decoding
    share, added = figures["host_ms"] / figures["step_ms"], figures["step_and_loading_ms"] / figures["step_ms"] - 1
    return figures | {"share_percent": 100 * share, "added_percent": 100 * added}


def _timed(fn: Any) -> float:
    began = time.perf_counter()
    fn()
    return time.perf_counter() - began


if __name__ == "__main__":
    print(json.dumps(main()))
