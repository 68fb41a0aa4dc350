"""Trains a CycleGAN; the same command again resumes it.

$ python experiments/train_cyclegan.py icons --workdir runs/icons
"""

from typing import Any

import _start
import cyclegan_configs

from genjax import cyclegan, report


def main() -> dict[str, Any]:
    """Trains, writes the report, and returns the results."""
    config = _start.choose_config(cyclegan_configs.CONFIGS)
    results = _start.train(cyclegan.TASK, config)
    title = f"CycleGAN on {config.data.source}"
    report.write_report(f"{config.workdir}/report.html", title, {"Training": config.workdir})
    return {**results, "report": f"{config.workdir}/report.html"}


if __name__ == "__main__":
    _start.run(main)
