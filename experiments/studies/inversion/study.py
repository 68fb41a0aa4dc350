"""Counts translations that swap light and dark early in training, with the residual and the classic form.

$ python experiments/study.py inversion --workdir runs/inversion

It trains both forms on gray-colour for 300 steps with each of ten seeds. Only the form of the generators differs. The
averaged generators are evaluated in both directions, every 50 steps on the validation images and at the end on the test
images. An image is inverted if its luminance and that of its translation correlate below 0. A run has moved if the mean
difference of an image from its translation into colour is above 0.01 at the end.
"""

import dataclasses
import json
from typing import Any, Literal

import tyro

from configs import cyclegan as cyclegan_configs
from genjax import cli, files, flag_help
from genjax.config import TrainConfig
from genjax.cyclegan import losses
from genjax.cyclegan.config import CycleGanConfig
from genjax.train.rows import METRICS, read_rows

EVAL_EVERY = 50
"""Steps between evaluations."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Options: number and length of the runs."""

    workdir: str
    """Directory for the runs; repeat the command to resume."""
    seeds: int = 10
    """Number of seeds (0, 1, ...) for each form."""
    num_steps: int = 300
    """Steps of each run, a multiple of 50."""


def main() -> dict[str, Any]:
    """Prints a row for each run; returns the numbers of runs of each form that inverted and that moved."""
    options = tyro.cli(Options, description=flag_help.description(__doc__))
    if options.seeds < 1 or options.num_steps < 1 or options.num_steps % EVAL_EVERY:
        raise ValueError(
            f"--seeds must be at least 1, and --num-steps a multiple of {EVAL_EVERY}: "
            f"got {options.seeds} and {options.num_steps}"
        )
    results: dict[str, Any] = {}
    for output in ("residual", "tanh"):
        rows = [_train(options, output, seed) for seed in range(options.seeds)]
        results |= {
            f"{output}.runs_with_an_inverted_image": sum(row["inverted"] > 0 for row in rows),
            f"{output}.runs_inverted_on_average": sum(row["correlation"] < 0 for row in rows),
            f"{output}.runs_moved": sum(row["change"] > 0.01 for row in rows),
            f"{output}.least_correlation": min(row["correlation"] for row in rows),
            f"{output}.least_change": min(row["change"] for row in rows),
        }
    return results


def _train(options: Options, output: Literal["residual", "tanh"], seed: int) -> dict[str, float]:
    """Trains a run; returns its worst evaluation (inverted, correlation), and change and L1 at the end."""
    base = cyclegan_configs.gray_colour()
    steps = options.num_steps
    config = dataclasses.replace(
        base,
        workdir=str(files.resolve(options.workdir) / f"{output}-{seed}"),
        seed=seed,
        optim=dataclasses.replace(base.optim, schedule="constant"),
        train=TrainConfig(num_steps=steps, eval_every=EVAL_EVERY, checkpoint_every=steps, num_sample_images=24),
        cyclegan=CycleGanConfig(output=output, base_channels=16, num_blocks=2, discriminator_channels=16),
        loss=losses.CLASSIC,
    )
    test = cli.train(config)
    evaluations = [test] + [
        {name.removeprefix("validation/"): value for name, value in row.items()}
        for row in read_rows(files.resolve(config.workdir) / METRICS)
        if "validation/inverted_a2b" in row
    ]
    ways = ("a2b", "b2a")
    row = {
        "inverted": max(metrics[f"inverted_{way}"] for metrics in evaluations for way in ways),
        "correlation": min(metrics[f"correlation_{way}"] for metrics in evaluations for way in ways),
        "change": test["change_a2b"],
        "l1": test["l1_a2b"],
    }
    print(json.dumps({"output": output, "seed": seed, **row}), flush=True)
    return row
