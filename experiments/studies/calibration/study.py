"""Tests if the draws of each method are like the truth they stand for, by simulation-based calibration.

$ python experiments/study.py calibration --workdir runs/digits --out calibration

For each operator it draws truths from the VAE, observes them, restores them by each method, and ranks each truth among
its draws: see genjax/vae/calibration.py. It writes OUT/table.md, OUT/results.json and OUT/ranks.png, the histograms of
all functions together. Gibbs methods are left out where they cannot impute binary pixels.
"""

import dataclasses
import json
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tyro
from etils import epath
from matplotlib.figure import Figure

from genjax import cli, files, flag_help, keys
from genjax.loading import Sampler, Which, load_sampler
from genjax.vae import calibration, linear, masks, restored_files
from genjax.vae.inference import InferenceConfig, Method
from genjax.vae.operators import Downsample, Mask, Operator
from genjax.vae.sampler import DEFAULT_INFERENCE
from studies import figures, markdown

GIBBS = ("metropolis", "pseudo_gibbs")
METHODS: tuple[Method, ...] = ("hmc", "metropolis", "pseudo_gibbs", "importance", "map")

Shape = tuple[int, int, int]
OPERATORS: dict[str, Callable[[Shape], Operator]] = {
    "half-right": lambda shape: Mask(masks.named("half-right", keys.root_key(0), np.arange(1), shape[:2])[0]),
    "x2": lambda shape: Downsample(2),
    "noise": lambda shape: linear.noise(0.3),
    "blur": lambda shape: linear.blur(shape, 1.0, 0.1),
    "measurements": lambda shape: linear.measurements(linear.random_matrix(keys.root_key(0), 16, shape), 0.1),
}
"""Operators by name: half of the pixels, half of the size, noise, a blur, random numbers."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """Options: the VAE, the operators and methods, and how many truths."""

    workdir: str
    """Directory of the VAE's training run."""
    out: str
    """Folder for the results; it must be empty or not exist yet."""
    num_truths: int = 256
    """Number of truths for each operator and method."""
    num_samples: int = 8
    """Draws for each truth."""
    operators: tuple[str, ...] = tuple(OPERATORS)
    """Operators by name."""
    methods: tuple[Method, ...] = METHODS
    """Methods of drawing latents."""
    which: Which = "last"
    """The last checkpoint, the best on validation, or that of a step."""
    seed: int = 0
    """Seed of truths and draws."""
    inference: InferenceConfig = DEFAULT_INFERENCE


def main() -> dict[str, Any]:
    """Calibrates each method on each operator; returns the p-values of all draws, and of one."""
    options = tyro.cli(Study, description=flag_help.description(__doc__))
    out = restored_files.check_out(options.out, options.num_samples)
    cli.check_different(operators=options.operators, methods=options.methods)
    if unknown := set(options.operators) - set(OPERATORS):
        raise ValueError(f"--operators knows {', '.join(OPERATORS)}, got {', '.join(sorted(unknown))}")
    least = calibration.MIN_EXPECTED * (options.num_samples + 1)
    if options.num_truths < least:
        raise ValueError(f"--num-truths must be at least {least}, got {options.num_truths}")
    sampler = load_sampler(options.workdir, options.which)
    binary = sampler.config.vae.likelihood == "bernoulli"
    rows = []
    for name in options.operators:
        for method in options.methods:
            if not (binary and method in GIBBS and name not in ("half-right", "noise")):
                rows.append(_row(options, sampler, name, method))
                logging.info("%s", json.dumps({key: value for key, value in rows[-1].items() if key != "ranks"}))
    files.write_json(out / "results.json", {"options": dataclasses.asdict(options), "rows": rows})
    files.write_atomically(out / "table.md", _table(options, rows))
    _plot(out / "ranks.png", options, rows)
    flat = {f"{row['operator']}.{row['method']}.{key}": row[key] for row in rows for key in ("p_all", "p_one")}
    return {**flat, "step": sampler.step, "out": options.out}


def _row(options: Study, sampler: Sampler, name: str, method: Method) -> dict[str, Any]:
    """Calibrates one method on one operator."""
    began, num = time.perf_counter(), options.num_samples
    operator = OPERATORS[name](sampler.config.data.image_shapes[0])
    found = sampler.calibrate(
        operator, keys.root_key(options.seed), np.arange(options.num_truths), method, num, options.inference
    )
    of_all, of_one = (calibration.ranks(found.truth, found.draws, count) for count in (num, 1))
    return {
        "operator": name,
        "method": method,
        "p_all": calibration.p_value(of_all, num),
        "p_one": calibration.p_value(of_one, 1),
        "spread": dict(zip(calibration.FUNCTIONS, calibration.spread(of_all, num).tolist(), strict=True)),
        "health": float(np.median(found.health)),
        "seconds": time.perf_counter() - began,
        "ranks": [np.bincount(of, minlength=num + 1).tolist() for of in of_all.T],
    }


def _table(options: Study, rows: Sequence[dict[str, Any]]) -> str:
    """Formats the rows as Markdown; the spread that differs most from 1 is shown."""
    header = ["operator", "method", f"p of {options.num_samples} draws", "p of one draw", "spread", "of", "health"]
    lines = []
    for row in rows:
        worst = max(row["spread"], key=lambda of: abs(np.log(max(row["spread"][of], 1e-9))))
        numbers = [f"{row['p_all']:.2g}", f"{row['p_one']:.2g}", f"{row['spread'][worst]:.2f}", worst]
        lines.append([row["operator"], row["method"], *numbers, f"{row['health']:.3f}"])
    return markdown.table(header, lines) + "\n"


def _plot(path: epath.Path, options: Study, rows: Sequence[dict[str, Any]]) -> None:
    """Writes histograms of the ranks, all functions together, with the range of 95% for uniform ones of a function."""
    figure = Figure(figsize=(1.9 * len(options.methods), 1.5 * len(options.operators)), layout="constrained")
    axes = figure.subplots(len(options.operators), len(options.methods), squeeze=False, sharex=True)
    for row in rows:
        panel = axes[options.operators.index(row["operator"]), options.methods.index(row["method"])]
        share = np.sum(row["ranks"], axis=0) / np.sum(row["ranks"])
        even = 1 / len(share)
        slack = 1.96 * np.sqrt(even * (1 - even) / options.num_truths)
        panel.axhspan(even - slack, even + slack, color="0.85")
        panel.bar(np.arange(len(share)), share, width=0.9, color="tab:blue" if row["p_all"] > 0.01 else "tab:red")
        panel.set_title(f"p {row['p_all']:.2g}", fontsize=7)
    for panel in axes.flat:
        panel.set(yticks=[], ylim=(0, None))
        panel.tick_params(labelsize=7)
        panel.set_visible(panel.has_data())
    for panel, name in zip(axes[:, 0], options.operators, strict=True):
        panel.set_ylabel(name, fontsize=8)
    for panel, method in zip(axes[0], options.methods, strict=True):
        panel.annotate(method, (0.5, 1.3), xycoords="axes fraction", ha="center", fontsize=8)
    figures.write_png(path, figure)
