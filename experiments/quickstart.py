"""Trains both families on embedded data for a few minutes and writes a page to look at. No network, no accelerator.

$ python experiments/quickstart.py
"""

import dataclasses
import time
from typing import Any

import numpy as np
import tyro

import restored_pictures
from configs import cyclegan as cyclegan_configs
from configs import vae as vae_configs
from genjax import cli, cyclegan, files, keys, report, vae
from genjax.config import seed_of
from genjax.data import image_arrays, sources
from genjax.loading import load_sampler
from genjax.task import Task
from genjax.vae import masks, restoration
from genjax.vae.inference import Effort


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quickstart:
    """Trains a small VAE on real digits and a small CycleGAN on icons, and writes report.html."""

    workdir: str = "runs/quickstart"
    """Where everything goes; the same directory again resumes what is there."""
    seed: int = 0
    """Everything random follows from it."""


def main() -> dict[str, Any]:
    """Trains each family and returns its results under its name."""
    options = tyro.cli(Quickstart, description=__doc__)
    workdir, began = files.resolve(options.workdir), time.perf_counter()
    path = workdir / "report.html"
    if path.exists() and not (workdir / "vae" / "config.json").exists():
        raise ValueError(f"{path} is not this script's: choose another --workdir")
    families: dict[str, tuple[str, Task, Any]] = {
        "vae": ("VAE: the digits of mnist5k", vae.TASK, vae_configs.quickstart()),
        "cyclegan": ("CycleGAN: outlines of icons, filled", cyclegan.TASK, cyclegan_configs.quickstart()),
    }
    results: dict[str, Any] = {}
    runs = {}
    for family, (heading, task, config) in families.items():
        config = dataclasses.replace(config, workdir=str(workdir / family), seed=options.seed)
        results |= {f"{family}.{name}": value for name, value in cli.train(task, config).items()}
        runs[heading] = config.workdir
        if family == "vae":
            _draw_restorations(config.workdir)
        report.write_report(path, "genjax quickstart", runs)
    return {**results, "seconds": round(time.perf_counter() - began, 1), "report": str(path)}


def _draw_restorations(workdir: str, num: int = 8) -> None:
    """Completes and enlarges a few test digits, as pictures among the run's samples, which the report shows."""
    sampler, effort = load_sampler(workdir), Effort(chains=4, restarts=4)
    config, params, key = sampler.config, sampler.params, keys.root_key(0)
    (test,) = sources.load(config.data, seed_of(config, "data")).test
    digits = test[np.linspace(0, len(test) - 1, num).astype(int)]
    truth, mask = (
        image_arrays.unit_floats(digits),
        masks.named("half-right", key, np.arange(num), config.data.image_size),
    )
    filled = restoration.inpaint(config, params, key, digits, mask, num_samples=4, effort=effort).images
    small = restoration.downsample(truth, 4, "box")
    large = restoration.super_resolve(config, params, key, small, 4, num_samples=4, effort=effort).images
    pictures = {
        "inpainting_observed_4 samples_mean_truth": (np.where(mask[..., None], 0.5, truth), filled),
        "super-resolution_given_4 samples_mean_truth": (small.repeat(4, axis=1).repeat(4, axis=2), large),
    }
    for name, (given, found) in pictures.items():
        columns = [given, *found.swapaxes(0, 1), found.mean(axis=1), truth]
        restored_pictures.write_grid(files.resolve(workdir) / "samples" / f"{name}-{sampler.step:08d}.png", columns)


if __name__ == "__main__":
    cli.run(main)
