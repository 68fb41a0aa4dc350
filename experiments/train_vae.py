"""Trains a VAE; the same command again resumes it.

$ python experiments/train_vae.py mnist5k --workdir runs/mnist5k
"""

from typing import Any

from configs import vae
from genjax import cli


def main() -> dict[str, Any]:
    """Trains, and returns the results."""
    config = cli.choose_config(vae.CONFIGS)
    return cli.train(config)


if __name__ == "__main__":
    cli.run(main)
