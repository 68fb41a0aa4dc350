"""Trains CUT or FastCUT; the same command again resumes it.

$ python experiments/train_cut.py icons --workdir runs/cut-icons
"""

from typing import Any

from configs import cut
from genjax import cli


def main() -> dict[str, Any]:
    """Trains, and returns the results."""
    config = cli.choose_config(cut.CONFIGS)
    return cli.train(config)


if __name__ == "__main__":
    cli.run(main)
