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

OF_TRAINING = "train_"
"""Beginning of the names of sets of training images, which stand beside generated ones."""


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
        of_images = _half(name, shown.metrics) and "95% interval over images"
        boxes.append(_box(name, _value(name, shown.metrics), of_images))
    of_this = [record for record in records if (record["step"], record["split"]) == (shown.step, shown.images)]
    for record in of_this[-1:]:  # the one that was measured last
        for name, one in record["sets"].items():
            if "kid" in one["metrics"] and not name.startswith(OF_TRAINING):
                kid, network = one["metrics"]["kid"], f"features of {record['features']['name']}"
                interval = f"95% interval {_interval(kid)}" if _interval(kid) else ""
                boxes.append(_box(f"kid_{name}", number(kid["value"]), interval, network))
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
    note = " · ".join(filter(None, [*notes, *about]))
    return tag("div", tag("dt", glossary.title(name)), tag("dd", value, class_="value"), tag("dd", note, class_="note"))


def sets(records: Sequence[Json]) -> Iterator[Element]:
    """Yields a table for each record of experiments/evaluate.py."""
    for record in records:
        network, found = record["features"], record["sets"]
        yield tag("h3", f"Pictures as a set, step {record['step']}")
        floor = any(name.startswith(OF_TRAINING) for name in found)
        what = f"Features of {network['name']}, {record['split']} images; 95% intervals in brackets."
        counts = [one[num] for one in found.values() for num in ("num_generated", "num_reference")]
        if min(counts, default=FEW) < FEW:
            what += f" Below {FEW:,} pictures prefer KID, which does not depend on their number."
        why = " Training images in place of generated ones show what a perfect model would get." if floor else ""
        yield tag("p", what + why, class_="soft")
        names = list(dict.fromkeys(metric for one in found.values() for metric in one["metrics"]))
        rows = [(_named(name), *(_cell(one["metrics"].get(name)) for one in found.values())) for name in names]
        yield table(rows, ("metric", *(_heading(name, one) for name, one in found.items())))


def _heading(name: str, one: Json) -> str:
    of = name.removeprefix(OF_TRAINING)
    words = glossary.PLACES.get(f"_{of}", of).removeprefix("of ")
    kind = "training images" if name.startswith(OF_TRAINING) else "generated"
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
