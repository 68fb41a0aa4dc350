"""Compares the runs of two studies of seeds, metric by metric, and formats the table."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from etils import epath

from genjax import files
from genjax.train.rows import finite
from studies import latex, markdown
from studies.seeds import statistics, tables

Format = Literal["markdown", "latex", "csv"]
Numbers = Mapping[str, float]
"""Numbers of a study, or of its difference from the first, by name; those of the difference may be missing."""

HEADER = ("metric", "study", "mean", "paired difference", "p, paired", "difference", "p, Welch", "g", "bootstrap")


class Study(NamedTuple):
    """A finished study of seeds."""

    family: str
    vary: Sequence[str]
    """Streams whose seeds differ between its runs."""
    metrics: Mapping[int, Mapping[str, float]]
    """Test metrics by seed."""
    images: Any
    """Description of the images it was tested on; None if its runs are no longer there."""


def read(workdir: epath.Path) -> Study:
    """Reads study.json; raises ValueError if there is none, it is damaged, or its runs share seeds."""
    path = workdir / "study.json"
    if not path.exists():
        raise ValueError(f"{workdir} holds no study.json: give a --workdir of seed_study.py that has finished")
    record = files.read_json(path)
    known = isinstance(record, dict) and {"study", "design", "vary", "runs"} <= record.keys()
    if not known or (family := record["study"].partition(":")[0]) not in tables.SHOWN:
        raise ValueError(f"{path} is not a study's: give a --workdir of seed_study.py")
    if record["design"] == "crossed":
        raise ValueError(f"{workdir} is a crossed study, whose runs share seeds: compare studies without --design")
    metrics = {
        int(name.removeprefix("seed-")): {metric: tables.number(value) for metric, value in run["test"].items()}
        for name, run in record["runs"].items()
    }
    data = [files.resolve(workdir / name) / "data.json" for name in record["runs"]]
    images = [files.read_json(file)["test"] for file in data if file.exists()]
    return Study(family, record["vary"], metrics, images[0] if images else None)


def numbers(study: Study, metric: str, first: Study | None = None) -> dict[str, float]:
    """Computes mean and interval of a metric, and what its difference from the `first` study is.

    Paired numbers are over the seeds that both have, if these are two or more; Welch's and g are over all runs.
    """
    new = [run[metric] for run in study.metrics.values()]
    found: dict[str, float] = {"seeds": len(new), **statistics.summarize(new)._asdict()}
    if first is None:
        return found
    old = [run[metric] for run in first.metrics.values()]
    shared = sorted(study.metrics.keys() & first.metrics.keys())
    paired = len(shared) > 1
    drawn = (old, new)  # what the bootstrap draws from
    if paired:
        drawn = ([first.metrics[seed][metric] for seed in shared], [study.metrics[seed][metric] for seed in shared])
        found |= {"paired_seeds": len(shared)} | _named("paired", statistics.paired_difference(*drawn))
    found |= _named("welch", statistics.welch_difference(old, new))
    low, high = statistics.bootstrap_difference(*drawn, paired)
    return found | {"hedges_g": statistics.hedges_g(old, new), "bootstrap_low": low, "bootstrap_high": high}


def _named(kind: str, found: statistics.Difference) -> dict[str, float]:
    names = {"mean": f"{kind}_difference"}
    return {names.get(field, f"{kind}_{field}"): value for field, value in found._asdict().items()}


def table(found: Mapping[tuple[str, str], Numbers], form: Format) -> str:
    """Formats a line for each metric and study of `found`; CSV has every number in full."""
    if form == "csv":
        return _csv(found)
    formatted = markdown.table if form == "markdown" else latex.table
    return formatted(HEADER, [[metric, study, *_cells(of_study)] for (metric, study), of_study in found.items()])


def _csv(found: Mapping[tuple[str, str], Numbers]) -> str:
    columns = list(dict.fromkeys(name for of_study in found.values() for name in of_study))
    text = io.StringIO()
    writer = csv.DictWriter(text, ["metric", "study", *columns], lineterminator="\n")
    writer.writeheader()
    for (metric, study), of_study in found.items():
        writer.writerow({"metric": metric, "study": study} | finite(of_study))
    return text.getvalue().rstrip("\n")


def _cells(of_study: Numbers) -> list[str]:
    cells = [with_interval(of_study["mean"], of_study["high"], of_study["seeds"])]
    for kind, seeds in (("paired", of_study.get("paired_seeds")), ("welch", None)):
        if f"{kind}_p" in of_study:
            difference = with_interval(of_study[f"{kind}_difference"], of_study[f"{kind}_high"], seeds)
            cells += [difference, f"{of_study[f'{kind}_p']:#.2g}"]
        else:
            cells += ["", ""]
    if "hedges_g" not in of_study:
        return [*cells, "", ""]
    low, high = of_study["bootstrap_low"], of_study["bootstrap_high"]
    places = _places(high - low)
    return [*cells, f"{of_study['hedges_g']:.2f}", f"{low:.{places}f} to {high:.{places}f}"]


def with_interval(mean: float, high: float, seeds: float | None = None) -> str:
    """Formats `mean ± half of the interval (seeds)`, to two digits of the half."""
    places = _places(high - mean)
    return f"{mean:.{places}f} ± {high - mean:.{places}f}" + ("" if seeds is None else f" ({seeds:.0f})")


def _places(width: float) -> int:
    """Returns the decimal places that show two digits of `width`."""
    return max(0, 1 - math.floor(math.log10(width))) if width > 0 and math.isfinite(width) else 5


def note(first: str) -> str:
    """Explains the table."""
    return (
        f"Figures are mean ± half of the 95% interval (number of seeds). Differences are from {first}: paired by seed "
        "(Student's t), and over all runs (Welch's t). g is Hedges' effect size, the difference in standard deviations "
        "of a run. The bootstrap interval is of the paired difference, where there is one; below about ten seeds it is "
        "too narrow. No p is corrected for the number of comparisons: choose the metric before you look."
    )
