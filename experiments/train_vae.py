"""Trains a VAE; the same command again resumes it.

$ python experiments/train_vae.py digits --workdir runs/digits
"""

from typing import Any

import vae_configs
from parts import start

from genjax import vae


def main() -> dict[str, Any]:
    """Trains, writes the report, and returns the results."""
    config = start.choose_config(vae_configs.CONFIGS)
    results = start.train(vae.TASK, config)
    return {**results, "report": start.write_report(f"VAE on {config.data.source}", config.workdir)}


if __name__ == "__main__":
    start.run(main)
