"""Compares settings that seed_study.py trained with several seeds each: is the second better, or only luckier?

$ python experiments/seed_study.py vae:digits --workdir runs/beta-1
$ python experiments/seed_study.py vae:digits --vae.beta 4 --workdir runs/beta-4
$ python experiments/compare_studies.py runs/beta-1 runs/beta-4
$ python experiments/compare_studies.py runs/beta-1 runs/beta-4 --metric elbo rate --format latex --out table.tex

Runs with the same seed are paired: they share the order of images, the noise and, where the networks are equal, the
first parameters, so part of their luck may cancel. A paired difference may be clear where the two intervals overlap.
"""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import tyro

from genjax import cli, files, flag_help
from genjax.train.rows import finite
from studies.seeds import comparison, tables
from studies.seeds.comparison import Format, Study


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Options: the studies, and the form of the table."""

    studies: tyro.conf.Positional[tuple[str, ...]]
    """Two or more directories of seed_study.py; all are compared with the first."""
    metric: tuple[str, ...] = ()
    """Test metrics to show; default: those in the table of seed_study.py."""
    format: Format = "markdown"
    """markdown; latex, with booktabs; or csv, with all numbers in full."""
    out: str = ""
    """New file for the table; default: it is only printed."""


def main() -> dict[str, Any]:
    """Prints the table, writes it to --out, and returns its numbers."""
    options = tyro.cli(Options, description=flag_help.description(__doc__))
    if options.out and files.resolve(options.out).exists():
        raise ValueError(f"{options.out} exists already: give another --out")
    studies = read(options.studies)
    metrics = choose_metrics(studies, options.metric)
    (first_name, first), *_ = studies.items()
    found = {
        (metric, name): comparison.numbers(study, metric, None if study is first else first)
        for metric in metrics
        for name, study in studies.items()
    }
    table = comparison.table(found, options.format)
    print(table, *(["", comparison.note(first_name), ""] if options.format == "markdown" else []), sep="\n")
    if options.out:
        files.write_atomically(files.resolve(options.out), table + "\n")
    flat = {f"{name}.{metric}.{study}": value for (metric, study), of in found.items() for name, value in of.items()}
    return {"studies": len(studies), **finite(flat)}


def read(given: Sequence[str]) -> dict[str, Study]:
    """Reads studies by name, the first first; raises ValueError if they cannot be compared."""
    paths = [files.resolve(path) for path in given]
    if len(set(paths)) < max(2, len(paths)):
        raise ValueError(f"give two or more different studies, got {' '.join(given) or 'none'}")
    short = [path.name for path in paths]
    names = short if len(set(short)) == len(short) else given
    studies = dict(zip(names, map(comparison.read, paths), strict=True))
    first = studies[names[0]]
    for name, study in studies.items():
        if study.family != first.family:
            raise ValueError(
                f"{names[0]} is of the family {first.family}, {name} of {study.family}: compare within one"
            )
        if set(study.vary) != set(first.vary):
            vary = " and ".join(",".join(one.vary) for one in (first, study))
            raise ValueError(f"{names[0]} and {name} have --vary {vary}: compare studies with the same --vary")
        if None not in (study.images, first.images) and study.images != first.images:
            logging.warning(
                "%s was tested on other images than %s: differences are also those of images", name, names[0]
            )
    return studies


def choose_metrics(studies: Mapping[str, Study], asked: Sequence[str]) -> list[str]:
    """Returns the metrics to compare; raises ValueError for one that not all runs have."""
    runs = [run for study in studies.values() for run in study.metrics.values()]
    common = [metric for metric in runs[0] if all(metric in run for run in runs)]
    if missing := [metric for metric in asked if metric not in common]:
        raise ValueError(f"--metric {missing[0]}: the test metrics of all these runs are {', '.join(common)}")
    shown = tables.SHOWN[next(iter(studies.values())).family].table
    return list(dict.fromkeys(asked)) or [metric for metric in shown if metric in common]


if __name__ == "__main__":
    cli.run(main)
