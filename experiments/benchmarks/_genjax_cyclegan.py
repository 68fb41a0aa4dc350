"""Compiled training steps and translations of genjax, which cyclegan_step.py times."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from genjax import cut, cyclegan, keys, parallel
from genjax.compiled import compile_train_step, matmul_precision
from genjax.config import OptimConfig, TrainConfig
from genjax.cut.config import CutConfig, CutRun
from genjax.cyclegan.config import CycleGanConfig, CycleGanRun
from genjax.data.batches import Batch
from genjax.data.config import DataConfig
from genjax.families import task_of
from genjax.gan import translation
from genjax.gan.config import GanRun
from genjax.nn import layers
from genjax.parallel import PyTree
from genjax.train import preemption


class Prepared(NamedTuple):
    """Functions to time, already called once; each waits for the device."""

    actions: dict[str, Callable[[], None]]
    before: dict[str, float]
    """Measurements made before anything is timed: seconds of compilation, and MiB of memory. A step needs the latter
    beside its inputs and outputs."""
    peak_mib: Callable[[], float | None]
    """Returns the peak memory of the device so far; None if only the memory of the process is known."""
    matmul_tflops: Callable[[], float]
    """Measures the rate of a large matrix product of the same precision."""


def prepare(size: int, blocks: int, batch: int, side: str, cache: str) -> Prepared:
    """Compiles the step of all networks with the paper's losses and weights; inputs are noise.

    `side` is a precision, of CycleGAN, or FAMILY:PRECISION; PRECISION-remat and PRECISION-accumulate save memory.
    `cache` is the directory of the persistent compilation cache.
    """
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    family, _, kind = side.rpartition(":")
    precision, _, saving = kind.partition("-")
    num_parts = batch if saving == "accumulate" else 1
    shape = (size, size)
    config = _config(
        family, blocks,
        workdir="unused", precision=precision,
        data=DataConfig(source="unused", image_size=shape, channels=(3, 3), batch_size=batch),
        optim=OptimConfig(learning_rate=2e-4, b1=0.5),
        train=TrainConfig(num_steps=1000, accumulate=num_parts, remat=saving == "remat"),
    )  # fmt: skip
    task, make_networks = task_of(config), (cut if family else cyclegan).nets.make_networks
    mesh = parallel.make_mesh(jax.devices()[:1])
    state = parallel.replicate(mesh, lambda: task.init(config, keys.root_key(0)))
    noise = np.random.default_rng(0).integers(0, 256, (2, batch, *shape, 3), np.uint8)
    images = parallel.shard_batch(mesh, Batch(tuple(noise), np.arange(batch, dtype=np.int32)))
    seed, no_signal = parallel.replicate_scalar(mesh, 0), preemption.per_device(mesh)[0]
    step: Any = compile_train_step(task, config, mesh)

    def to_b(params: PyTree, images: jax.Array) -> jax.Array:
        with jax.default_matmul_precision(matmul_precision(config.precision)):
            return translation.translate(config, params, "a2b", images, make_networks)

    translate_fn = jax.jit(to_b)
    photographs = jax.device_put(noise[0].astype(np.float32) / 255)
    params = jax.tree.map(jnp.copy, state.ema)
    step_fn, seconds = _compile(step, state, images, seed, no_signal)
    translator, _ = _compile(translate_fn, params, photographs)
    before = {"compile_step_seconds": seconds, "temporary_mib": step_fn.memory_analysis().temp_size_in_bytes / 2**20}

    def train() -> None:
        nonlocal state
        state, *_ = jax.block_until_ready(step_fn(state, images, seed, no_signal))

    def translate() -> None:
        jax.block_until_ready(translator(params, photographs))

    def peak_mib() -> float | None:
        memory = jax.devices()[0].memory_stats() or {}
        return memory["peak_bytes_in_use"] / 2**20 if "peak_bytes_in_use" in memory else None

    def matmul_tflops() -> float:
        with jax.default_matmul_precision(matmul_precision(config.precision)):
            return _matmul_rate(layers.compute_dtype(config.precision) or jnp.dtype(jnp.float32))

    return Prepared({"step": train, "translate": translate}, before, peak_mib, matmul_tflops)


def _config(family: str, blocks: int, **common: Any) -> GanRun:
    """Makes the run of a family: "" for CycleGAN, cut, or fastcut, with the features that so many blocks have."""
    if not family:
        return CycleGanRun(cyclegan=CycleGanConfig(num_blocks=blocks), loss=cyclegan.losses.CLASSIC, **common)
    net, loss = CutConfig(num_blocks=blocks, mirror=family == "fastcut"), cut.losses.CUT
    return CutRun(cut=net, loss=cut.losses.FAST_CUT if net.mirror else loss, **common)


def _compile(fn: Any, *arguments: Any) -> tuple[Any, float]:
    began = time.perf_counter()
    compiled = fn.lower(*arguments).compile()
    return compiled, time.perf_counter() - began


def _matmul_rate(dtype: jnp.dtype) -> float:
    """Measures TFLOP/s of a product of square matrices, the best of 10."""
    side = 2048 if jax.default_backend() == "cpu" else 8192
    matrix = jax.random.normal(jax.random.key(0), (side, side), dtype)  # zeros and ones are multiplied faster
    product = jax.jit(jnp.matmul)
    taken = []
    for _ in range(11):
        began = time.perf_counter()
        jax.block_until_ready(product(matrix, matrix))
        taken.append(time.perf_counter() - began)
    return 2 * side**3 / min(taken[1:]) / 1e12
