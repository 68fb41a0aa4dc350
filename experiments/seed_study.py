"""Trains one configuration with many seeds at once: how much of a figure is chance, and where the chance comes from.

$ python experiments/seed_study.py vae:digits --seeds 0 1 2 3 --workdir runs/seeds
$ python experiments/seed_study.py vae:digits --seeds 0 1 2 3 --vary data --workdir runs/orders
$ python experiments/seed_study.py vae:digits --seeds 0 1 --design crossed --workdir runs/crossed

Each run is a directory as the training script would write it, but for pictures, with the digest that the script comes
to on as many devices. The same command again resumes all of them; with more seeds, it trains the new ones.
Further flags are those of the configuration, as --train.num-steps 500.
"""

import dataclasses
import itertools
import logging
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import tyro
from etils import epath

from configs import cyclegan as cyclegan_configs
from configs import vae as vae_configs
from genjax import cli, cyclegan, files, vae
from genjax.config import SeedConfig
from genjax.data import sources
from genjax.task import Task
from genjax.train import run_directory
from genjax.train.loop import load
from genjax.train.multi_seed import fit_together
from genjax.train.writers import finite, read_rows
from studies.seeds import curves, statistics

STREAMS = tuple(field.name for field in dataclasses.fields(SeedConfig))


class Family(NamedTuple):
    """What trains a configuration, the named ones, the test figures of the table, and the metrics of the curves."""

    task_of: Callable[[Any], tuple[Task, Any]]
    """The task, and the configuration with the SHA-256 of what it is trained with."""
    configs: Mapping[str, Any]
    figures: tuple[str, ...]
    curves: tuple[str, ...]


