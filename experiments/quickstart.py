"""Trains both families on embedded data for a few minutes and writes a page to look at. No network, no accelerator.

$ python experiments/quickstart.py
"""

import dataclasses
import time
from pathlib import Path
from typing import Any

import _start
import cyclegan_configs
import tyro
import vae_configs

from genjax import cyclegan, report, vae
from genjax.task import Task


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
    path, began = Path(options.workdir, "report.html"), time.perf_counter()
    if path.exists() and not Path(options.workdir, "vae", "config.json").exists():
        raise ValueError(f"{path} is not this script's: choose another --workdir")
    families: dict[str, tuple[str, Task, Any]] = {
        "vae": ("VAE: the digits of mnist5k", vae.TASK, vae_configs.quickstart()),
        "cyclegan": ("CycleGAN: outlines of icons, filled", cyclegan.TASK, cyclegan_configs.quickstart()),
    }
    results: dict[str, Any] = {}
    runs = {}
    for family, (heading, task, config) in families.items():
        config = dataclasses.replace(config, workdir=f"{options.workdir}/{family}", seed=options.seed)
        results |= {f"{family}.{name}": value for name, value in _start.train(task, config).items()}
        runs[heading] = config.workdir
        report.write_report(path, "genjax quickstart", runs)
    return {**results, "seconds": round(time.perf_counter() - began, 1), "report": str(path)}


if __name__ == "__main__":
    _start.run(main)
