"""Trains a CycleGAN; the same command again resumes it.

$ python experiments/train_cyclegan.py icons --workdir runs/icons
"""

from typing import Any

from configs import cyclegan
from genjax import cli


def main() -> dict[str, Any]:
    """Trains, and returns the results."""
    config = cli.choose_config(cyclegan.CONFIGS)
    return cli.train(config)


if __name__ == "__main__":
    cli.run(main)
