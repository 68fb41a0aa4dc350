"""Trains a VAE; the same command again resumes it.

$ python experiments/train_vae.py digits --workdir runs/digits
"""

import time
from typing import Any

import _start
import vae_configs

from genjax import report, vae
from genjax.train import fit


def main() -> dict[str, Any]:
    """Trains, writes the report, and returns the results."""
    config = _start.choose_config(vae_configs.CONFIGS)
    began = time.perf_counter()
    result = fit(vae.TASK, config)
    report.write_report(f"{config.workdir}/report.html", "A VAE", [config.workdir])
    return _start.summarize(result, time.perf_counter() - began)


if __name__ == "__main__":
    _start.run(main)
