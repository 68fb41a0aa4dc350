"""Tables of a study of seeds, in Markdown and as one flat dictionary."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from genjax.train.rows import finite
from studies import markdown
from studies.seeds import statistics
from studies.seeds.statistics import Component, Summary

Results = Mapping[str, Mapping[str, Any]]
"""result.json (step, digest, test metrics) of each run, by the name of its directory."""


class Shown(NamedTuple):
    """Metrics of a family that a study shows, if its runs have them."""

    table: tuple[str, ...]
    curves: tuple[str, ...]


SHOWN = {
    "vae": Shown(("elbo", "distortion", "rate", "bits_per_dim"), ("elbo", "distortion", "rate")),
    "cyclegan": Shown(
        ("l1_a2b", "l1_b2a", "iou_a2b", "iou_b2a", "cycle_a2b", "cycle_b2a"),
        ("g_loss", "d_a_loss", "d_b_loss", "cycle_a2b", "l1_a2b", "l1_b2a"),
    ),
    "unit": Shown(
        ("l1_a2b", "l1_b2a", "iou_a2b", "iou_b2a", "cycle_a2b", "cycle_b2a"),
        ("g_loss", "d_a_loss", "d_b_loss", "cycle_a2b", "l1_a2b", "l1_b2a"),
    ),
    "cut": Shown(("l1_a2b", "iou_a2b", "change_a2b"), ("g_loss", "nce_a", "d_b_loss", "l1_a2b")),
}
"""Metrics to show, by family."""


def number(value: float | None) -> float:
    """Reads a metric of result.json; null, a value that is not finite, becomes NaN."""
    return math.nan if value is None else value


def runs_table(shown: Sequence[str], results: Results, summaries: Mapping[str, Summary], independent: bool) -> str:
    """Formats a line for each run, then mean, standard deviation and, for `independent` runs, the interval.

    The standard deviation is that of training. Standard errors of testing, means over the runs, stand below it.
    """
    rows = [
        [name, f"`{run['digest'][:8]}`", *(f"{number(run['test'][metric]):.5g}" for metric in shown)]
        for name, run in results.items()
    ]
    rows.append(["mean", "", *(f"{summaries[metric].mean:.5g}" for metric in shown)])
    rows.append(["standard deviation", "", *(f"{summaries[metric].sd:.2g}" for metric in shown)])
    for over in ("draw", "image"):
        errors = [summaries.get(f"{metric}_{over}_se") for metric in shown]
        if any(errors):
            cells = ("" if error is None else f"{error.mean:.2g}" for error in errors)
            rows.append([f"standard error over test {over}s", "", *cells])
    if independent:  # runs that share a seed are not
        intervals = (f"{summaries[metric].low:.5g} to {summaries[metric].high:.5g}" for metric in shown)
        rows.append(["95% interval of the mean", "", *intervals])
    return markdown.table(["run", "digest", *shown], rows)


def interval_note(vary: Sequence[str], streams: Sequence[str]) -> str:
    """Explains the interval of `runs_table`, if the seeds of the streams `vary` out of all `streams` differ."""
    fixed = [stream for stream in streams if stream not in vary]
    over = f"the seeds of {' and '.join(vary)}" + (f", with one seed of {' and '.join(fixed)}" if fixed else "")
    return (
        f"The interval is Student's t, over {over}. It is about training again, not about other images or other noise: "
        "all runs are scored with the same."
    )


def components_table(shown: Sequence[str], parts: Mapping[str, Mapping[str, Component]]) -> str:
    """Formats share of the sum of squares and standard deviation of each stream, and their uncertainty."""
    streams = list(parts[shown[0]])
    header = [f"{metric}: {column}" for metric in shown for column in ("share", "standard deviation")]
    rows = []
    for stream in streams:
        components = [parts[metric][stream] for metric in shown]
        cells = [cell for part in components for cell in (f"{part.share:.3f}", f"{part.sd:.2g}")]
        rows.append([stream, str(components[0].df), *cells])
    df, df_total = parts[shown[0]][streams[0]].df, sum(part.df for part in parts[shown[0]].values())
    mean, rarely = statistics.share_without_effect(df, df_total)
    low, high = statistics.sd_factors(df)
    return (
        f"{markdown.table(['stream', 'degrees of freedom', *header], rows)}\n\n"
        "Shares are of the total sum of squares. Standard deviations are estimated by expected mean squares, with 0 "
        "for a negative variance. The rest is what the sum of the streams does not explain.\n"
        f"A stream without effect has a share of {mean:.3f} on average and, if the runs were normal, above "
        f"{rarely:.3f} in 1 study of 20.\nEach stream has {df} degree{'s' * (df > 1)} of freedom: at best, the true "
        f"standard deviation is between {low:.2g} and {high:.2g} times the one given (95%)."
    )


def flat_results(
    summaries: Mapping[str, Summary], parts: Mapping[str, Mapping[str, Component]]
) -> dict[str, float | None]:
    """Flattens all numbers to names such as `mean.elbo`, `sd.elbo`, and `share.elbo.init` for a crossed design."""
    fields = ("mean", "sd") if parts else ("mean", "sd", "low", "high")
    flat = {f"{field}.{metric}": getattr(summary, field) for field in fields for metric, summary in summaries.items()}
    for metric, components in parts.items():
        for stream, part in components.items():
            flat |= {f"share.{metric}.{stream}": part.share, f"component_sd.{metric}.{stream}": part.sd}
    return finite(flat)
