"""Measures how far a few known pairs bring an unpaired translation: L1 on test pairs against the number of pairs.

$ python experiments/study.py pairs icons --workdir runs/pairs

Length, optimiser and sizes are those of the configurations quickstart and faces-glasses. Each run is an ordinary run
with the same digest as from the training script. Repeat the command to resume; finished runs are not trained again. A
table and a figure are written beside the runs.
"""

import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import tyro
from matplotlib.figure import Figure

from configs import cyclegan as cyclegan_configs
from genjax import cli, files, flag_help
from genjax.cyclegan import losses
from genjax.cyclegan.config import CycleGanRun, LossConfig
from genjax.files import Json
from studies import figures, markdown

Source = Literal["icons", "faces-glasses"]
Method = Literal["cyclegan", "pairs-alone", "pix2pix"]
BASES = {"icons": cyclegan_configs.quickstart, "faces-glasses": cyclegan_configs.faces_glasses}
COLUMNS = {"l1_a2b": "L1 A to B", "l1_b2a": "L1 B to A"}
"""Metrics of a result, and their headings."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Options: the runs."""

    source: tyro.conf.Positional[Source]
    """A demo set with paired test images."""
    workdir: str
    """Directory of the study; WORKDIR/SOURCE holds a directory of each run, pairs.md and pairs.svg."""
    numbers: tuple[str, ...] = ("0", "4", "16", "64", "256", "all")
    """Numbers of known pairs."""
    methods: tuple[Method, ...] = ("cyclegan", "pairs-alone", "pix2pix")
    """cyclegan adds the loss of known pairs to those of the configuration. pairs-alone has no other loss and no other
    images. pix2pix, with all pairs, has a conditional adversarial loss beside it, and there it weighs 100."""
    weight: float = 10.0
    """Weight of the loss of known pairs: --loss.paired."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of each setting; all settings of one seed are trained before the next seed."""
    num_steps: int | None = None
    """Steps of each run instead of the configuration's; the learning rate decays over the second half."""


Setting = tuple[Method, str]
"""Method and number of pairs."""


def main() -> dict[str, Any]:
    """Trains, writes the table and the figure, and returns the mean L1 of each setting."""
    options, began = tyro.cli(Options, description=flag_help.description(__doc__)), time.perf_counter()
    cli.check_different(seeds=options.seeds, methods=options.methods, numbers=options.numbers)
    settings = [
        (method, number) for method in options.methods for number in options.numbers if is_trained(method, number)
    ]
    found: dict[Setting, list[Json]] = {setting: [] for setting in settings}
    for seed in options.seeds:
        for setting in settings:
            found[setting].append(cli.train(run_of(options, setting, seed)))

    place = files.resolve(options.workdir) / options.source
    text = table(found)
    files.write_atomically(place / "pairs.md", text)
    logging.info("\n%s", text)
    figures.write_svg(place / "pairs.svg", figure(options.source, found))
    means = {
        f"{method}.{number}.{name}": mean(runs, name) for (method, number), runs in found.items() for name in COLUMNS
    }
    counts = {"runs": sum(map(len, found.values())), "seconds": round(time.perf_counter() - began, 1)}
    return {**counts, **means, "table": str(place / "pairs.md"), "figure": str(place / "pairs.svg")}


def is_trained(method: Method, number: str) -> bool:
    """Returns True if a method takes this number of pairs."""
    return {"cyclegan": True, "pairs-alone": number != "0", "pix2pix": number == "all"}[method]


def run_of(options: Options, setting: Setting, seed: int) -> CycleGanRun:
    """Makes the configuration of one run below the workdir."""
    (method, number), base = setting, BASES[options.source]()
    base = dataclasses.replace(base, workdir=f"{options.workdir}/{options.source}/{method}-{number}-{seed}", seed=seed)
    if options.num_steps is not None:
        half = max(options.num_steps // 2, 1)
        train = dataclasses.replace(
            base.train, num_steps=options.num_steps, eval_every=half, checkpoint_every=half, log_every=min(50, half)
        )
        base = dataclasses.replace(base, train=train)
    pairs = f"{options.source}-pairs" if number == "all" else f"{options.source}-pairs:{number}"
    if method == "pix2pix":
        data = dataclasses.replace(base.data, source=pairs, train_pairs=True)
        networks = dataclasses.replace(base.cyclegan, conditional=True, pool_size=0)
        return dataclasses.replace(base, data=data, cyclegan=networks, loss=losses.PIX2PIX)
    if number == "0":
        return base
    alone = LossConfig(adversarial_a2b=0, adversarial_b2a=0, cycle_a=0, cycle_b=0, paired=options.weight)
    loss = alone if method == "pairs-alone" else dataclasses.replace(base.loss, paired=options.weight)
    return dataclasses.replace(base, data=dataclasses.replace(base.data, pairs=pairs), loss=loss)


def mean(runs: Sequence[Json], name: str) -> float:
    """Averages a metric over runs."""
    return float(np.mean([run[name] for run in runs]))


def table(found: Mapping[Setting, Sequence[Json]]) -> str:
    """Formats the L1 of each setting in both directions, and the digests of its runs."""
    rows = [["", "", *(f"{mean([run], 'l1_copy'):.4f}" for run in [next(iter(found.values()))[0]] * 2), ""]]
    rows[0][0] = "copy"
    for (method, number), runs in found.items():
        digests = ", ".join(f"`{run['digest'][:8]}`" for run in runs)
        rows.append([f"`{method}`", number, *(_cell(runs, name) for name in COLUMNS), digests])
    return markdown.table(["translation", "known pairs", *COLUMNS.values(), "digest"], rows)


def _cell(runs: Sequence[Json], name: str) -> str:
    values = [run[name] for run in runs]
    extent = f" ({min(values):.4f} to {max(values):.4f})" if len(runs) > 1 else ""
    return f"{mean(runs, name):.4f}{extent}"


def figure(source: str, found: Mapping[Setting, Sequence[Json]]) -> Figure:
    """Draws the L1 from A to B by the number of known pairs, with a point for each run."""
    drawn = Figure(figsize=(6, 3.5), layout="constrained")
    axes = drawn.subplots()
    numbers = list(dict.fromkeys(number for _, number in found))
    for method in dict.fromkeys(method for method, _ in found):
        own = {number: runs for (of, number), runs in found.items() if of == method}
        places = [numbers.index(number) for number in own]
        (line,) = axes.plot(places, [mean(runs, "l1_a2b") for runs in own.values()], marker="o", label=method)
        for place, runs in zip(places, own.values(), strict=True):
            axes.plot([place] * len(runs), [run["l1_a2b"] for run in runs], ".", color=line.get_color(), markersize=4)
    axes.axhline(next(iter(found.values()))[0]["l1_copy"], color="grey", linestyle="--", label="copy")
    axes.set_xticks(range(len(numbers)), numbers)
    axes.set(xlabel="known pairs", ylabel="L1 to the truth, A to B", title=source, ylim=(0, None))
    axes.legend()
    return drawn
