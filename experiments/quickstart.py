"""Trains a VAE and a CycleGAN on demo data for a few minutes, and writes a report.

It needs no network and no accelerator.

$ python experiments/quickstart.py
"""

import dataclasses
import logging
import time
from typing import Any

import numpy as np
import tyro

import sample
from configs import cyclegan as cyclegan_configs
from configs import vae as vae_configs
from genjax import cli, files, flag_help, keys, report
from genjax.config import RunConfig, seed_of
from genjax.data import image_arrays, sources
from genjax.loading import load_sampler
from genjax.vae import masks, restored_files
from genjax.vae.inference import InferenceConfig
from genjax.vae.operators import Downsample, Mask


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quickstart:
    """Trains a small VAE on real digits and a small CycleGAN on icons, and writes report.html."""

    workdir: str = "runs/quickstart"
    """Directory for both runs and the report; with the same directory, the command resumes."""
    seed: int = 0
    """Seed of all randomness."""


def main() -> dict[str, Any]:
    """Trains each family and returns its results under its name."""
    options = tyro.cli(Quickstart, description=flag_help.description(__doc__))
    workdir, began = files.resolve(options.workdir), time.perf_counter()
    path = workdir / "report.html"
    if path.exists() and not (workdir / "vae" / "config.json").exists():
        raise ValueError(f"{path} is not this script's: choose another --workdir")
    families: dict[str, tuple[str, RunConfig]] = {
        "vae": ("VAE: the digits of mnist5k", vae_configs.quickstart()),
        "cyclegan": ("CycleGAN: outlines of icons, filled", cyclegan_configs.quickstart()),
    }
    results: dict[str, Any] = {}
    runs = {}
    for number, (family, (heading, config)) in enumerate(families.items(), 1):
        config = dataclasses.replace(config, workdir=str(workdir / family), seed=options.seed)
        found = cli.train(config, heading=f"{number} of {len(families)}: {cli.title(config)}")
        results |= {f"{family}.{name}": value for name, value in found.items()}
        runs[heading] = config.workdir
        if family == "vae":
            _write_restorations(config.workdir)
        report.write_report(path, "genjax quickstart", runs)
    logging.info("open %s in a browser: it shows what was learned", path)
    return {**results, "seconds": round(time.perf_counter() - began, 1), "report": str(path)}


def _write_restorations(workdir: str, num: int = 8) -> None:
    """Completes, enlarges and interpolates a few test digits, and writes the pictures to the run's samples."""
    logging.info("completing and enlarging %d test digits ...", num)
    sampler = load_sampler(workdir)
    inference = InferenceConfig(num_particles=4, num_restarts=1, num_ascent_steps=40, num_warmup=8, thinning=2)
    key, data = keys.root_key(0), sampler.config.data
    (test,) = sources.load(data, seed_of(sampler.config, "data")).test
    truth = image_arrays.unit_floats(image_arrays.evenly_spaced(test, num))
    missing, downsample = masks.named("half-right", key, np.arange(num), data.image_size), Downsample(4)
    small = downsample.apply(truth)
    filled, large = (
        sampler.restore(operator, observed, key, num_samples=4, inference=inference).images
        for operator, observed in ((Mask(missing), truth), (downsample, small))
    )
    pictures = {
        "inpainting_observed_4 samples_mean_truth": (np.where(missing[..., None], 0.5, truth), filled),
        "super-resolution_given_4 samples_mean_truth": (small.repeat(4, axis=1).repeat(4, axis=2), large),
    }
    directory = files.resolve(workdir) / "samples"
    for name, (observed, samples) in pictures.items():
        restored_files.write_grid(directory / f"{name}-{sampler.step:08d}.png", observed, samples, truth)
    ends = image_arrays.evenly_spaced(test, 2 * num)
    rows = [sampler.interpolate(start, end, 12) for start, end in zip(ends[::2], ends[1::2], strict=True)]
    moving = sample.animation(image_arrays.enlarged(image_arrays.to_uint8(np.concatenate(rows))), 12)
    files.write_atomically(directory / f"interpolations-{sampler.step:08d}.webp", moving)


if __name__ == "__main__":
    cli.run(main)
