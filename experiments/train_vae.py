"""Trains a VAE; the same command again resumes it.

$ python experiments/train_vae.py digits --workdir runs/digits
"""

from typing import Any

import _start
import vae_configs

from genjax import vae


def main() -> dict[str, Any]:
    """Trains, writes the report, and returns the results."""
    config = _start.choose_config(vae_configs.CONFIGS)
    results = _start.train(vae.TASK, config)
    return {**results, "report": _start.write_report(f"VAE on {config.data.source}", config.workdir)}


if __name__ == "__main__":
    _start.run(main)
