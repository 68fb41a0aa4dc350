"""HTML report of one or more runs in one file: pictures, curves, configuration, environment.

Pages are trees of elements, never strings: the serialiser escapes whatever text a file of the run puts in.
"""

import base64
import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from etils import epath

from genjax import files
from genjax.families import FAMILIES
from genjax.files import flatten, printable
from genjax.task import Row
from genjax.train.rows import read_rows

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 3rem; border-top: 1px solid #ccc; padding-top: 1rem; }
table { border-collapse: collapse; font-size: 14px; }
td, th { padding: 2px 14px 2px 0; text-align: left; vertical-align: top; }
td + td { font-variant-numeric: tabular-nums; } code { word-break: break-all; }
figure { display: inline-block; margin: 0 1.5rem 1rem 0; vertical-align: top; } figcaption { color: #555; }
img.pixels { image-rendering: pixelated; width: 30rem; max-width: 100%; } img.curves { max-width: 100%; }
summary { cursor: pointer; color: #555; margin: 0.5rem 0; }
"""
POLICY = (
    "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
)
"""Content security policy: the page has its own style and pictures, and no scripts."""


def write_report(path: epath.PathLike, title: str, runs: Mapping[str, epath.PathLike]) -> None:
    """Writes a page about `runs` (heading -> run directory) to `path`."""
    policy = Element("meta", {"http-equiv": "Content-Security-Policy", "content": POLICY})
    head = _tag("head", Element("meta", charset="utf-8"), policy, _tag("title", title), _tag("style", STYLE))
    body = _tag("body", _tag("h1", title))
    for heading, run in runs.items():
        body.append(_tag("h2", heading))
        try:
            body.extend(list(_run(files.resolve(run))))  # a generator would turn any error into a TypeError
        except (AttributeError, KeyError, TypeError) as error:  # valid JSON of another form
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(f"a record of the run in {run} is damaged ({reason}): restore it from a backup") from error
    page = _tag("html", head, body)
    page.set("lang", "en")
    files.write_atomically(
        files.resolve(path), b"<!doctype html>\n" + ElementTree.tostring(page, encoding="utf-8", method="html")
    )


def _tag(name: str, *content: Element | str) -> Element:
    """Makes an element that holds one text, or other elements."""
    element = Element(name)
    for part in content:
        if isinstance(part, str):
            element.text = part
        else:
            element.append(part)
    return element


def _run(workdir: epath.Path) -> Iterator[Element]:
    rows = list(read_rows(workdir / "metrics.jsonl"))
    yield from _metrics(workdir, rows)
    yield from _warnings(rows)
    if speed := sorted(row["images_per_second"] for row in read_rows(workdir / "timing.jsonl")):
        yield _tag("p", f"{speed[len(speed) // 2]:,.0f} images a second (median).")
    yield from _samples(workdir / "samples")
    yield from _curves(rows)
    for name in ("config.json", "data.json", "environment.json"):
        yield _tag("details", _tag("summary", name), _table(flatten(files.read_json(workdir / name))))


def _metrics(workdir: epath.Path, rows: Sequence[Row]) -> Iterator[Element]:
    """Yields a table of the test metrics of a finished run, or of the latest validation metrics."""
    if (workdir / "result.json").exists():
        result = files.read_json(workdir / "result.json")
        images, step, metrics = "test", result["step"], result["test"]
    else:
        evaluated = [row for row in rows if any(name.startswith("validation/") for name in row)]
        if not evaluated:
            yield _tag("p", "Not evaluated yet.")
            return
        images, step = "validation", evaluated[-1]["step"]
        named = [name for name in evaluated[-1] if name.startswith("validation/")]
        metrics = {name.removeprefix("validation/"): evaluated[-1][name] for name in named}
    units = FAMILIES[files.read_json(workdir / "config.json")["family"]].units
    yield _tag("p", f"On the {images} images after step {step} (averaged weights; {units}):")
    yield _table({name: _number(value) for name, value in metrics.items()})


def _warnings(rows: Sequence[Row]) -> Iterator[Element]:
    """Yields the warnings of the last row, and earlier ones; nothing for a family without a monitor."""
    watched = [(row["step"], row["warnings"]) for row in rows if "warnings" in row]
    if not watched:
        return
    step, now = watched[-1]
    yield _tag("h3", "Warnings")
    if now:
        yield _tag("ul", *(_tag("li", sentence) for _, sentence in sorted(now.items())))
    else:
        yield _tag("p", f"No warning at step {step}.")
    earlier = []
    for name in sorted({name for _, warnings in watched for name in warnings} - now.keys()):
        at = [step for step, warnings in watched if name in warnings]
        earlier.append(f"{name} (steps {at[0]} to {at[-1]})")
    if earlier:
        yield _tag("p", f"Earlier: {', '.join(earlier)}.")


def _number(value: object) -> str:
    """Formats a metric, or what stands in its place."""
    if value is None:
        return "not finite"
    return f"{value:.5g}" if isinstance(value, int | float) else str(value)


def _samples(directory: epath.Path) -> Iterator[Element]:
    """Yields the latest picture of each kind, from files named KIND-STEP.png."""
    latest: dict[str, tuple[int, epath.Path]] = {}
    for path in sorted(directory.glob("*.png") if directory.exists() else [], key=lambda path: path.name):
        if found := re.fullmatch(r"(.+)-(\d+)", path.stem):
            latest[found[1]] = int(found[2]), path
    for kind, (step, path) in sorted(latest.items()):
        name, *columns = kind.split("_")
        title = f"{name}: {', '.join(columns)}" if columns else name
        yield _tag("figure", _image(path.read_bytes(), "pixels"), _tag("figcaption", f"{title}, step {step}"))


def _curves(rows: Sequence[Row]) -> Iterator[Element]:
    """Yields a plot of each metric that changes over the steps, training and validation in one plot."""
    series: dict[str, dict[str, tuple[list[int], list[float]]]] = {}
    for row in rows:
        for name, value in row.items():
            split, _, metric = name.rpartition("/")
            if name not in ("step", "fingerprint", "warnings") and value is not None:
                steps, values = series.setdefault(metric, {}).setdefault(split or "training", ([], []))
                steps.append(row["step"])
                values.append(value + 0.0)  # TypeError for what is no number
    changing = {m: by for m, by in series.items() if any(len(set(values)) > 1 for _, values in by.values())}
    if not changing:
        return
    # Here, for it would be a fifth of the time that every command takes to start.
    from matplotlib.figure import Figure

    lines = -(-len(changing) // 3)
    height = 2.8 * lines  # inches; fixed margins, for a layout that fits itself takes twice as long
    figure = Figure(figsize=(12, height))
    figure.subplots_adjust(0.05, 0.5 / height, 0.99, 1 - 0.3 / height, hspace=0.45, wspace=0.2)
    for i, (metric, by_split) in enumerate(changing.items(), 1):
        axes = figure.add_subplot(lines, 3, i)
        axes.set_title(printable(metric), fontsize=10, parse_math=False)  # a damaged record may hold any name
        axes.set_xlabel("step", fontsize=8)
        for split, (steps, values) in by_split.items():
            axes.plot(steps, values, "o-" if split == "validation" else "-", markersize=3, linewidth=1.2, label=split)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    yield _tag("h3", "Curves")
    yield _image(buffer.getvalue(), "curves")


def _image(png: bytes, kind: str) -> Element:
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return Element("img", {"class": kind, "alt": "", "src": source})


def _table(values: Mapping[str, object]) -> Element:
    return _tag("table", *(_row(name, str(value)) for name, value in values.items()))


def _row(name: str, value: str) -> Element:
    return _tag("tr", _tag("th", name), _tag("td", _tag("code", value)))
