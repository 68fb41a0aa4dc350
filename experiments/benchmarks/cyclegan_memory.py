"""Measures the compile time and the memory of a CycleGAN training step.

$ python experiments/benchmark.py cyclegan_memory --size 256 --blocks 9

It compiles without the disk cache and takes two steps on noise; the first may page memory in. Peak memory is that of
the process on a CPU (resident, compilation included), and that of the device on an accelerator.
"""

import dataclasses
import resource
import time
from typing import Any

import jax
import numpy as np
import tyro

from genjax import cyclegan, flag_help, keys, parallel
from genjax.compiled import compile_train_step
from genjax.config import OptimConfig, Precision, TrainConfig
from genjax.cyclegan import losses
from genjax.cyclegan.config import CycleGanConfig, CycleGanRun
from genjax.data.batches import Batch
from genjax.data.config import DataConfig
from genjax.train import preemption


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The step to measure."""

    size: int = 64
    """Height and width."""
    blocks: int = 6
    """Residual blocks of each generator."""
    batch: int = 1
    """Images of each domain."""
    precision: Precision = "float32"
    """Precision of the layers."""


def main() -> dict[str, Any]:
    """Returns seconds and MiB."""
    options = tyro.cli(Options, description=flag_help.description(__doc__))
    jax.config.update("jax_enable_compilation_cache", False)
    shape = (options.size, options.size)
    config = CycleGanRun(
        workdir="unused",
        precision=options.precision,
        data=DataConfig(source="unused", image_size=shape, channels=(3, 3), batch_size=options.batch),
        optim=OptimConfig(learning_rate=2e-4, b1=0.5),
        train=TrainConfig(num_steps=2),
        cyclegan=CycleGanConfig(num_blocks=options.blocks),
        loss=losses.CLASSIC,
    )
    mesh = parallel.make_mesh(jax.devices()[:1])
    state = parallel.replicate(mesh, lambda: cyclegan.TASK.init(config, keys.root_key(0)))
    noise = np.random.default_rng(0).integers(0, 256, (2, options.batch, *shape, 3), np.uint8)
    batch = parallel.shard_batch(mesh, Batch(tuple(noise), np.arange(options.batch, dtype=np.int32)))
    seed, no_signal = parallel.replicate_scalar(mesh, 0), preemption.per_device(mesh)[0]
    step_fn: Any = compile_train_step(cyclegan.TASK, config, mesh)
    began = time.perf_counter()
    lowered = step_fn.lower(state, batch, seed, no_signal)
    traced = time.perf_counter()
    compiled = lowered.compile()
    results = {"trace_seconds": traced - began, "compile_seconds": time.perf_counter() - traced}
    for name in ("first_step_seconds", "second_step_seconds"):
        began = time.perf_counter()
        state, *_ = jax.block_until_ready(compiled(state, batch, seed, no_signal))
        results[name] = time.perf_counter() - began
    device = mesh.devices.flat[0]
    memory = device.memory_stats() or {}
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # KiB on Linux
    results |= {
        "temporary_mib": compiled.memory_analysis().temp_size_in_bytes / 2**20,
        "peak_mib": memory["peak_bytes_in_use"] / 2**20 if "peak_bytes_in_use" in memory else resident,
    }
    return {"device": device.device_kind, **vars(options), **{name: round(value, 2) for name, value in results.items()}}
