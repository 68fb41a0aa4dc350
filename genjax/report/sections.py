"""Sections of a run's part of the page: what it is, what came out, pictures, curves, and how to repeat it."""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element

from etils import epath

from genjax import files, glossary
from genjax.evaluation import best
from genjax.families import FAMILIES
from genjax.files import Json, flatten
from genjax.report import curves
from genjax.report.elements import details, number, pairs, picture, table, tag
from genjax.report.settings import explained
from genjax.task import Row, Task
from genjax.train.rows import read_rows

MOST_PICTURES = 12
"""Grids of a kind that the page holds; of more, evenly spaced ones."""

RECORDS = ("config", "data", "environment")


class Outcome(NamedTuple):
    """Metrics of the finished run on test images, or of the latest evaluation on validation images."""

    images: str
    step: object
    metrics: Json


@contextlib.contextmanager
def damage(run: epath.PathLike) -> Iterator[None]:
    """Turns errors of records of another form into one that names the run."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError) as error:  # valid JSON of another form
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"a record of the run in {run} is damaged ({reason}): restore it from a backup") from error


def of_run(workdir: epath.Path) -> Iterator[Element]:
    """Yields all sections of the run in `workdir`."""
    rows = list(read_rows(workdir / "metrics.jsonl"))
    config, data, environment = (files.read_json(workdir / f"{name}.json") for name in RECORDS)
    task = FAMILIES[config["family"]]
    yield tag("p", _summary(workdir, task, config, data, environment), class_="soft")
    outcome = _outcome(workdir, rows)
    if outcome is None:
        yield tag("p", "Not evaluated yet.")
    else:
        yield from _headline(task, config, outcome)
    yield from _checkpoints(task, config["train"]["best_by"], rows)
    yield from _warnings(rows)
    yield from _pictures(workdir / "samples")
    yield from _evaluations(workdir)
    if outcome is not None:
        yield from _metrics(outcome, task)
    yield from _curves(rows)
    yield from _repeat(workdir, config, data, environment)


def side_by_side(runs: Mapping[str, epath.Path]) -> Iterator[Element]:
    """Yields links to several runs, and a table of their metrics."""
    links = [tag("li", tag("a", heading, href=f"#run-{i}")) for i, heading in enumerate(runs, 1)]
    yield tag("nav", tag("ul", *links), aria_label="runs")
    found: dict[str, Outcome] = {}
    for heading, workdir in runs.items():
        with damage(workdir):
            if outcome := _outcome(workdir, list(read_rows(workdir / "metrics.jsonl"))):
                found[heading] = outcome
    names = [name for name in _ordered({n: 0 for one in found.values() for n in one.metrics})
             if sum(name in one.metrics for one in found.values()) > 1]  # fmt: skip
    if names:
        header = ("metric", *(f"{heading}: {one.images}, step {one.step}" for heading, one in found.items()))
        cells = ((number(one.metrics[name]) if name in one.metrics else "" for one in found.values()) for name in names)
        yield table(((glossary.title(name), *row) for name, row in zip(names, cells, strict=True)), header)


def _summary(workdir: epath.Path, task: Task, config: Json, data: Json, environment: Json) -> str:
    """Says what was trained on what, with which seed, on which machine, and how fast."""
    images = " and ".join(f"{array['shape'][0]:,}" for array in data["train"])
    size = "x".join(map(str, config["data"]["image_size"]))
    speed = sorted(row["images_per_second"] for row in read_rows(workdir / "timing.jsonl"))
    pace = f", {speed[len(speed) // 2]:,.0f} images a second (median)" if speed else ""
    return (
        f"{task.title}, trained on {images} images of {config['data']['source']} at {size} pixels; seed "
        f"{config['seed']}, {config['train']['num_steps']:,} steps of {config['data']['batch_size']} images, on "
        f"{environment.get('devices')} device(s) ({environment.get('device')}){pace}."
    )


def _outcome(workdir: epath.Path, rows: Sequence[Row]) -> Outcome | None:
    if (workdir / "result.json").exists():
        result = files.read_json(workdir / "result.json")
        return Outcome("test", result["step"], dict(result["test"]))
    for row in reversed(rows):
        if metrics := _validation(row):
            return Outcome("validation", row["step"], metrics)
    return None


def _validation(row: Row) -> Json:
    """Returns the metrics of an evaluation's row; none of a row of training."""
    return {name.removeprefix("validation/"): row[name] for name in row if name.startswith("validation/")}


