"""Trains a VAE; the same command again resumes it.

$ python experiments/train_vae.py digits --workdir runs/digits
"""

from typing import Any

import _start
import vae_configs

from genjax import report, vae


def main() -> dict[str, Any]:
    """Trains, writes the report, and returns the results."""
    config = _start.choose_config(vae_configs.CONFIGS)
    results = _start.train(vae.TASK, config)
    report.write_report(f"{config.workdir}/report.html", f"VAE on {config.data.source}", {"Training": config.workdir})
    return {**results, "report": f"{config.workdir}/report.html"}


if __name__ == "__main__":
    _start.run(main)
