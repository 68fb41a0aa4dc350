"""Times JPEGs a second, cached and decoded on demand, beside PyTorch's DataLoader on the same files.

$ python experiments/benchmark.py decoding

It writes JPEGs of 256x256, as large as photographs are at that size, and reads batches of uint8 from them in three
ways: from genjax's cache; by genjax on demand (`--data.cache none`) with 2 threads; by PyTorch's DataLoader with 2
worker processes. `plain` takes pictures as they are; `scaled` scales them to 286x286 and crops 256x256 at random. The
ways take turns, and medians over turns are given: images a second, and the milliseconds for which a step of 20 ms that
leaves the processor idle, as on a GPU, has to wait for its batch of 1, 4 or 16.
"""

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from PIL import Image

from benchmarks import _torch_folder
from genjax import flag_help
from genjax.data import batches, folders
from genjax.data.config import DataConfig

SIZE, LOAD_SIZE = 256, 286


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Number of pictures, and how long to measure."""

    jpegs: int = 512
    """Pictures to write."""
    turns: int = 7
    """Turns of each way."""
    batches: int = 24
    """Batches of 16 in a turn that counts images, and steps in a turn that waits."""
    threads: int = 2
    """Threads and worker processes."""


Stream = Iterator[Any]


def main() -> dict[str, Any]:
    """Returns images a second and milliseconds of waiting for each way."""
    options = tyro.cli(Options, description=flag_help.description(__doc__))
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as directory:
        results["kilobytes_a_jpeg"] = _write_jpegs(Path(directory) / "train", options.jpegs)
        for case, load_size in (("plain", SIZE), ("scaled", LOAD_SIZE)):
            streams = _streams(directory, load_size, 16, options)
            rates = _in_turn(streams, options.turns, lambda stream: _rate(stream, options.batches))
            results |= {f"{case}.{name}.images_a_second": round(value) for name, value in rates.items()}
        for size in (1, 4, 16):
            streams = _streams(directory, LOAD_SIZE, size, options)
            waits = _in_turn(streams, options.turns, lambda stream: _waiting(stream, options.batches))
            results |= {f"batch_{size}.{name}.wait_ms": round(1e3 * value, 2) for name, value in waits.items()}
    return results


def _write_jpegs(folder: Path, num: int) -> int:
    """Writes noise that is smooth at several scales; returns the kilobytes of a file."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for i in range(num):
        pixels = np.mean([_smooth(rng, side) for side in (8, 32, 128)], axis=0)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i:04d}.jpg", quality=90)
    return round(sum(path.stat().st_size for path in folder.iterdir()) / num / 1e3)


def _smooth(rng: np.random.Generator, side: int) -> np.ndarray:
    small = Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8))
    return np.asarray(small.resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.float32)


def _streams(directory: str, load_size: int, batch_size: int, options: Options) -> dict[str, Stream]:
    config = DataConfig(
        source=f"folder:{directory}", image_size=(SIZE, SIZE), channels=(3,), batch_size=batch_size, resize="stretch",
        load_scale=() if load_size == SIZE else (load_size / SIZE,), holdout=0.0,
        cache_dir=f"{directory}/cache", decode_threads=options.threads,
    )  # fmt: skip
    worker = _torch_folder.loader(f"{directory}/train", load_size, SIZE, batch_size, options.threads)
    on_demand = dataclasses.replace(config, cache="none", prefetch=options.threads)
    return {"cached": _genjax(config), "on_demand": _genjax(on_demand), "torch": worker}


def _genjax(config: DataConfig) -> Stream:
    load = batches.loader(folders.load(config).train, config.batch_size, 0)
    threads = config.prefetch if config.cache == "none" else 1  # as in training
    return batches.prefetch(load, range(10**9), config.prefetch, threads)


def _in_turn(streams: dict[str, Stream], turns: int, measure: Callable[[Stream], float]) -> dict[str, float]:
    """Measures each stream `turns` times, one after another, after one turn that does not count; returns medians."""
    found: dict[str, list[float]] = {name: [] for name in streams}
    for turn in range(turns + 1):
        for name, stream in streams.items():
            time.sleep(1)  # streams load ahead, and are then at rest
            value = measure(stream)
            if turn:
                found[name].append(value)
    return {name: statistics.median(values) for name, values in found.items()}


def _rate(stream: Stream, num: int) -> float:
    """Counts images a second, without those that were loaded ahead."""
    for _ in range(8):
        batch = next(stream)
    size = len(batch) if not isinstance(batch, batches.Batch) else len(batch.position)
    began = time.perf_counter()
    for _ in range(num):
        next(stream)
    return num * size / (time.perf_counter() - began)


def _waiting(stream: Stream, num: int) -> float:
    """Averages the seconds for which steps wait, once they have used what was loaded ahead."""
    waited = 0.0
    for i in range(num + 8):
        began = time.perf_counter()
        next(stream)
        waited += (time.perf_counter() - began) * (i >= 8)
        time.sleep(0.02)
    return waited / num
