"""Trains a CycleGAN; the same command again resumes it.

$ python experiments/train_cyclegan.py icons --workdir runs/icons
"""

from typing import Any

import cyclegan_configs
from parts import start

from genjax import cyclegan


def main() -> dict[str, Any]:
    """Trains, writes the report, and returns the results."""
    task, config = cyclegan.with_classifiers(start.choose_config(cyclegan_configs.CONFIGS))
    results = start.train(task, config)
    return {**results, "report": start.write_report(f"CycleGAN on {config.data.source}", config.workdir)}


if __name__ == "__main__":
    start.run(main)
