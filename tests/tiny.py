"""Tiny runs and images that many tests share."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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


def write_domains(root: Path, num: Sequence[int]) -> dict[str, str]:
    """Writes noise as trainA, trainB, testA and testB, `num` images each, and returns settings that read it."""
    for name, number in zip(("trainA", "trainB", "testA", "testB"), num, strict=True):
        write_noise(root / "images" / name, number)
    return {"source": f"folder:{root / 'images'}", "cache_dir": str(root / "cache")}
