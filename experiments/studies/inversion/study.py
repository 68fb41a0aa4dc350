"""Does a translation turn light into dark at the start of training? The residual form against the classic one.

$ PYTHONPATH=experiments python -m studies.collapse.inversion --workdir runs/inversion

Trains both forms on gray-colour for 300 steps with each of ten seeds. Only the generators' form differs. Translations
by the averaged generators, in both directions, are looked at every 50 steps on the validation images and at the end on
the test images: an image inverts if the luminances of it and its translation correlate below 0. A run has moved if the
mean difference of an image from its translation into colour is above 0.01 at the end.
"""

import dataclasses
import json
from typing import Any, Literal

import tyro

from configs import cyclegan as cyclegan_configs
from genjax import cli, files
from genjax.config import TrainConfig
from genjax.cyclegan import losses
from genjax.cyclegan.config import CycleGanConfig
from genjax.train.writers import read_rows

LOOK = 50
"""Steps from one look at the translations to the next."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """How many runs, and of what length."""

    workdir: str
    """Each run has a directory in it; the same command again resumes."""
    seeds: int = 10
    """Seeds 0, 1, ... for each form."""
    num_steps: int = 300
    """Steps of each run, a multiple of 50."""


def main() -> dict[str, Any]:
    """A row for each run, then how many of each form inverted and how many moved."""
    options = tyro.cli(Study, description=__doc__)
    if options.seeds < 1 or options.num_steps < 1 or options.num_steps % LOOK:
        raise ValueError(
            f"--seeds must be at least 1 and --num-steps a multiple of {LOOK}, the steps between two looks"
        )
    results: dict[str, Any] = {}
    for output in ("residual", "tanh"):
        rows = [_run(options, output, seed) for seed in range(options.seeds)]
        results |= {
            f"{output}.runs_with_an_inverted_image": sum(row["inverted"] > 0 for row in rows),
            f"{output}.runs_inverted_on_average": sum(row["correlation"] < 0 for row in rows),
            f"{output}.runs_moved": sum(row["change"] > 0.01 for row in rows),
            f"{output}.least_correlation": min(row["correlation"] for row in rows),
            f"{output}.least_change": min(row["change"] for row in rows),
        }
    return results


def _run(options: Study, output: Literal["residual", "tanh"], seed: int) -> dict[str, float]:
    """The worst of a run's looks: most images inverted, least mean correlation; and its change and L1 at the end."""
    base = cyclegan_configs.gray_colour()
    steps = options.num_steps
    config = dataclasses.replace(
        base,
        workdir=str(files.resolve(options.workdir) / f"{output}-{seed}"),
        seed=seed,
        optim=dataclasses.replace(base.optim, schedule="constant", decay_steps=0),
        train=TrainConfig(num_steps=steps, eval_every=LOOK, checkpoint_every=steps, num_sample_images=24),
        cyclegan=CycleGanConfig(output=output, base_channels=16, num_blocks=2, discriminator_channels=16),
        loss=losses.CLASSIC,
    )
    found = cli.train(config)
    looks = [found] + [
        {name.removeprefix("validation/"): value for name, value in row.items()}
        for row in read_rows(files.resolve(config.workdir) / "metrics.jsonl")
        if "validation/inverted_a2b" in row
    ]
    row = {
        "inverted": max(look[f"inverted_{direction}"] for look in looks for direction in ("a2b", "b2a")),
        "correlation": min(look[f"correlation_{direction}"] for look in looks for direction in ("a2b", "b2a")),
        "change": found["change_a2b"],
        "l1": found["l1_a2b"],
    }
    print(json.dumps({"output": output, "seed": seed, **row}), flush=True)
    return row


if __name__ == "__main__":
    cli.run(main)
