"""Estimates the cost of splitting a training step over a TPU slice, and measures it on emulated devices.

$ python experiments/benchmark.py scaling paper
$ python experiments/benchmark.py scaling measure

`paper` compiles the training steps of named configurations for 8 emulated devices, reads the bytes of their collectives
from the compiled programs and the FLOPs from those lowered for a TPU, and computes `communicate` and `efficiency`
below. `measure` times steps on noise at a fixed global batch, each number of devices in a process of its own; the
devices share the cores of one machine, so it shows overhead and no speed-up.
"""

import dataclasses
import math
import multiprocessing
import os
import re
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

import configs
from genjax import flag_help, keys, parallel
from genjax.compiled import compile_train_step
from genjax.config import RunConfig
from genjax.cyclegan.config import CycleGanRun
from genjax.data.batches import Batch
from genjax.families import task_of
from genjax.task import C
from genjax.train import preemption

ITEM_BYTES = {"pred": 1, "u8": 1, "bf16": 2, "s32": 4, "u32": 4, "f32": 4}
COLLECTIVES = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute|collective-broadcast"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Paper:
    """Steps, and assumptions about the chips: those of a TPU v5e, sources in experiments/results/scaling.md."""

    configs: tuple[str, ...] = ("vae:mnist", "vae:folder", "cyclegan:icons", "cyclegan:folder")
    """FAMILY:CONFIG of each step."""
    global_batch: int = 512
    """Global batch of a second table of strong scaling; the first has the configuration's own."""
    peak: float = 197e12
    """FLOPs a second of one chip in bfloat16."""
    utilisation: float = 0.4
    """Assumed share of the peak that a step reaches; a higher share lowers the efficiency. float32 takes six passes of
    the matrix units, so it reaches at most a sixth."""
    link: float = 3.7e10
    """Bytes a second from a chip to its neighbour."""
    hop: float = 2.7e-6
    """Latency of a step of a ring, in seconds."""
    pod: int = 256
    """Chips of one slice; more chips are several slices."""
    network: float = 3.125e9
    """Bytes a second of each chip between slices."""
    network_hop: float = 1e-4
    """Assumed latency of a step between slices, in seconds."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measure:
    """The steps to time, and how often."""

    vae_batch: int = 96
    """Global batch of vae:quickstart."""
    cyclegan_batch: int = 8
    """Global batch of cyclegan:quickstart, of each domain."""
    steps: int = 20
    """Timed steps of a process, after three that are not."""
    rounds: int = 3
    """Processes for each number of devices; up and down through the numbers in turn."""


class Step(NamedTuple):
    """The work and the communication of each device in one training step."""

    reduced: float
    """Bytes all-reduced, whatever the batch."""
    gathered: float
    """Bytes all-gathered for each image of the global batch."""
    reductions: int
    gathers: int
    fixed_flops: float
    """FLOPs whatever the batch: the optimiser and the averages."""
    image_flops: float
    """FLOPs for each image; for CycleGAN, for one of each domain."""


def communicate(chip: Paper, step: Step, chips: int, images: int) -> float:
    """Estimates the seconds for the collectives of a global batch of `images` on `chips`, a power of two.

    Rings along first one, then the other axis of a 2D slice send (n - 1) / n of all bytes over a link in width + height
    - 2 steps, an all-reduce twice that. Between slices, chips in the same place exchange their shares. Only one link of
    a chip is used at a time, in one direction, and nothing overlaps.
    """
    inside, slices = min(chips, chip.pod), max(1, chips // chip.pod)
    width = 2 ** ((inside.bit_length() - 1) // 2)
    moved, rings = 2 * step.reduced + images * step.gathered, 2 * step.reductions + step.gathers
    within = (inside - 1) / inside * moved / chip.link + rings * (width + inside // width - 2) * chip.hop
    between = (slices - 1) / slices * moved / inside / chip.network + rings * (slices - 1) * chip.network_hop
    return within + between


def efficiency(chip: Paper, step: Step, chips: int, images: int) -> tuple[float, float]:
    """Estimates the weak and the strong efficiency of a step with `images` on `chips`.

    It is the time of one chip for its share of the images (weak), or for all images divided by `chips` (strong), over
    the time of the step.
    """

    def compute(images: float) -> float:
        return (step.fixed_flops + images * step.image_flops) / (chip.peak * chip.utilisation)

    alone = compute(images / chips)
    seconds = alone + communicate(chip, step, chips, images)
    return alone / seconds, compute(images) / chips / seconds


def collectives(program: str) -> dict[str, tuple[int, int]]:
    """Counts the collectives of each kind in a compiled program, and the bytes of their results."""
    found: dict[str, tuple[int, int]] = {}
    for result, kind in re.findall(rf"= (.+?) ({COLLECTIVES})(?:-start)?\(", program):
        shapes = re.findall(r"(\w+)\[([\d,]*)\]", result)
        size = sum(ITEM_BYTES[item] * math.prod(int(n) for n in shape.split(",") if n) for item, shape in shapes)
        count, total = found.get(kind, (0, 0))
        found[kind] = count + 1, total + size
    return found


def with_batch(config: C, batch: int) -> C:
    """Changes the global batch of `config`, and enlarges a pool that is too small for it."""
    changes: dict[str, Any] = {"data": dataclasses.replace(config.data, batch_size=batch)}
    if isinstance(config, CycleGanRun) and 0 < config.cyclegan.pool_size < batch:
        changes["cyclegan"] = dataclasses.replace(config.cyclegan, pool_size=batch)
    return dataclasses.replace(config, **changes)


def traced(config: RunConfig, mesh: Mesh) -> Any:
    """Traces the training step of `config` for `mesh`; no array is made."""
    split, data = NamedSharding(mesh, parallel.SPLIT), config.data
    shapes = [(data.batch_size, *shape) for shape in data.image_shapes]
    images = tuple(jax.ShapeDtypeStruct(shape, np.uint8, sharding=split) for shape in shapes)
    batch = Batch(images, jax.ShapeDtypeStruct((data.batch_size,), np.int32, sharding=split))
    task = task_of(config)
    state = parallel.abstract(mesh, lambda: task.init(config, keys.root_key(0)))
    step_fn: Any = compile_train_step(task, config, mesh)
    seed = jax.ShapeDtypeStruct((), np.int32, sharding=NamedSharding(mesh, parallel.REPLICATED))
    signal = jax.ShapeDtypeStruct((mesh.size,), np.int32, sharding=split)
    return step_fn.trace(state, batch, seed, signal)


def read(config: RunConfig, mesh: Mesh) -> Step:
    """Reads work and communication of the step of `config`, compiled for `mesh` of two devices or more."""
    one, two = (traced(with_batch(config, images * mesh.size), mesh) for images in (1, 2))
    found = collectives(one.lower().compile().as_text())
    assert found.keys() <= {"all-reduce", "all-gather"}, found
    (reductions, reduced), (gathers, gathered) = found["all-reduce"], found.get("all-gather", (0, 0))
    # FLOPs of the program for a TPU, because the CPU's program has other convolutions.
    flops, more = (step.lower(lowering_platforms=("tpu",)).cost_analysis()["flops"] for step in (one, two))
    return Step(reduced, gathered / mesh.size, reductions, gathers, 2 * flops - more, more - flops)


def paper(options: Paper) -> dict[str, Any]:
    """Prints a table for each configuration, rounded down, and returns what was read."""
    jax.config.update("jax_num_cpu_devices", 8)
    mesh = parallel.make_mesh()
    results: dict[str, Any] = {}
    for name in options.configs:
        config = configs.make(name)
        step, own, fixed = read(config, mesh), config.data.batch_size, options.global_batch
        print(f"\n| {name} | weak, {own} a chip | strong, {own} | strong, {fixed} |\n|---|---|---|---|")
        for chips in (8, 16, 32, 64, 128, 256, 512):
            strong = [efficiency(options, step, chips, n)[1] if n % chips == 0 else None for n in (own, fixed)]
            row = (efficiency(options, step, chips, own * chips)[0], *strong)
            print(f"| {chips} |", " | ".join("" if e is None else f"{math.floor(1e3 * e) / 1e3:.3f}" for e in row), "|")
        results |= {f"{name}.{field}": value for field, value in step._asdict().items()}
    return results


def time_steps(name: str, batch_size: int, steps: int) -> float:
    """Measures the median seconds of a step on all devices of this process.

    It waits for each step, because emulated devices deadlock on a long queue.
    """
    config, mesh = with_batch(configs.make(name), batch_size), parallel.make_mesh()
    compiled = traced(config, mesh).lower().compile()
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (batch_size, *shape), np.uint8) for shape in config.data.image_shapes]
    batch = parallel.shard_batch(mesh, Batch(tuple(images), np.arange(batch_size, dtype=np.int32)))
    state = parallel.replicate(mesh, lambda: task_of(config).init(config, keys.root_key(0)))
    seed, no_signal = parallel.replicate_scalar(mesh, 0), preemption.per_device(mesh)[0]
    seconds = []
    for _ in range(3 + steps):
        began = time.perf_counter()
        state, *_ = jax.block_until_ready(compiled(state, batch, seed, no_signal))
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[3:])


def measure(options: Measure) -> dict[str, Any]:
    """Returns milliseconds per image: median, least and largest of the processes' medians."""
    found: dict[str, list[float]] = {}
    os.environ["JAX_PLATFORMS"] = "cpu"
    for turn in range(options.rounds):
        for name, batch in (("vae:quickstart", options.vae_batch), ("cyclegan:quickstart", options.cyclegan_batch)):
            for devices in (1, 2, 4, 8)[:: -1 if turn % 2 else 1]:
                os.environ["JAX_NUM_CPU_DEVICES"] = str(devices)  # read when the new process imports JAX
                with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                    seconds = process.submit(time_steps, name, batch, options.steps).result()
                print(name, devices, f"{seconds:.4f} s, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
                found.setdefault(f"{name}.{devices}", []).append(1e3 * seconds / batch)
    results: dict[str, Any] = {}
    for name, times in found.items():
        results |= {f"{name}.median": statistics.median(times), f"{name}.least": min(times), f"{name}.most": max(times)}
    return results


def main() -> dict[str, Any]:
    """Runs the part that the command line names."""
    parts: dict[str, Any] = {"paper": Paper, "measure": Measure}
    options = flag_help.call_verb(parts, __doc__)
    return paper(options) if isinstance(options, Paper) else measure(options)
