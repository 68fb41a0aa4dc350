"""Markdown tables of translation metrics: a row for each rule or setting, a column for each metric.

Metrics of a run are keyed by test (a direction or a region), then by name as in `rules.metrics`.
"""

from collections.abc import Mapping, Sequence

import numpy as np

Metrics = Mapping[str, Mapping[str, float]]
"""Metrics of a run by test, then by name."""

FORMATS = {
    "l1": ("L1", ".4f"), "psnr": ("PSNR, dB", ".2f"), "ssim": ("SSIM", ".3f"), "iou": ("IoU", ".3f"),
    "inverted": ("inverted", ".3f"), "correlation": ("correlation", ".3f"), "change": ("change", ".4f"),
    "diversity": ("diversity", ".2f"), "cycle": ("cycle", ".4f"),
}  # fmt: skip
"""Heading and format of each metric."""
DIRECTIONS = {"a2b": "A to B", "b2a": "B to A"}
"""Display names of directions; regions need none."""


def table(
    first: str,
    rows: Mapping[str, Sequence[Metrics]],
    columns: Sequence[tuple[str, str]],
    words: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """Formats a row for each of `rows`: the mean of each metric (test, name) over its runs, with their range.

    `first` is the heading of the first column, `words` holds further columns by heading. A metric that no run has gets
    no column.
    """
    shown = [(test, name) for test, name in columns if any(name in runs[0][test] for runs in rows.values())]
    lines = [[first, *(f"{FORMATS[name][0]} {DIRECTIONS.get(test, test)}" for test, name in shown), *(words or {})]]
    lines.append(["---"] * len(lines[0]))
    for number, (label, runs) in enumerate(rows.items()):
        cells = [
            _cell([run[test][name] for run in runs if name in run[test]], FORMATS[name][1]) for test, name in shown
        ]
        lines.append([label, *cells, *(column[number] for column in (words or {}).values())])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def mean(runs: Sequence[Metrics]) -> dict[str, float]:
    """Averages metrics over runs, in one dictionary: `l1_a2b`, and so on."""
    return {
        f"{name}_{test}": float(np.mean([run[test][name] for run in runs]))
        for test in runs[0]
        for name in runs[0][test]
    }


def _cell(values: Sequence[float], form: str) -> str:
    if not values:
        return ""
    extent = f" ({min(values):{form}} to {max(values):{form}})" if len(values) > 1 else ""
    return f"{np.mean(values):{form}}{extent}"