FAMILIES = {
    "vae": Family(
        lambda config: (vae.TASK, config),
        vae_configs.CONFIGS, ("elbo", "distortion", "rate", "bits_per_dim"), ("elbo", "distortion", "rate"),
    ),
    "cyclegan": Family(
        cyclegan.with_classifiers, cyclegan_configs.CONFIGS,
        ("l1_a2b", "l1_b2a", "iou_a2b", "iou_b2a", "cycle_a2b", "cycle_b2a"),
        ("g_loss", "d_a_loss", "d_b_loss", "cycle_a2b", "l1_a2b", "l1_b2a"),
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What varies between the runs."""

    study: tyro.conf.Positional[str]
    """vae:CONFIG or cyclegan:CONFIG, a named configuration of the training scripts."""
    workdir: str
    """Each run has a directory in it, beside the study's curves.png and study.json."""
    seeds: tuple[int, ...] = (0, 1, 2, 3)
    """Two or more; streams that do not vary have the first."""
    vary: str = ",".join(STREAMS)
    """What the seeds are of: the first parameters (init), the images' order (data), what steps draw (noise)."""
    design: Literal["together", "crossed"] = "together"
    """Together: a run for each seed. Crossed: a run for each combination of the seeds over what varies."""


def main() -> dict[str, Any]:
    """Trains, prints the table, writes curves and figures, and returns the results."""
    began = time.perf_counter()
    options, flags = tyro.cli(Options, description=__doc__, return_unknown_args=True)
    family, config, vary = _choose(options, flags)
    task, config = family.task_of(config)
    configs = _runs(options, config, vary)
    results = _train(task, configs)
    figures = {name: np.array([_number(run["test"][name]) for run in results.values()]) for name in _names(results)}
    summaries = {name: statistics.summarize(values) for name, values in figures.items()}
    shape = (len(options.seeds),) * len(vary)
    crossed = options.design == "crossed"
    parts = {name: statistics.decompose(x.reshape(shape), vary) for name, x in figures.items()} if crossed else {}

    print(_table(family, results, summaries, crossed))
    print(f"\n{_decomposition(family, parts) if crossed else _note(vary)}\n")
    record = {"study": options.study, "design": options.design, "vary": vary, "seeds": options.seeds, "runs": results}
    flat = _flat(summaries, parts)
    files.write_json(files.resolve(options.workdir) / "study.json", record | flat)
    rows = [read_rows(files.resolve(run.workdir) / "metrics.jsonl") for run in configs.values()]
    drawn = curves.draw(files.resolve(options.workdir) / "curves.png", f"{options.study}, {len(rows)} runs", rows,
                         family.curves)  # fmt: skip
    seconds = round(time.perf_counter() - began, 1)
    counts = {"study": options.study, "seeds": len(options.seeds), "runs": len(results), "seconds": seconds}
    return {**counts, **flat, "curves": str(drawn)}


def _choose(options: Options, flags: Sequence[str]) -> tuple[Family, Any, list[str]]:
    """The family, the configuration that the further flags make, and the streams that vary; ValueError if wrong."""
    family_name, _, name = options.study.partition(":")
    if family_name not in FAMILIES:
        raise ValueError(f"{options.study} names no family: give vae:CONFIG or cyclegan:CONFIG")
    family, vary = FAMILIES[family_name], options.vary.split(",")
    if name not in family.configs:
        raise ValueError(f"{options.study} names no configuration: give {family_name}: and {', '.join(family.configs)}")
    if len(options.seeds) < 2 or len(set(options.seeds)) < len(options.seeds):
        given = " ".join(map(str, options.seeds)) or "none"
        raise ValueError(f"a study needs two or more different --seeds, got {given}")
    if not set(vary) <= set(STREAMS) or len(set(vary)) < len(vary):
        raise ValueError(f"--vary {options.vary} is not one or more of {','.join(STREAMS)}, with commas between them")
    if options.design == "crossed" and len(vary) < 2:
        raise ValueError(f"--design crossed needs two or more streams to cross: --vary {','.join(STREAMS)}")
    _check_place(files.resolve(options.workdir))
    described = {name: (family.configs[name].__doc__ or "", family.configs[name]())}
    config = tyro.extras.overridable_config_cli(described, args=[name, "--workdir", options.workdir, *flags])
    if config.seed != 0 or config.seeds != SeedConfig():
        raise ValueError("the seeds of a study are given as --seeds and --vary, not as --seed or --seeds.STREAM")
    return family, config, vary


def _check_place(workdir: epath.Path) -> None:
    """Raises ValueError if what this script writes would take the place of what is not its own."""
    record, curves = workdir / "study.json", workdir / "curves.png"
    found = files.read_json(record) if record.exists() else {}
    if (record.exists() or curves.exists()) and not (isinstance(found, dict) and "study" in found):
        raise ValueError(f"{record} or {curves.name} beside it is no study's: move them, or choose another --workdir")


def _runs(options: Options, config: Any, vary: Sequence[str]) -> dict[str, Any]:
    """The configuration of each run by the name of its directory; those of a crossed design in C order."""
    first, combinations = options.seeds[0], itertools.product(options.seeds, repeat=len(vary))
    seeds: dict[str, tuple[int, tuple[int | None, ...]]]
    if options.design == "crossed":
        seeds = {"-".join(f"{s}-{seed}" for s, seed in zip(vary, c, strict=True)): (first, c) for c in combinations}
    elif set(vary) == set(STREAMS):
        seeds = {f"seed-{seed}": (seed, (None,) * len(vary)) for seed in options.seeds}  # as in a run by itself
    else:
        seeds = {f"seed-{seed}": (first, (seed,) * len(vary)) for seed in options.seeds}
    return {
        name: dataclasses.replace(
            config,
            workdir=f"{options.workdir}/{name}",
            seed=seed,
            seeds=SeedConfig(**dict(zip(vary, own, strict=True))),
        )
        for name, (seed, own) in seeds.items()
    }


def _train(task: Task, configs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Digest and test figures of each run: of finished ones as they are, the others are trained together."""
    found: dict[str, dict[str, Any]] = {}
    for name, config in configs.items():
        path = run_directory.check_workdir(config) / "result.json"
        result = files.read_json(path) if path.exists() else {"step": 0}
        if result["step"] == config.train.num_steps:
            found[name] = result
    _check_finished([configs[name] for name in found])
    missing = [name for name in configs if name not in found]
    trained = fit_together(task, [configs[name] for name in missing]) if missing else []
    for name, result in zip(missing, trained, strict=True):
        if result.stopped_by is not None:
            logging.warning("stopped and saved at step %d; the same command goes on from there", result.step)
            sys.exit(128 + result.stopped_by)
        found[name] = {"step": result.step, "digest": result.digest, "test": finite(result.test)}
    return {name: found[name] for name in configs}


def _check_finished(configs: Sequence[Any]) -> None:
    """Raises ValueError if one of these runs saw other images than are there now; another environment is a warning."""
    changed = set()
    for config, splits in zip(configs, load(configs), strict=True):
        workdir = files.resolve(config.workdir)
        run_directory.check_data(workdir, sources.describe(splits))
        then, now = files.read_json(workdir / "environment.json"), run_directory.environment(config)
        changed |= set(run_directory.differences(then | {"devices": 0}, now | {"devices": 0}))
    for line in sorted(changed):
        logging.warning("a finished run was trained in another environment: %s", line)


def _names(results: Mapping[str, Any]) -> list[str]:
    return list(next(iter(results.values()))["test"])


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _table(family: Family, results: Mapping[str, Any], summaries: Mapping[str, Any], crossed: bool) -> str:
    """Every run, then their mean, standard deviation, and 95% interval of the mean if they are independent."""
    shown = [name for name in family.figures if name in summaries]
    rows = [["run", "digest", *shown], ["---"] * (2 + len(shown))]
    for name, run in results.items():
        rows.append([name, f"`{run['digest'][:8]}`", *(f"{_number(run['test'][figure]):.5g}" for figure in shown)])
    rows.append(["mean", "", *(f"{summaries[figure].mean:.5g}" for figure in shown)])
    rows.append(["standard deviation", "", *(f"{summaries[figure].sd:.2g}" for figure in shown)])
    if not crossed:  # runs that share a seed are no independent draws
        intervals = [f"{summaries[figure].low:.5g} to {summaries[figure].high:.5g}" for figure in shown]
        rows.append(["95% interval of the mean", "", *intervals])
    return _markdown(rows)


def _note(vary: Sequence[str]) -> str:
    fixed = [stream for stream in STREAMS if stream not in vary]
    over = f"the seeds of {' and '.join(vary)}" + (f", with one seed of {' and '.join(fixed)}" if fixed else "")
    return f"The interval is Student's t, over {over}; it is about training again, not about other images."


def _decomposition(family: Family, parts: Mapping[str, Mapping[str, statistics.Component]]) -> str:
    """For each stream its share of the sum of squares and its standard deviation; and what little that says."""
    shown = [name for name in family.figures if name in parts]
    streams = list(parts[shown[0]])
    columns = [f"{figure}: {what}" for figure in shown for what in ("share", "standard deviation")]
    rows = [["stream", "degrees of freedom", *columns], ["---"] * (2 + len(columns))]
    for stream in streams:
        found = [parts[figure][stream] for figure in shown]
        cells = [cell for part in found for cell in (f"{part.share:.3f}", f"{part.sd:.2g}")]
        rows.append([stream, str(found[0].df), *cells])
    df, total = parts[shown[0]][streams[0]].df, sum(part.df for part in parts[shown[0]].values())
    mean, seldom = statistics.share_without_effect(df, total)
    low, high = statistics.sd_factors(df)
    return (
        f"{_markdown(rows)}\n\nShares are of the total sum of squares. Standard deviations are by expected mean "
        "squares, 0 where that estimates a negative variance; the rest is what the streams do not add up to.\n"
        f"A stream without effect has a share of {mean:.3f} on average and, were the runs normal, above {seldom:.3f} "
        f"in 1 study of 20.\nEach stream has {df} degree{'s' * (df > 1)} of freedom: at best, the true standard "
        f"deviation is between {low:.2g} and {high:.2g} times the one given (95%)."
    )


def _flat(summaries: Mapping[str, statistics.Summary], parts: Mapping[str, Any]) -> dict[str, float | None]:
    """All figures by one name each: `mean.elbo`, or `share.elbo.init` for a crossed design."""
    of = ("mean", "sd") if parts else ("mean", "sd", "low", "high")
    flat = {f"{what}.{name}": getattr(summary, what) for what in of for name, summary in summaries.items()}
    for what, short in (("share", "share"), ("sd", "component_sd")):
        flat |= {f"{short}.{n}.{s}": getattr(part, what) for n, by in parts.items() for s, part in by.items()}
    return finite(flat)


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


if __name__ == "__main__":
    cli.run(main)
