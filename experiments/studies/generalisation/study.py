"""How far a translation carries: gray-colour trained in one part of the world, tested in it and in the other.

$ python experiments/generalisation_study.py --workdir runs/translation

The parts lie west and east of 30 degrees west. Runs are those of translation_study.py, with which the ones that train
everywhere are shared if the workdir is; the same command again resumes.
"""

import dataclasses
import logging
import time
from collections.abc import Mapping
from typing import Any, Literal

import tyro

from genjax import cli, cyclegan, files
from genjax.cyclegan.config import CycleGanRun
from genjax.data import sources
from genjax.data.splits import Splits
from genjax.loading import load_translator
from genjax.train.writers import finite
from studies.translation import rules, tables
from studies.translation import study as translation_study
from studies.translation.tables import Metrics

Part = Literal["west", "east", "everywhere"]
TRAINED: dict[Part, str] = {"west": "gray-colour-west", "east": "gray-colour-east", "everywhere": "gray-colour"}
TESTED: tuple[Part, ...] = ("west", "east")
FIGURES = ("l1", "psnr", "ssim", "inverted")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """Which runs."""

    workdir: str
    """Each run has a directory in WORKDIR/SOURCE; the table is generalisation.md."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of each part."""
    trained: tuple[Part, ...] = tuple(TRAINED)
    """Where the training images lie; all are tested on the images of both parts."""
    setting: translation_study.Name = "residual-identity"
    """As for translation_study.py."""
    num_steps: int | None = None
    """Steps of each run, where they are not the configuration's; the rate falls over the second half."""


def main() -> dict[str, Any]:
    """Trains in each part, and returns the mean figures of grey to colour in both, beside the rules'."""
    options, began = tyro.cli(Study, description=__doc__), time.perf_counter()
    cli.check_different(seeds=options.seeds, trained=options.trained)

    def run_of(where: Part, seed: int) -> CycleGanRun:
        return translation_study.run_of(options.workdir, TRAINED[where], options.setting, seed, options.num_steps)

    runs = {(where, seed): run_of(where, seed) for seed in options.seeds for where in options.trained}
    digests = [cli.train(cyclegan.TASK, run)["digest"] for run in runs.values()]

    splits = {where: sources.load(run_of(where, 0).data, seed=0) for where in TRAINED}
    found = {key: run_figures(run.workdir, splits) for key, run in runs.items()}
    rows: dict[str, list[Metrics]] = {"copy": [rule_figures("copy", splits, "everywhere")]}
    for where in TRAINED:
        rows[f"histogram matching, {where}"] = [rule_figures("histogram_matching", splits, where)]
    for where in options.trained:
        rows[f"trained {where}"] = [found[where, seed] for seed in options.seeds]
    every = {f"trained {where}, seed {seed}": [figures] for (where, seed), figures in found.items()}
    columns = [(test, name) for test in TESTED for name in FIGURES]
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


def run_figures(workdir: str, splits: Mapping[Part, Splits]) -> dict[str, dict[str, float]]:
    """A finished run's figures from A to B on the test pairs of each part."""
    translator = load_translator(workdir)
    return {where: rules.metrics(a, translator.a2b(a), b) for where in TESTED for a, b in [splits[where].test]}


def rule_figures(rule: str, splits: Mapping[Part, Splits], known: Part) -> dict[str, dict[str, float]]:
    """The figures of a rule that knows the training images of one part."""
    target = splits[known].train[1]
    return {
        where: rules.metrics(a, rules.predict(a, target)[rule], b) for where in TESTED for a, b in [splits[where].test]
    }


if __name__ == "__main__":
    cli.run(main)
