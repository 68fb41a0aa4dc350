"""Curves of several runs in one figure: mean, standard deviation, minimum and maximum."""

from collections.abc import Sequence

import numpy as np
from etils import epath
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from genjax.task import Row
from studies import figures

SPLITS = {"training": ("", "tab:blue"), "validation": ("validation/", "tab:orange")}
"""Prefix of metric names in metrics.jsonl, and colour, by split."""
COLUMNS = 3


def plot(path: epath.Path, title: str, runs: Sequence[Sequence[Row]], metrics: Sequence[str]) -> None:
    """Writes a PNG with a panel for each of `metrics` that the rows of the `runs` hold."""
    logged = {name for rows in runs for row in rows for name in row}
    shown = [metric for metric in metrics if any(prefix + metric in logged for prefix, _ in SPLITS.values())]
    columns, lines = min(len(shown), COLUMNS), -(-len(shown) // COLUMNS)
    figure = Figure(figsize=(4.2 * columns, 3.1 * lines + 0.5), layout="constrained")
    figure.suptitle(f"{title}: mean, one standard deviation (dark), minimum to maximum (light)", fontsize=11)
    for i, metric in enumerate(shown, 1):
        _plot_panel(figure.add_subplot(lines, columns, i), runs, metric)
    figures.write_png(path, figure)


def _plot_panel(axes: Axes, runs: Sequence[Sequence[Row]], metric: str) -> None:
    late = [_plot_band(axes, runs, prefix + metric, label, colour) for label, (prefix, colour) in SPLITS.items()]
    values = np.concatenate(late)
    if values.size:
        margin = 0.05 * (np.ptp(values) or 1)
        axes.set_ylim(values.min() - margin, values.max() + margin)
    axes.set_title(metric, fontsize=10)
    axes.set_xlabel("step", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, frameon=False)


def _plot_band(axes: Axes, runs: Sequence[Sequence[Row]], name: str, label: str, colour: str) -> np.ndarray:
    """Draws one metric, and returns its values after a tenth of the steps, which set the scale of the axis."""
    curves = [{row["step"]: row[name] for row in rows if row.get(name) is not None} for rows in runs]
    steps = np.array(sorted(set.intersection(*map(set, curves))))
    if not steps.size:
        return np.array([])
    values = np.array([[curve[step] for step in steps] for curve in curves])
    mean, sd = values.mean(0), values.std(0, ddof=1)
    line = "o-" if label == "validation" else "-"
    axes.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.18, linewidth=0)
    axes.fill_between(steps, mean - sd, mean + sd, color=colour, alpha=0.35, linewidth=0)
    axes.plot(steps, mean, line, color=colour, markersize=3, linewidth=1.3, label=label)
    return values[:, steps >= steps[-1] / 10].ravel()
