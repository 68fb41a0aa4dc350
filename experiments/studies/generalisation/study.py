"""Trains gray-colour on one part of the world, and tests it on that part and on the other.

$ python experiments/study.py generalisation --workdir runs/translation

The parts lie west and east of 30 degrees west. Runs on the whole world are those of the study translation; with the
same workdir they are not trained again. Repeat the command to resume.
"""

import dataclasses
import logging
import time
from collections.abc import Mapping
from typing import Any, Literal

import tyro

from genjax import cli, files, flag_help
from genjax.cyclegan.config import CycleGanRun
from genjax.data import sources
from genjax.data.splits import Splits
from genjax.loading import load_translator
from genjax.train.rows import finite
from studies.translation import rules, tables
from studies.translation import study as translation_study
from studies.translation.tables import Metrics

Part = Literal["west", "east", "everywhere"]
TRAINED: dict[Part, str] = {"west": "gray-colour-west", "east": "gray-colour-east", "everywhere": "gray-colour"}
TESTED: tuple[Part, ...] = ("west", "east")
METRICS = ("l1", "psnr", "ssim", "inverted")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Options: the runs."""

    workdir: str
    """Directory of the study; runs are in WORKDIR/SOURCE/..., the tables in WORKDIR/generalisation.md."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds for each part."""
    trained: tuple[Part, ...] = tuple(TRAINED)
    """Parts to train on; every run is tested on both parts."""
    setting: translation_study.Name = "residual-identity"
    """Form and losses of the generators, as in the study translation."""
    num_steps: int | None = None
    """Steps of each run instead of the configuration's; the learning rate decays over the second half."""


def main() -> dict[str, Any]:
    """Trains on each part; returns mean metrics from grey to colour on both parts, and those of the rules."""
    options, began = tyro.cli(Options, description=flag_help.description(__doc__)), time.perf_counter()
    cli.check_different(seeds=options.seeds, trained=options.trained)

    def run_of(where: Part, seed: int) -> CycleGanRun:
        return translation_study.run_of(options.workdir, TRAINED[where], options.setting, seed, options.num_steps)

    runs = {(where, seed): run_of(where, seed) for seed in options.seeds for where in options.trained}
    digests = [cli.train(run)["digest"] for run in runs.values()]

    splits = {where: sources.load(run_of(where, 0).data, seed=0) for where in TRAINED}
    measured = {key: run_metrics(run.workdir, splits) for key, run in runs.items()}
    rows: dict[str, list[Metrics]] = {"copy": [rule_metrics("copy", splits, "everywhere")]}
    for where in TRAINED:
        rows[f"histogram matching, {where}"] = [rule_metrics("histogram_matching", splits, where)]
    for where in options.trained:
        rows[f"trained {where}"] = [measured[where, seed] for seed in options.seeds]
    every = {f"trained {where}, seed {seed}": [metrics] for (where, seed), metrics in measured.items()}
    columns = [(test, name) for test in TESTED for name in METRICS]
    written = [
        tables.table("grey to colour", rows, columns),
        tables.table("run", every, columns, {"digest": [f"`{digest[:8]}`" for digest in digests]}),
    ]
    place = files.resolve(options.workdir) / "generalisation.md"
    files.write_atomically(place, "\n\n".join(written).encode())
    logging.info("\n%s", "\n\n".join(written))
    means = {name.replace(", ", "_").replace(" ", "_"): tables.mean(of) for name, of in rows.items()}
    flat = {f"{name}.{key}": value for name, of in means.items() for key, value in of.items()}
    return {"runs": len(runs), "seconds": round(time.perf_counter() - began, 1), **finite(flat), "tables": str(place)}


def run_metrics(workdir: str, splits: Mapping[Part, Splits]) -> Metrics:
    """Measures a finished run from A to B on the test pairs of each part."""
    translator = load_translator(workdir)
    return {where: rules.metrics(a, translator.a2b(a), b) for where in TESTED for a, b in [splits[where].test]}


def rule_metrics(rule: str, splits: Mapping[Part, Splits], known: Part) -> Metrics:
    """Measures a rule that uses the training images of one part."""
    target = splits[known].train[1]
    return {
        where: rules.metrics(a, rules.predict(a, target)[rule], b) for where in TESTED for a, b in [splits[where].test]
    }
