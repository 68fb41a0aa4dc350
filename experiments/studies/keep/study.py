"""Measures what a translation changes where nothing has to change: faces-glasses without and with --loss.keep.

$ python experiments/study.py keep --workdir runs/keep

Networks, optimiser and sizes are those of the configuration faces-glasses. Repeat the command to resume; finished runs
are not trained again. A test face and its pair are equal but for the glasses: outside are the pixels that are equal.
"""

import dataclasses
import logging
import time
from typing import Any, Literal

import numpy as np
import tyro

from configs import cyclegan as cyclegan_configs
from genjax import cli, files, flag_help
from genjax.cyclegan import keep_mask
from genjax.cyclegan.config import CycleGanRun
from genjax.data import image_arrays, sources
from genjax.gan.networks import Direction
from genjax.loading import load_translator
from studies import markdown

Setting = Literal["without", "everywhere", "map"]
DIRECTIONS: dict[Direction, str] = {"a2b": "glasses on", "b2a": "glasses off"}
COLUMNS = {
    "outside": "change outside", "outside_most": "99% of pixels outside below", "glasses": "error at the glasses",
    "copy": "of copying", "l1": "error of all pixels",
}  # fmt: skip
"""Metrics in grey levels, and their headings."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Options: the runs."""

    workdir: str
    """Directory of the study: a directory of each run, map.png and keep.md."""
    settings: tuple[Setting, ...] = ("without", "everywhere", "map")
    """without --loss.keep; with it everywhere; with it outside a map of differences that is measured without pairs."""
    everywhere: float = 2.0
    """Weight of --loss.keep everywhere."""
    outside: float = 10.0
    """Weight of --loss.keep outside the map."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of each setting."""
    num_steps: int | None = None
    """Steps of each run instead of the configuration's; the learning rate decays over the second half."""


def main() -> dict[str, Any]:
    """Measures the map, trains, writes the table, and returns the means over seeds, in grey levels."""
    options, began = tyro.cli(Options, description=flag_help.description(__doc__)), time.perf_counter()
    cli.check_different(seeds=options.seeds, settings=options.settings)
    base = cyclegan_configs.faces_glasses()
    splits, place = sources.load(base.data, seed=0), files.resolve(options.workdir)
    image_arrays.write_png(place / "map.png", keep_mask.measure(*splits.train))
    rows, means = [], dict[str, float]()
    for setting in options.settings:
        trained = [cli.train(run_of(options, setting, seed)) for seed in options.seeds]
        runs = [run_of(options, setting, seed).workdir for seed in options.seeds]
        for direction, words in DIRECTIONS.items():
            found = [measure(run, direction, *splits.test) for run in runs]
            values = {name: [metrics[name] for metrics in found] for name in COLUMNS}
            digests = ", ".join(f"`{result['digest'][:8]}`" for result in trained)
            rows.append([f"`{setting}`", words, *map(_cell, values.values()), digests])
            means |= {f"{setting}.{direction}.{name}": round(float(np.mean(of)), 3) for name, of in values.items()}
    text = markdown.table(["keep", "direction", *COLUMNS.values(), "digest"], rows)
    files.write_atomically(place / "keep.md", text)
    logging.info("\n%s", text)
    return {"seconds": round(time.perf_counter() - began, 1), **means, "table": str(place / "keep.md")}


def run_of(options: Options, setting: Setting, seed: int) -> CycleGanRun:
    """Makes the configuration of one run below the workdir."""
    run = cyclegan_configs.faces_glasses()
    weight = {"without": 0.0, "everywhere": options.everywhere, "map": options.outside}[setting]
    run = dataclasses.replace(
        run, workdir=f"{options.workdir}/{setting}-{seed}", seed=seed, loss=dataclasses.replace(run.loss, keep=weight),
        keep_mask=f"{options.workdir}/map.png" if setting == "map" else "",
    )  # fmt: skip
    if options.num_steps is None:
        return run
    half = max(options.num_steps // 2, 1)
    train = dataclasses.replace(run.train, num_steps=options.num_steps, eval_every=half, checkpoint_every=half)
    return dataclasses.replace(run, train=train)


def measure(workdir: str, direction: Direction, a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Measures the translations of a finished run on test pairs, uint8 [n, h, w, c], in grey levels."""
    images, truth = (a, b) if direction == "a2b" else (b, a)
    return metrics(images, 255 * load_translator(workdir).translate(direction, images), truth)


def metrics(images: np.ndarray, translated: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Computes the mean absolute change outside, and errors, of translations whose levels are 0 to 255."""
    differ = (images != truth).any(axis=-1)
    change, error = np.abs(translated - images), np.abs(translated - truth)
    return {
        "outside": float(change[~differ].mean()),
        "outside_most": float(np.quantile(change[~differ], 0.99)),
        "glasses": float(error[differ].mean()),
        "copy": float(np.abs(truth.astype(float) - images)[differ].mean()),
        "l1": float(error.mean()),
    }


def _cell(values: list[float]) -> str:
    extent = f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{extent}"
