"""Tiny runs and images that many tests share."""

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from genjax.config import OptimConfig, TrainConfig
from genjax.cut import losses as cut_losses
from genjax.cut.config import CutConfig, CutRun
from genjax.cyclegan import losses
from genjax.cyclegan.config import CycleGanConfig, CycleGanRun
from genjax.data.config import DataConfig
from genjax.unit import losses as unit_losses
from genjax.unit.config import UnitConfig, UnitRun
from genjax.vae.config import VaeConfig, VaeRun

FLAGS: dict[str, Any] = {"xla_cpu_parallel_codegen_split_count": 1}
"""Options of XLA's compiler with which small programs compile in half the time."""

if jax.__version_info__ < (0, 11):  # later releases refuse an option that they do not have
    FLAGS["xla_cpu_use_fusion_emitters"] = False

CHEAP = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "XLA_FLAGS": " ".join(f"--{name}={FLAGS[name]}" for name in FLAGS)}
"""`cheaply_compiled` for a process that a test starts: environment variables."""


@contextlib.contextmanager
def cheaply_compiled():
    """XLA without most optimisations, in a fifth of the time: for what is compared with a tolerance, or not at all.

    Bits are compared only where another test shows the same of the machine code that users run. So nothing else should
    be compiled meanwhile that later tests might find in memory. On the disk the two kinds are kept apart.
    """
    jit, before = jax.jit, jax.config.read("jax_disable_most_optimizations")

    def cheap_jit(*args: Any, compiler_options: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        traced = isinstance(jnp.zeros(()), jax.core.Tracer)  # within a traced function JAX takes no options
        return jit(*args, **kwargs, compiler_options=None if traced else FLAGS | (compiler_options or {}))

    jax.jit = cheap_jit
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.jit = jit
        jax.config.update("jax_disable_most_optimizations", before)


def tiny_run(workdir: str, **changes: Any) -> VaeRun:
    """A tiny VAE on 8x8 digits with the given fields changed: `tiny_run(workdir, vae={"beta": 2.0}, seed=1)`."""
    run = VaeRun(
        workdir=workdir,
        data=DataConfig(source="digits", image_size=(8, 8), channels=(1,), batch_size=16, binarize="stochastic"),
        optim=OptimConfig(learning_rate=2e-3),
        train=TrainConfig(num_steps=12, log_every=2, eval_every=4, checkpoint_every=4),
        vae=VaeConfig(architecture="mlp", hidden_sizes=(16,), latent_dim=4, validation_draws=2, test_draws=2),
    )
    return changed(run, changes)


def tiny_cyclegan(workdir: str, **changes: Any) -> CycleGanRun:
    """A tiny CycleGAN between two sets of 16x16 noise, changed as for `tiny_run`; its data has to be put in place."""
    run = CycleGanRun(
        workdir=workdir,
        data=DataConfig(source="folder:unused", image_size=(16, 16), channels=(1, 1), batch_size=8),
        optim=OptimConfig(learning_rate=2e-3, b1=0.5),
        train=TrainConfig(
            num_steps=12, log_every=2, eval_every=4, checkpoint_every=4, num_sample_images=8, best_by="none"
        ),
        cyclegan=CycleGanConfig(
            base_channels=2, num_blocks=1, discriminator_channels=2, discriminator_layers=1, pool_size=12
        ),
        loss=losses.CLASSIC,
    )
    return changed(run, changes)


def tiny_cut(workdir: str, **changes: Any) -> CutRun:
    """A tiny CUT of the same data as `tiny_cyclegan`, changed as for `tiny_run`."""
    run = tiny_cyclegan(workdir)
    net = CutConfig(
        base_channels=2, num_blocks=1, discriminator_channels=2, discriminator_layers=1,
        features=("pixels", "down_2", "block_1"), num_patches=16, head_units=8,
    )  # fmt: skip
    made = CutRun(workdir=workdir, data=run.data, optim=run.optim, train=run.train, cut=net, loss=cut_losses.CUT)
    return changed(made, changes)


def tiny_unit(workdir: str, **changes: Any) -> UnitRun:
    """A tiny UNIT of the same data as `tiny_cyclegan`, changed as for `tiny_run`."""
    run = tiny_cyclegan(workdir)
    net = UnitConfig(base_channels=2, num_blocks=1, discriminator_channels=2, discriminator_layers=1)
    made = UnitRun(workdir=workdir, data=run.data, optim=run.optim, train=run.train, unit=net, loss=unit_losses.UNIT)
    return changed(made, changes)


def changed(run: Any, changes: dict[str, Any]) -> Any:
    """`run` with fields replaced, those of its parts given as dictionaries."""
    for name, change in changes.items():
        part = getattr(run, name)
        changes[name] = dataclasses.replace(part, **change) if isinstance(change, dict) else change
    return dataclasses.replace(run, **changes)


def write_noise(folder: Path, number: int, size: tuple[int, int] = (16, 16), suffix: str = ".png") -> None:
    """Colour images of noise, 0.png and so on, in a new folder."""
    rng = np.random.default_rng(number)
    folder.mkdir(parents=True)
    for i in range(number):
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(folder / f"{i}{suffix}")
