"""HTML report of one or more runs in one file: pictures, curves, configuration, environment."""

import base64
import html
import io
import re
from collections.abc import Mapping, Sequence

from etils import epath

from genjax import files
from genjax.families import FAMILIES
from genjax.files import flatten
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


def write_report(path: epath.PathLike, title: str, runs: Mapping[str, epath.PathLike]) -> None:
    """Writes a page about `runs` (heading -> run directory) to `path`."""
    body = "\n".join(f"<h2>{html.escape(heading)}</h2>\n{_run(files.resolve(run))}" for heading, run in runs.items())
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style></head>\n<body><h1>{html.escape(title)}</h1>\n{body}\n</body></html>\n"
    )
    files.write_atomically(files.resolve(path), page)


def _run(workdir: epath.Path) -> str:
    rows = list(read_rows(workdir / "metrics.jsonl"))
    speed = [row["images_per_second"] for row in read_rows(workdir / "timing.jsonl")]
    details = "".join(
        f"<details><summary>{name}</summary>{_table(flatten(files.read_json(workdir / name)))}</details>"
        for name in ("config.json", "data.json", "environment.json")
    )
    median = f"<p>{sorted(speed)[len(speed) // 2]:,.0f} images a second (median).</p>" if speed else ""
    return "\n".join(
        [_metrics(workdir, rows), _warnings(rows), median, _samples(workdir / "samples"), _curves(rows), details]
    )


def _metrics(workdir: epath.Path, rows: Sequence[Row]) -> str:
    """Returns a table of the test metrics of a finished run, or of the latest validation metrics."""
    if (workdir / "result.json").exists():
        result = files.read_json(workdir / "result.json")
        images, step, metrics = "test", result["step"], result["test"]
    else:
        evaluated = [row for row in rows if any(name.startswith("validation/") for name in row)]
        if not evaluated:
            return "<p>Not evaluated yet.</p>"
        images, step = "validation", evaluated[-1]["step"]
        named = [name for name in evaluated[-1] if name.startswith("validation/")]
        metrics = {name.removeprefix("validation/"): evaluated[-1][name] for name in named}
    units = FAMILIES[files.read_json(workdir / "config.json")["family"]].units
    heading = f"On the {images} images after step {step} (averaged weights; {units}):"
    return f"<p>{heading}</p>{_table({name: _number(value) for name, value in metrics.items()})}"


def _warnings(rows: Sequence[Row]) -> str:
    """Lists the warnings of the last row, and earlier ones; "" for a family without a monitor."""
    watched = [(row["step"], row["warnings"]) for row in rows if "warnings" in row]
    if not watched:
        return ""
    step, now = watched[-1]
    up = "".join(f"<li>{html.escape(sentence)}</li>" for _, sentence in sorted(now.items()))
    earlier = []
    for name in sorted({name for _, warnings in watched for name in warnings} - now.keys()):
        at = [step for step, warnings in watched if name in warnings]
        earlier.append(f"{name} (steps {at[0]} to {at[-1]})")
    told = f"<ul>{up}</ul>" if up else f"<p>No warning at step {step}.</p>"
    return f"<h3>Warnings</h3>{told}" + (f"<p>Earlier: {html.escape(', '.join(earlier))}.</p>" if earlier else "")


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.5g}"


def _samples(directory: epath.Path) -> str:
    """Returns the latest picture of each kind, from files named KIND-STEP.png."""
    latest: dict[str, tuple[int, epath.Path]] = {}
    for path in sorted(directory.glob("*.png") if directory.exists() else [], key=lambda path: path.name):
        if found := re.fullmatch(r"(.+)-(\d+)", path.stem):
            latest[found[1]] = int(found[2]), path
    pictures = []
    for kind, (step, path) in sorted(latest.items()):
        name, *columns = kind.split("_")
        title = f"{name}: {', '.join(columns)}" if columns else name
        caption = f"<figcaption>{title}, step {step}</figcaption>"
        pictures.append(f"<figure>{_image(path.read_bytes(), 'pixels')}{caption}</figure>")
    return "".join(pictures)


def _curves(rows: Sequence[Row]) -> str:
    """Plots each metric that changes over the steps, training and validation in one plot."""
    series: dict[str, dict[str, tuple[list[int], list[float]]]] = {}
    for row in rows:
        for name, value in row.items():
            split, _, metric = name.rpartition("/")
            if name not in ("step", "fingerprint", "warnings") and value is not None:
                steps, values = series.setdefault(metric, {}).setdefault(split or "training", ([], []))
                steps.append(row["step"])
                values.append(value)
    changing = {m: by for m, by in series.items() if any(len(set(values)) > 1 for _, values in by.values())}
    if not changing:
        return ""
    # Here, for it would be a fifth of the time that every command takes to start.
    from matplotlib.figure import Figure

    lines = -(-len(changing) // 3)
    height = 2.8 * lines  # inches; fixed margins, for a layout that fits itself takes twice as long
    figure = Figure(figsize=(12, height))
    figure.subplots_adjust(0.05, 0.5 / height, 0.99, 1 - 0.3 / height, hspace=0.45, wspace=0.2)
    for i, (metric, by_split) in enumerate(changing.items(), 1):
        axes = figure.add_subplot(lines, 3, i)
        axes.set_title(metric, fontsize=10)
        axes.set_xlabel("step", fontsize=8)
        for split, (steps, values) in by_split.items():
            axes.plot(steps, values, "o-" if split == "validation" else "-", markersize=3, linewidth=1.2, label=split)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return f"<h3>Curves</h3>{_image(buffer.getvalue(), 'curves')}"


def _image(png: bytes, kind: str) -> str:
    return f'<img class="{kind}" alt="" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def _table(values: Mapping[str, object]) -> str:
    cells = (
        f"<tr><th>{html.escape(name)}</th><td><code>{html.escape(str(value))}</code></td></tr>"
        for name, value in values.items()
    )
    return f"<table>{''.join(cells)}</table>"
