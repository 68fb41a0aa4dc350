"""Does a translation turn light into dark at the start of training? The residual form against the classic one.

$ python experiments/inversion_study.py --workdir runs/inversion

Trains both forms on gray-colour for 300 steps with each of ten seeds, and reports for the test images of each run the
share that inverts (luminances of an image and its translation correlate below 0), the mean correlation, the L1 to the
truth, and how far translations have moved from their images. Only the generators' form differs.
"""

import dataclasses
import json
from typing import Any

import _start
import cyclegan_configs
import tyro

from genjax import cyclegan
from genjax.config import CycleGanConfig, TrainConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """How many runs, and of what length."""

    workdir: str
    """Each run has a directory in it; the same command again resumes."""
    seeds: int = 10
    """Seeds 0, 1, ... for each form."""
    num_steps: int = 300
    """Steps of each run."""


def main() -> dict[str, Any]:
    """A row for each run, then how many of each form inverted and how many moved."""
    options = tyro.cli(Study, description=__doc__)
    results: dict[str, Any] = {}
    for output in ("residual", "tanh"):
        rows = []
        for seed in range(options.seeds):
            base = cyclegan_configs.gray_colour()
            config = dataclasses.replace(
                base,
                workdir=f"{options.workdir}/{output}-{seed}",
                seed=seed,
                optim=dataclasses.replace(base.optim, schedule="constant", decay_steps=0),
                train=TrainConfig(num_steps=options.num_steps, eval_every=100, checkpoint_every=options.num_steps),
                cyclegan=CycleGanConfig(output=output, width=16, blocks=2, discriminator_width=16),
            )  # fmt: skip
            found = _start.train(cyclegan.TASK, config)
            rows.append({name: found[f"{name}_a2b"] for name in ("inverted", "correlation", "change", "l1")})
            print(json.dumps({"output": output, "seed": seed, **rows[-1]}), flush=True)
        results |= {
            f"{output}.runs_with_inversions": sum(row["inverted"] > 0 for row in rows),
            f"{output}.runs_inverted": sum(row["correlation"] < 0 for row in rows),
            f"{output}.runs_moved": sum(row["change"] > 0.01 for row in rows),
            f"{output}.least_correlation": min(row["correlation"] for row in rows),
            f"{output}.least_change": min(row["change"] for row in rows),
        }
    return results


if __name__ == "__main__":
    _start.run(main)