def _headline(task: Task, config: Json, outcome: Outcome) -> Iterator[Element]:
    """Yields the figures that matter, large, with 95% intervals where the run knows them."""
    names = [name for name in task.headline if name in outcome.metrics]
    boxes = []
    for name in names:
        term = glossary.explain(name)
        error = outcome.metrics.get("elbo_image_se") if name == "elbo" else None
        interval = f" ± {1.96 * error:.2g}" if isinstance(error, float) else ""
        better = f"{term.better} is better" if term and term.better else ""
        unit = " · ".join(filter(None, [term.unit if term else "", better]))
        value = tag("dd", f"{number(outcome.metrics[name])}{interval}", class_="value")
        boxes.append(tag("div", tag("dt", glossary.title(name)), value, tag("dd", unit, class_="note")))
    if boxes:
        yield tag("dl", *boxes, class_="figures")
    where = f"On the {outcome.images} images after step {outcome.step}, by the averaged weights ({task.units})."
    yield tag("p", where, class_="soft")


def _checkpoints(task: Task, best_by: str, rows: Sequence[Row]) -> Iterator[Element]:
    """Yields the best checkpoint beside the last, by the run's own validation loss."""
    scored = []
    for row in rows:
        metrics = _validation(row)
        if metrics and (score := best.score(task, best_by, metrics)) is not None:
            scored.append((row["step"], score))
    if scored:
        step, score = min(scored, key=lambda pair: pair[1])
        last_step, last = scored[-1]
        yield tag(
            "p",
            f"Best of {len(scored)} evaluations on validation images, by {best_by}: step {step} with {number(score)}; "
            f"the last, step {last_step}, has {number(last)}.",
            class_="soft",
        )


def _warnings(rows: Sequence[Row]) -> Iterator[Element]:
    """Yields the warnings of the last row, and earlier ones; nothing for a family without a monitor."""
    watched = [(row["step"], row["warnings"]) for row in rows if "warnings" in row]
    if not watched:
        return
    step, now = watched[-1]
    yield tag("h3", "Warnings")
    if now:
        yield tag("ul", *(tag("li", sentence) for _, sentence in sorted(now.items())), class_="warning")
    else:
        yield tag("p", f"No warning at step {step}.")
    earlier = []
    for name in sorted({name for _, warnings in watched for name in warnings} - now.keys()):
        at = [step for step, warnings in watched if name in warnings]
        earlier.append(f"{name} (steps {at[0]} to {at[-1]})")
    if earlier:
        yield tag("p", f"Earlier: {', '.join(earlier)}.")


