"""Results of a run in words: headline figures, tables of metrics, and what experiments/evaluate.py measured."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element

from etils import epath

from genjax import files, glossary
from genjax.evaluation import intervals
from genjax.files import Json
from genjax.report import curves
from genjax.report.elements import number, table, tag
from genjax.task import Row, Task

FEW = 2048
"""Number of pictures below which the Frechet distance says more of their number than of the model."""

OF_TRAINING, COPIES = "train_", "copy_"
"""Beginnings of the names of sets that stand beside generated ones: training images, and inputs of translations."""


class Outcome(NamedTuple):
    """Metrics of the finished run on test images, or of the latest evaluation on validation images."""

    images: str
    step: object
    metrics: Json


def outcome(workdir: epath.Path, rows: Sequence[Row]) -> Outcome | None:
    """Reads the result of a run; before there is one, its latest evaluation."""
    if (workdir / "result.json").exists():
        result = files.read_json(workdir / "result.json")
        return Outcome("test", result["step"], dict(result["test"]))
    for row in reversed(rows):
        if metrics := validation(row):
            return Outcome("validation", row["step"], metrics)
    return None


def validation(row: Row) -> Json:
    """Returns the metrics of an evaluation's row; none of a row of training."""
    return {name.removeprefix("validation/"): row[name] for name in row if name.startswith("validation/")}


def evaluations(workdir: epath.Path) -> list[Json]:
    """Reads the records that experiments/evaluate.py wrote, the latest step first."""
    named = [(re.fullmatch(r"evaluation-(\d+)\.json", path.name), path) for path in workdir.iterdir()]
    found = sorted(((int(name[1]), path) for name, path in named if name), reverse=True)
    return [record for _, path in found for record in files.read_json(path)]


def headline(task: Task, shown: Outcome, records: Sequence[Json]) -> Iterator[Element]:
    """Yields the figures that matter, large, with 95% intervals where the run knows them."""
    boxes = []
    for name in (name for name in task.headline if name in shown.metrics):
        notes = ["95% interval over images"] if _half(name, shown.metrics) else []
        # What doing nothing would get.
        if name == "l1_a2b" and "l1_copy" in shown.metrics:
            notes.append(f"of the input itself: {number(shown.metrics['l1_copy'])}")
        boxes.append(_box(name, _value(name, shown.metrics), *notes))
    of_this = [record for record in records if (record["step"], record["split"]) == (shown.step, shown.images)]
    # pixels tell little, so they stand here only if no network was asked
    of_this.sort(key=lambda record: record["features"]["name"] != "pixels")
    for record in of_this[-1:]:  # the one that was measured last
        for name, one in record["sets"].items():
            if "kid" in one["metrics"] and not name.startswith((OF_TRAINING, COPIES)):
                kid, network = one["metrics"]["kid"], f"features of {record['features']['name']}"
                interval = f"95% interval {_interval(kid)}" if _interval(kid) else ""
                beside = [
                    f"{words}: {number(other['metrics']['kid']['value'])}"
                    for kind, words in ((OF_TRAINING, "of training images"), (COPIES, "of the inputs"))
                    if (other := record["sets"].get(f"{kind}{name}")) and "kid" in other["metrics"]
                ]
                boxes.append(_box(f"kid_{name}", number(kid["value"]), interval, *beside, network))
    if boxes:
        yield tag("dl", *boxes, class_="figures")
    where = f"On the {shown.images} images after step {shown.step}, by the averaged weights ({task.units})."
    yield tag("p", where, class_="soft")


def _value(name: str, metrics: Json) -> str:
    """Formats a metric, with half of its 95% interval where the metrics hold its error."""
    return number(metrics[name]) + _half(name, metrics)


def _half(name: str, metrics: Json) -> str:
    error = metrics.get(name + glossary.ERROR)
    return f" ± {intervals.QUANTILE * error:.2g}" if isinstance(error, float) else ""


def _box(name: str, value: str, *notes: str) -> Element:
    term = glossary.explain(name)
    about = [term.unit, f"{term.better} is better" if term.better else ""] if term else []
    lines = filter(None, [*notes, " · ".join(filter(None, about))])
    below = (tag("dd", line, class_="note") for line in lines)
    return tag("div", tag("dt", glossary.title(name)), tag("dd", value, class_="value"), *below)


