"""Measures the runs of seed studies as sets of pictures, beside real pictures and rules without a network.

$ python experiments/seed_study.py cyclegan:icons --seeds 0 1 2 --train.best-by kid:alexnet --workdir runs/icons
$ python experiments/study.py evaluation --studies runs/icons runs/faces

For each study it prints a table: metrics of the last checkpoints, mean and 95% interval over the seeds; of as many real
training pictures (the floor: no model should be expected below it); and of rules without a network (a ceiling of bad).
Where validation rows hold KID and the L1 to hidden pairs, it also tells if KID chooses the checkpoint that pairs would.
"""

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tyro
from scipy import stats

from evaluate import cell
from genjax import files, flag_help, glossary, parallel
from genjax.evaluation import features, perceptual
from genjax.evaluation.intervals import Interval
from genjax.evaluation.picture_sets import METRICS, Measured, Sets, compile_measure
from genjax.keys import SCORING_SEED
from genjax.train import config_file
from genjax.train.rows import METRICS as ROWS
from genjax.train.rows import read_rows
from studies import markdown
from studies.evaluation.sets import sets_of_run
from studies.seeds import statistics
from studies.translation import rules


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Options: the studies, and how to measure them."""

    studies: tuple[str, ...]
    """Directories of seed studies with two or more finished runs each."""
    features: str = "alexnet"
    """Network whose features are compared, as for evaluate.py."""
    num: int = 1000
    """Largest number of pictures in a set."""


def main() -> dict[str, Any]:
    """Measures each study, prints its tables, and returns the means over seeds."""
    options = tyro.cli(Options, description=flag_help.description(__doc__))
    mesh = parallel.make_mesh()
    measure = compile_measure(features.load(options.features), mesh)
    results: dict[str, Any] = {}
    for study in options.studies:
        runs = sorted(files.resolve(study).glob("seed-*/config.json"))
        if len(runs) < 2:
            raise ValueError(f"{study} holds {len(runs)} runs seed-K, and two or more are needed: train them first")
        columns: dict[str, list[Measured]] = {}
        for run in runs:
            logging.info("measuring %s", run.parent)
            perceptual.check_judge(config_file.load(run.parent), options.features, "--features ")
            sets, _ = sets_of_run(str(run.parent), "last", "test", options.num, SCORING_SEED, mesh)
            for name, each in with_rules(sets) if run == runs[0] else own(sets):
                columns.setdefault(name, []).append(measure(each))
        print(f"\n## {files.resolve(study).name}\n\n{table(columns)}")
        found = [agreement(list(read_rows(run.parent / ROWS))) for run in runs]
        if chosen := [one for one in found if one is not None]:
            print(f"\n{sentence(chosen)}")
            results[f"{files.resolve(study).name}.rank_correlation"] = float(np.mean([one.rank for one in chosen]))
        results |= {
            f"{files.resolve(study).name}.{metric}_{name}": float(
                np.mean([one.metrics[metric].value for one in measured])
            )
            for name, measured in columns.items()
            for metric in measured[0].metrics
        }
    return results


def own(sets: Mapping[str, Sets]) -> Iterator[tuple[str, Sets]]:
    """Yields the sets that a run generates, without those of training pictures, which all seeds share."""
    yield from ((name, each) for name, each in sets.items() if not name.startswith("train_"))


def with_rules(sets: Mapping[str, Sets]) -> Iterator[tuple[str, Sets]]:
    """Yields each set, followed by the same as rules without a network would make it."""
    for name, each in sets.items():
        yield name, each
        yield from ruled(name, each).items()


def ruled(name: str, each: Sets) -> dict[str, Sets]:
    """Returns the same set as rules without a network would make it; nothing for real pictures."""
    if name.startswith("train_") or each.train is None:
        return {}
    if each.inputs is None:
        # Pixels of random training pictures: right level and spread at each place, and nothing in common.
        rng = np.random.default_rng(SCORING_SEED)
        rows = rng.integers(len(each.train), size=(len(each.pictures), *each.train.shape[1:]))
        places = np.indices(each.train.shape[1:])
        return {f"{name} of mixed pixels": each._replace(pictures=each.train[(rows, *places)])}
    made = rules.predict(each.inputs, each.train)
    chosen = {rule: made[rule] for rule in ("copy", "histogram_matching") if each.inputs.shape == each.pictures.shape}
    return {
        f"{name} by {rule}": each._replace(pictures=pictures.astype(np.float32)) for rule, pictures in chosen.items()
    }


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Agreement of KID and of L1 to hidden pairs over the evaluations of a run."""

    num: int
    rank: float  # Spearman's correlation
    chosen: float  # L1 of the checkpoint with the lowest KID
    lowest: float  # lowest L1
    last: float  # L1 of the last evaluation


def agreement(rows: Sequence[Mapping[str, Any]]) -> Agreement | None:
    """Compares KID and L1, means over both directions, over the validation rows of a run; None without both."""
    names = [f"validation/{metric}_{way}" for metric in ("kid", "l1") for way in ("a2b", "b2a")]
    found = np.array([[row[name] for name in names] for row in rows if all(name in row for name in names)], float)
    if len(found) < 3:
        return None
    kid, l1 = found[:, :2].mean(axis=1), found[:, 2:].mean(axis=1)
    rank = float(stats.spearmanr(kid, l1).statistic)
    return Agreement(len(found), rank, float(l1[kid.argmin()]), float(l1.min()), float(l1[-1]))


def sentence(found: Sequence[Agreement]) -> str:
    """Says whether KID chooses checkpoints that hidden pairs agree with."""
    each = "; ".join(
        f"{one.rank:.2f} over {one.num} evaluations, L1 {one.chosen:.4f} where KID is lowest, "
        f"{one.lowest:.4f} at best, {one.last:.4f} at the end"
        for one in found
    )
    return f"Rank correlation of KID with L1 on validation pairs, by seed: {each}."


def table(columns: Mapping[str, Sequence[Measured]]) -> str:
    """Formats metrics by set: mean and 95% interval over seeds, or a single set with its own interval."""
    names = [name for name in METRICS if any(name in one[0].metrics for one in columns.values())]
    header = ["metric", *(f"{name} ({one[0].num_pictures:,})" for name, one in columns.items())]
    rows = [[glossary.title(name), *(over_seeds(name, one) for one in columns.values())] for name in names]
    return markdown.table(header, rows)


def over_seeds(metric: str, measured: Sequence[Measured]) -> str:
    """Formats one metric of one column; empty where it does not apply."""
    if metric not in measured[0].metrics:
        return ""
    if len(measured) == 1:
        return cell(measured[0].metrics[metric])
    summary = statistics.summarize([one.metrics[metric].value for one in measured])
    return cell(Interval(summary.mean, summary.low, summary.high))
