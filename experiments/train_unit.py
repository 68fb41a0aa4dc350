"""Trains UNIT; the same command again resumes it.

$ python experiments/train_unit.py icons --workdir runs/unit-icons
"""

from typing import Any

from configs import unit
from genjax import cli


def main() -> dict[str, Any]:
    """Trains, and returns the results."""
    config = cli.choose_config(unit.CONFIGS)
    return cli.train(config)


if __name__ == "__main__":
    cli.run(main)