def sets(records: Sequence[Json]) -> Iterator[Element]:
    """Yields a table for each record of experiments/evaluate.py."""
    for record in records:
        network, found = record["features"], record["sets"]
        yield tag("h3", f"Pictures as a set, step {record['step']}, features of {network['name']}")
        floor = any(name.startswith(OF_TRAINING) for name in found)
        what = f"Compared with {record['split']} images; 95% intervals in brackets."
        counts = [one[num] for one in found.values() for num in ("num_generated", "num_reference")]
        if min(counts, default=FEW) < FEW:
            what += f" Below {FEW:,} pictures prefer KID, which does not depend on their number."
        why = " Training images in place of generated ones show what a perfect model would get." if floor else ""
        if any(name.startswith(COPIES) for name in found):
            why += " Inputs as they are, in place of translations, show what doing nothing would get."
        yield tag("p", what + why, class_="soft")
        names = list(dict.fromkeys(metric for one in found.values() for metric in one["metrics"]))
        rows = [(_named(name), *(_cell(one["metrics"].get(name)) for one in found.values())) for name in names]
        yield table(rows, ("metric", *(_heading(name, one) for name, one in found.items())))


def likelihoods(workdir: epath.Path) -> Iterator[Element]:
    """Yields a table for each step whose likelihood experiments/likelihood.py estimated."""
    is_record = re.compile(r"likelihood-\d+\.json").fullmatch
    for path in sorted((path for path in workdir.iterdir() if is_record(path.name)), key=lambda path: path.name):
        record = files.read_json(path)
        found = record["results"]
        yield tag("h3", f"Likelihood, step {record['step']}")
        names = dict.fromkeys(name for one in found for name in one if name not in ("method", "protocol"))
        single = [name for name in names if not any(isinstance(one.get(name), list) for one in found)]
        rows: list[Sequence[Element | str]] = [
            (_named(name), *(number(one[name]) if name in one else "" for one in found)) for name in single
        ]
        yield table(rows, ("metric", *(_protocol(one) for one in found)))


def _protocol(one: Json) -> str:
    """Says how a likelihood was estimated, such as iwae: 179 images, 5,000 samples."""
    protocol = one["protocol"]
    samples = f", {protocol['samples']:,} samples" if "samples" in protocol else ""
    return f"{one['method']}: {protocol['images']:,} images{samples}"


def _heading(name: str, one: Json) -> str:
    of = name.removeprefix(OF_TRAINING).removeprefix(COPIES)
    words = glossary.PLACES.get(f"_{of}", of).removeprefix("of ")
    kinds = {OF_TRAINING: "training images", COPIES: "inputs as they are"}
    kind = next((words for kind, words in kinds.items() if name.startswith(kind)), "generated")
    copied = f"; copies looked for among {one['num_training']:,} training images" if one.get("num_training") else ""
    return f"{words}: {one['num_generated']:,} {kind}, {one['num_reference']:,} real{copied}"


def _cell(metric: Json | None) -> Element | str:
    if metric is None:
        return ""
    interval = _interval(metric)
    return tag("span", number(metric["value"]), tag("small", f"({interval})" if interval else ""))


def _interval(metric: Json) -> str:
    return "" if metric.get("low") is None else f"{number(metric['low'])} to {number(metric['high'])}"


def metrics(shown: Outcome) -> Iterator[Element]:
    """Yields all metrics in words."""
    yield tag("h3", "All metrics")
    if any(name.endswith(glossary.ERROR) for name in shown.metrics):
        yield tag("p", "± is half of a 95% interval over other images.", class_="soft")
    rows = []
    for name in ordered(shown.metrics):
        term = glossary.explain(name)
        rows.append((_named(name), tag("span", _value(name, shown.metrics), tag("small", term.unit if term else ""))))
    yield table(rows, ("metric", f"{shown.images}, step {shown.step}"))


def compared(found: Mapping[str, Outcome]) -> Iterator[Element]:
    """Yields a table of the metrics that at least two runs have, a column for each run."""
    every = ordered({name: 0 for one in found.values() for name in one.metrics})
    names = [name for name in every if sum(name in one.metrics for one in found.values()) > 1]
    if names:
        header = ("metric", *(f"{heading}: {one.images}, step {one.step}" for heading, one in found.items()))
        cells = ((_value(name, one.metrics) if name in one.metrics else "" for one in found.values()) for name in names)
        yield table(((_named(name), *row) for name, row in zip(names, cells, strict=True)), header)


def _named(name: str) -> Element:
    """Makes the cell of a metric's name, with its meaning below."""
    term = glossary.explain(name)
    better = f" ({term.better} is better)" if term and term.better else ""
    return tag("span", glossary.title(name), tag("small", f"{term.meaning}{better}" if term else ""))


def ordered(names: Mapping[str, object]) -> list[str]:
    """Orders names by subject, as in the curves; unknown ones last. Errors stand beside what they are of."""
    subjects, kept = list(curves.SUBJECTS), [name for name in names if not name.endswith(glossary.ERROR)]
    return sorted(kept, key=lambda name: subjects.index(term.subject if (term := glossary.explain(name)) else ""))
