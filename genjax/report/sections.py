"""Sections of a run's part of the page: settings, results, pictures, curves, and how to repeat it."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from xml.etree.ElementTree import Element

from etils import epath

from genjax import files, glossary
from genjax.evaluation import best
from genjax.families import FAMILIES
from genjax.files import Json, flatten
from genjax.report import curves, pictures, results
from genjax.report.elements import details, number, pairs, table, tag
from genjax.report.settings import explained
from genjax.task import Row, Task
from genjax.train.rows import read_rows

RECORDS = ("config", "data", "environment")


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
    outcome, evaluations = results.outcome(workdir, rows), results.evaluations(workdir)
    if outcome is None:
        yield tag("p", "Not evaluated yet.")
    else:
        yield from results.headline(task, outcome, evaluations)
    yield from _checkpoints(task, config["train"], rows, workdir / "checkpoints")
    yield from _warnings(rows)
    yield from pictures.pictures(workdir / "samples")
    yield from results.sets(evaluations)
    yield from results.likelihoods(workdir)
    if outcome is not None:
        yield from results.metrics(outcome)
    yield from _curves(rows)
    yield from _repeat(workdir, config, data, environment)


def side_by_side(runs: Mapping[str, epath.Path]) -> Iterator[Element]:
    """Yields links to several runs, and a table of their metrics."""
    links = [tag("li", tag("a", heading, href=f"#run-{i}")) for i, heading in enumerate(runs, 1)]
    yield tag("nav", tag("ul", *links), aria_label="runs")
    found = {}
    for heading, workdir in runs.items():
        with damage(workdir):
            if outcome := results.outcome(workdir, list(read_rows(workdir / "metrics.jsonl"))):
                found[heading] = outcome
    yield from results.compared(found)


def _summary(workdir: epath.Path, task: Task, config: Json, data: Json, environment: Json) -> str:
    """Says what was trained on what, with which seed, on which machine, and how fast."""
    images = " and ".join(f"{array['shape'][0]:,}" for array in data["train"])
    size = "x".join(map(str, config["data"]["image_size"]))
    speed = sorted(row["images_per_second"] for row in read_rows(workdir / "timing.jsonl"))
    pace = f", {speed[len(speed) // 2]:,.0f} images a second (median)" if speed else ""
    return (
        f"{task.title}, trained on {images} images of {config['data']['source']} at {size} pixels; seed "
        f"{config['seed']}, {config['train']['num_steps']:,} steps of {config['data']['batch_size']} images, on "
        f"{_devices(environment)}{pace}."
    )


def _devices(environment: Json) -> str:
    """Says what computed, such as a CPU with 2 threads, or 8 x NVIDIA H100."""
    number, kind = environment.get("devices"), environment.get("device")
    if kind == "cpu" and number == 1:
        return f"a CPU with {environment.get('threads')} threads"
    return f"{number} x {kind}"


def _checkpoints(task: Task, train: Json, rows: Sequence[Row], directory: epath.Path) -> Iterator[Element]:
    """Yields the best checkpoint beside the last, by the run's own validation loss, as `--which best` takes it."""
    scored = {}
    for row in rows:
        metrics = results.validation(row)
        if metrics and (score := best.score(task, train["best_by"], metrics)) is not None:
            scored[row["step"]] = score
    kept = [int(path.name) for path in directory.iterdir() if path.name.isdigit()] if directory.exists() else []
    # A running training saves the step after this page, so that later steps than those that are kept count too.
    begun = [step for step in scored if step % train["checkpoint_every"] == 0 or step == train["num_steps"]]
    there = [step for step in scored if step in kept or (step in begun and step > max(kept, default=0))]
    if there:
        step, last, num = min(there, key=scored.__getitem__), max(there), len({*begun, *there})
        of_last = ", which is the last" if step == last else f", and the last, step {last}, has {number(scored[last])}"
        what = f"Best of {num} checkpoints on validation images, by {best.score_title(task, train['best_by'])}"
        yield tag("p", f"{what}: step {step} with {number(scored[step])}{of_last}.", class_="soft")


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
        earlier.append(f"{glossary.words(name)} (steps {at[0]} to {at[-1]})")
    if earlier:
        yield tag("p", f"Earlier: {', '.join(earlier)}.")


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
        yield tag("pre", commands.read_bytes().decode(errors="backslashreplace").rstrip())
    if (workdir / "result.json").exists() and (digest := files.read_json(workdir / "result.json").get("digest")):
        yield tag("p", "The same command on the same machine and software ends with the state of this digest:")
        yield tag("pre", str(digest))
    yield details("Configuration (config.json)", table(explained(config), ("flag", "value", "meaning")))
    yield details("Images (data.json)", table(pairs(flatten(data))))
    yield details("Environment (environment.json)", table(pairs(flatten(environment))))
