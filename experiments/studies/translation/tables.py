"""Markdown tables of translations' figures: a line for each way of making them, a column for each figure.

A run's figures come by the test that they are of (a direction, or a region) and by name, as `translations.figures`.
"""

from collections.abc import Mapping, Sequence

import numpy as np

Figures = Mapping[str, Mapping[str, float]]
"""By test, then by name."""

FORMATS = {
    "l1": ("L1", ".4f"), "psnr": ("PSNR, dB", ".2f"), "ssim": ("SSIM", ".3f"), "iou": ("IoU", ".3f"),
    "inverted": ("inverted", ".3f"), "correlation": ("correlation", ".3f"), "change": ("change", ".4f"),
    "diversity": ("diversity", ".2f"), "cycle": ("cycle", ".4f"),
}  # fmt: skip
"""A figure's heading, and its format."""
DIRECTIONS = {"a2b": "A to B", "b2a": "B to A"}
"""In words; a region is its own name."""


def table(
    first: str, rows: Mapping[str, Sequence[Figures]], columns: Sequence[tuple[str, str]],
    words: Mapping[str, Sequence[str]] | None = None,
) -> str:  # fmt: skip
    """A line for each of `rows`: the mean over its runs of each figure (test, name) of `columns`, with the least and
    the greatest of several runs; then `words`, a list for each heading. Figures that no run has make no column.
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


def mean(runs: Sequence[Figures]) -> dict[str, float]:
    """Figures over all runs, flat: `l1_a2b`, and so on."""
    return {
        f"{name}_{test}": float(np.mean([run[test][name] for run in runs]))
        for test in runs[0]
        for name in runs[0][test]
    }


def _cell(values: Sequence[float], form: str) -> str:
    if not values:
        return ""
    spread = f" ({min(values):{form}} to {max(values):{form}})" if len(values) > 1 else ""
    return f"{np.mean(values):{form}}{spread}"