def _pictures(directory: epath.Path) -> Iterator[Element]:
    """Yields a figure for each kind of picture, from files named KIND-STEP.png; a slider steps through training."""
    kinds: dict[str, dict[int, epath.Path]] = {}
    for path in sorted(directory.iterdir() if directory.exists() else [], key=lambda path: path.name):
        if (found := re.fullmatch(r"(.+)-(\d+)", path.stem)) and path.suffix in (".png", ".webp"):
            kinds.setdefault(found[1], {})[int(found[2])] = path
    if not kinds:
        return
    yield tag("h3", "Pictures")
    figures = []
    for kind, by_step in sorted(kinds.items()):
        name, *columns = kind.split("_")
        title = f"{name}: {', '.join(columns)}" if columns else name
        steps = sorted(by_step)
        if len(steps) > MOST_PICTURES:
            steps = [steps[i * (len(steps) - 1) // (MOST_PICTURES - 1)] for i in range(MOST_PICTURES)]
        images = [_picture(by_step[step], f"{title}, step {step}") for step in steps]
        for image in images[:-1]:
            image.set("hidden", "hidden")
        caption = tag("figcaption", f"{title}, step {steps[-1]}")
        figures.append(tag("figure", *images, caption, class_="steps" if len(steps) > 1 else "one"))
    yield tag("div", *figures, class_="pictures")


def _picture(path: epath.Path, alt: str) -> Element:
    return picture(path.read_bytes(), path.suffix[1:], alt)


def _evaluations(workdir: epath.Path) -> Iterator[Element]:
    """Yields the tables that experiments/evaluate.py wrote, the latest step first."""
    named = [(re.fullmatch(r"evaluation-(\d+)\.json", path.name), path) for path in workdir.iterdir()]
    found = sorted(((int(name[1]), path) for name, path in named if name), reverse=True)
    for step, record in ((step, record) for step, path in found for record in files.read_json(path)):
        network, sets = record["features"], record["sets"]
        yield tag("h3", f"Pictures as a set, step {step}")
        what = f"Features of {network['name']}, {record['split']} images; 95% intervals in brackets."
        yield tag("p", what, class_="soft")
        names = list(dict.fromkeys(metric for one in sets.values() for metric in one["metrics"]))
        rows = [(glossary.title(name), *(_value(one["metrics"].get(name)) for one in sets.values())) for name in names]
        counts = {name: f"{one['num_generated']:,} and {one['num_reference']:,}" for name, one in sets.items()}
        yield table(rows, ("metric", *(f"{name} ({count})" for name, count in counts.items())))


def _value(metric: Json | None) -> str:
    if metric is None:
        return ""
    interval = f" ({number(metric['low'])} to {number(metric['high'])})" if metric.get("low") is not None else ""
    return f"{number(metric['value'])}{interval}"


def _metrics(outcome: Outcome, task: Task) -> Iterator[Element]:
    """Yields all metrics in words."""
    yield tag("h3", "All metrics")
    rows = []
    for name in _ordered(outcome.metrics):
        term = glossary.explain(name)
        unit, meaning = (term.unit, term.meaning) if term else ("", "")
        rows.append((glossary.title(name), number(outcome.metrics[name]), unit, meaning))
    yield table(rows, ("metric", f"{outcome.images}, step {outcome.step}", "unit", "meaning"))


def _ordered(metrics: Mapping[str, object]) -> list[str]:
    """Orders names by subject, as in the curves; unknown ones last."""
    subjects = list(curves.SUBJECTS)
    return sorted(metrics, key=lambda name: subjects.index(term.subject if (term := glossary.explain(name)) else ""))


def _curves(rows: Sequence[Row]) -> Iterator[Element]:
    drawn = list(curves.curves(rows))
    if drawn:
        yield tag("h3", "Curves")
        yield tag(
            "p", tag("span", "training", class_="t"), ", thin as logged, thick as a running mean; ",
            tag("span", "validation", class_="v"), ". Values before a tenth of the steps may lie outside.",
            class_="key soft",
        )  # fmt: skip
        yield from drawn


def _repeat(workdir: epath.Path, config: Json, data: Json, environment: Json) -> Iterator[Element]:
    """Yields commands, digest, and the records of the run."""
    yield tag("h3", "To repeat it")
    commands = workdir / "commands.txt"
    if commands.exists():
        yield tag("pre", commands.read_text().rstrip())
    if (workdir / "result.json").exists() and (digest := files.read_json(workdir / "result.json").get("digest")):
        promise = "The same command on the same machine and software ends with the state of SHA-256 "
        yield tag("p", promise, tag("code", str(digest)), ".")
    yield details("Configuration (config.json)", table(explained(config), ("flag", "value", "meaning")))
    yield details("Images (data.json)", table(pairs(flatten(data))))
    yield details("Environment (environment.json)", table(pairs(flatten(environment))))
