"""Trains on embedded data for a minute or two and writes a page to look at. No network, no accelerator.

$ python experiments/quickstart.py
"""

import dataclasses
import time
from pathlib import Path
from typing import Any

import _start
import tyro
import vae_configs

from genjax import report, vae


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quickstart:
    """Trains a small VAE on real digits, and writes report.html."""

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
    config = dataclasses.replace(vae_configs.quickstart(), workdir=f"{options.workdir}/vae", seed=options.seed)
    results = {f"vae.{name}": value for name, value in _start.train(vae.TASK, config).items()}
    report.write_report(path, "genjax quickstart", {"VAE: the digits of mnist5k": config.workdir})
    return {**results, "seconds": round(time.perf_counter() - began, 1), "report": str(path)}


if __name__ == "__main__":
    _start.run(main)
