"""Curves of metrics over the steps, as vector graphics that take the colours of the page."""

import math
from collections.abc import Iterator, Mapping, Sequence
from xml.etree.ElementTree import Element

from genjax import glossary
from genjax.report.elements import number, tag
from genjax.task import Row

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 320, 150, 58, 8, 18  # of a plot and its margins, in units of the drawing
MOST_POINTS = 300
WINDOWS = 15
"""Number of windows of the running mean in a curve."""

NOT_DRAWN = (
    "step", "fingerprint", "warnings", "elbo_draw_se",
    "negative_elbo", "bits_per_dim",  # the curve of the ELBO in other units
)  # fmt: skip
SUBJECTS = {
    "quality": "Quality of generated images", "likelihood": "Likelihood", "pairs": "Translations and truth",
    "translation": "Translations and inputs", "losses": "Losses", "discriminators": "Discriminators",
    "optimiser": "Optimiser", "chains": "Markov chains", "": "Other",
}  # fmt: skip

Points = list[tuple[int, float]]


def curves(rows: Sequence[Row]) -> Iterator[Element]:
    """Yields a heading and plots for each subject whose metrics change; training thin, validation with dots."""
    by_subject: dict[str, dict[str, dict[str, Points]]] = {subject: {} for subject in SUBJECTS}
    for metric, series in _series(rows).items():
        if any(len({value for _, value in points}) > 1 for points in series.values()):
            term = glossary.explain(metric)
            by_subject[term.subject if term else ""][metric] = series
    for subject, metrics in by_subject.items():
        if metrics:
            yield tag("h4", SUBJECTS[subject])
            yield tag("div", *(_figure(metric, series) for metric, series in metrics.items()), class_="plots")


def _series(rows: Sequence[Row]) -> dict[str, dict[str, Points]]:
    """Collects the points of each metric, by split."""
    found: dict[str, dict[str, Points]] = {}
    for row in rows:
        for name, value in row.items():
            split, _, metric = name.rpartition("/")
            if metric not in NOT_DRAWN and not metric.endswith(glossary.ERROR) and value is not None:
                # TypeError for what is no number
                found.setdefault(metric, {}).setdefault(split or "training", []).append((row["step"], value + 0.0))
    return found


def _figure(metric: str, series: Mapping[str, Points]) -> Element:
    last = ", ".join(f"{split} {number(points[-1][1])} at step {points[-1][0]}" for split, points in series.items())
    name = glossary.title(metric)
    term = glossary.explain(metric)
    caption = tag("figcaption", name, title=term.meaning if term else metric)
    return tag("figure", _plot(series, f"{name} over the steps: {last}"), caption)


def _plot(series: Mapping[str, Points], description: str) -> Element:
    steps = [step for points in series.values() for step, _ in points]
    first, last = min(steps), max(steps)
    low, high = _range(series)
    # From steps and values to units of the drawing; values outside the range lie on its edge.
    x = lambda step: LEFT + (WIDTH - LEFT - 4) * (step - first) / max(last - first, 1)  # noqa: E731
    y = lambda value: TOP + (HEIGHT - TOP - BOTTOM) * (1 - (min(max(value, low), high) - low) / (high - low))  # noqa: E731
    drawn = [tag("path", d=f"M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - 4}", class_="axis")]
    drawn += [
        tag("text", number(high), x=str(LEFT - 4), y=str(TOP + 8), class_="end"),
        tag("text", number(low), x=str(LEFT - 4), y=str(HEIGHT - BOTTOM), class_="end"),
        tag("text", f"{first:,}", x=str(LEFT), y=str(HEIGHT - 4)),
        tag("text", f"{last:,}", x=str(WIDTH - 4), y=str(HEIGHT - 4), class_="end"),
    ]
    for split, points in series.items():
        line = lambda points: "M" + "L".join(f"{x(step):.1f} {y(value):.1f}" for step, value in points)  # noqa: E731
        if split == "training":
            points = _thinned(points)
            drawn += [
                tag("path", d=line(points), class_="raw"),
                tag("path", d=line(_smoothed(points)), class_="training"),
            ]
        else:
            drawn.append(tag("path", d=line(points), class_="validation"))
            drawn += [
                tag("circle", cx=f"{x(step):.1f}", cy=f"{y(v):.1f}", r="2.5", class_="validation") for step, v in points
            ]
    return tag("svg", *drawn, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=description)


def _range(series: Mapping[str, Points]) -> tuple[float, float]:
    """Returns the range that a plot shows: of values after the first tenth of the steps.

    Those at the start may tower above the others.
    """
    end = max(step for points in series.values() for step, _ in points)
    values = [
        value for points in series.values() for step, value in points if step >= end / 10 and math.isfinite(value)
    ]
    low, high = min(values, default=0.0), max(values, default=1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _thinned(points: Points) -> Points:
    """Averages neighbouring points so that at most MOST_POINTS are left."""
    size = -(-len(points) // MOST_POINTS)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]


def _smoothed(points: Points) -> Points:
    """Computes the running mean of values, in which older ones fade; the first are means of all so far."""
    smoothed, mean, weight = [], 0.0, 0.0
    share = min(1.0, WINDOWS / len(points))  # of the newest value
    for step, value in points:
        mean, weight = (1 - share) * mean + share * value, (1 - share) * weight + share
        # Divided by the sum of all weights, as Adam does, so that the start is not pulled to 0.
        smoothed.append((step, mean / weight))
    return smoothed
