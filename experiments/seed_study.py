"""Trains one configuration with several seeds, and measures the spread of its metrics.

$ python experiments/seed_study.py vae:digits --seeds 0 1 2 3 --workdir runs/seeds
$ python experiments/seed_study.py vae:digits --seeds 0 1 2 3 --vary data --workdir runs/orders
$ python experiments/seed_study.py vae:digits --seeds 0 1 --design crossed --workdir runs/crossed

All runs are scored on the same images with the same noise, so their spread is that of training. The standard errors of
a VAE's elbo say what other noise and other images would change.

Runs train one after another, each in its own directory, with the same digests as from the training script. Repeat the
command to resume: it skips finished runs, and an interrupted run goes on. With further seeds it trains only those; a
table of more seeds is not overwritten. Other flags are those of the configuration, such as --train.num-steps 500.
compare_studies.py compares two studies.
"""

import dataclasses
import itertools
import logging
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import tyro
from etils import epath

from configs import CONFIGS, split_name
from genjax import cli, files, flag_help, keys
from genjax.config import RunConfig, SeedConfig
from genjax.data import sources
from genjax.families import task_of
from genjax.task import C
from genjax.train import environment, run_directory, starts
from genjax.train.multi_seed import fit_seeds
from genjax.train.rows import METRICS, finite, read_rows
from studies.seeds import curves, statistics, tables

STREAMS = tuple(field.name for field in dataclasses.fields(SeedConfig))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Options: the configuration, the seeds, and the streams that they vary."""

    study: tyro.conf.Positional[str]
    """vae:CONFIG, cyclegan:CONFIG, cut:CONFIG or unit:CONFIG, a named configuration of the training scripts."""
    workdir: str
    """Directory for the runs, and for the study's curves.png and study.json."""
    seeds: tuple[int, ...] = (0, 1, 2, 3)
    """Two or more seeds; streams that do not vary use the first."""
    vary: str = ",".join(STREAMS)
    """Streams to vary, with commas between: initial parameters (init), order of images (data), noise in training
    (noise)."""
    design: Literal["together", "crossed"] = "together"
    """together: a run for each seed. crossed: a run for each combination of seeds over the varied streams."""


def main() -> dict[str, Any]:
    """Trains, prints the tables, writes curves and results, and returns the results."""
    began = time.perf_counter()
    options, flags = tyro.cli(Options, description=flag_help.description(__doc__), return_unknown_args=True)
    config, vary = choose(options, flags)
    workdir, crossed = files.resolve(options.workdir), options.design == "crossed"
    configs = run_configs(options, config, vary)
    _check_workdir(workdir, configs)
    results = train(configs)

    names = list(next(iter(results.values()))["test"])
    values = {name: np.array([tables.number(run["test"][name]) for run in results.values()]) for name in names}
    summaries = {name: statistics.summarize(of_runs) for name, of_runs in values.items()}
    shape = (len(options.seeds),) * len(vary)
    parts = {name: statistics.decompose(x.reshape(shape), vary) for name, x in values.items()} if crossed else {}

    family = tables.SHOWN[task_of(config).name]
    shown = [name for name in family.table if name in names]
    print(tables.runs_table(shown, results, summaries, independent=not crossed))
    print(f"\n{tables.components_table(shown, parts) if crossed else tables.interval_note(vary, STREAMS)}\n")
    record = {"study": options.study, "design": options.design, "vary": vary, "seeds": options.seeds, "runs": results}
    flat = tables.flat_results(summaries, parts)
    files.write_json(workdir / "study.json", record | flat)
    rows = [list(read_rows(files.resolve(run.workdir) / METRICS)) for run in configs.values()]
    curves.plot(workdir / "curves.png", f"{options.study}, {len(rows)} runs", rows, family.curves)
    counts = {"study": options.study, "seeds": len(options.seeds), "runs": len(results)}
    return {**counts, "seconds": round(time.perf_counter() - began, 1), **flat, "curves": str(workdir / "curves.png")}


def choose(options: Options, flags: Sequence[str]) -> tuple[RunConfig, list[str]]:
    """Returns the configuration from `flags`, and the streams to vary; raises ValueError for invalid options."""
    family, name = split_name(options.study)
    vary = options.vary.split(",")
    if len(options.seeds) < 2 or len(set(options.seeds)) < len(options.seeds):
        given = " ".join(map(str, options.seeds)) or "none"
        raise ValueError(f"a study needs two or more different --seeds, got {given}")
    if not set(vary) <= set(STREAMS) or len(set(vary)) < len(vary):
        raise ValueError(f"--vary takes one or more of {','.join(STREAMS)}, with commas between, got {options.vary}")
    if options.design == "crossed" and len(vary) < 2:
        raise ValueError(f"--design crossed needs two or more streams to cross: give --vary {','.join(STREAMS)}")
    config = cli.choose_config(CONFIGS[family], [name, "--workdir", options.workdir, *flags])
    if config.seed != 0 or config.seeds != SeedConfig():
        raise ValueError("a study takes its seeds from --seeds and --vary: leave out --seed and --seeds.STREAM")
    return config, vary


def _check_workdir(workdir: epath.Path, names: Collection[str]) -> None:
    """Raises ValueError if study.json or curves.png would overwrite another program's file, or more than these runs."""
    record, figure = workdir / "study.json", workdir / "curves.png"
    saved = files.read_json(record) if record.exists() else {}
    if (record.exists() or figure.exists()) and not (isinstance(saved, dict) and "study" in saved):
        raise ValueError(f"{record} or curves.png beside it is not a study's: move them, or choose another --workdir")
    if lost := [name for name in saved.get("runs", ()) if name not in names]:
        remedy = "add their seeds to --seeds, move study.json and curves.png away, or choose another --workdir"
        raise ValueError(f"{record} holds {', '.join(lost)}, which its new table would lack: {remedy}")


def run_configs(options: Options, config: C, vary: Sequence[str]) -> dict[str, C]:
    """Returns the configuration of each run by the name of its directory; a crossed design is in C order."""
    first = options.seeds[0]
    seeds: dict[str, tuple[int, SeedConfig]]
    if options.design == "crossed":
        combinations = [dict(zip(vary, c, strict=True)) for c in itertools.product(options.seeds, repeat=len(vary))]
        seeds = {
            "-".join(f"{stream}-{seed}" for stream, seed in own.items()): (first, SeedConfig(**own))
            for own in combinations
        }
    elif set(vary) == set(STREAMS):  # as in an ordinary run
        seeds = {f"seed-{seed}": (seed, SeedConfig()) for seed in options.seeds}
    else:
        seeds = {f"seed-{seed}": (first, SeedConfig(**dict.fromkeys(vary, seed))) for seed in options.seeds}
    return {
        name: dataclasses.replace(config, workdir=f"{options.workdir}/{name}", seed=seed, seeds=own)
        for name, (seed, own) in seeds.items()
    }


def train(configs: Mapping[str, RunConfig]) -> dict[str, dict[str, Any]]:
    """Trains the runs that are not finished; returns step, digest and test metrics of each run."""
    task, data = task_of(next(iter(configs.values()))), sources.measured(next(iter(configs.values())).data)
    configs = {name: dataclasses.replace(config, data=data) for name, config in configs.items()}  # alike in all
    if task.load_constants is not None:
        configs = {name: task.load_constants(config)[0] for name, config in configs.items()}
    configs = {name: starts.prepared(task, config)[0] for name, config in configs.items()}
    results = {name: record for name, config in configs.items() if (record := _finished(config)) is not None}
    missing = [name for name in configs if name not in results]
    try:
        trained = fit_seeds(task, [configs[name] for name in missing]) if missing else []
    except FloatingPointError as error:
        raise FloatingPointError(
            f"{error}\nThe other runs are finished: --seeds without those of the runs above gives their tables"
        ) from error
    if trained and (signal := trained[-1].stopped_by) is not None:
        logging.warning("stopped and saved at step %d: the same command resumes the study", trained[-1].step)
        sys.exit(128 + signal)
    for name, result in zip(missing, trained, strict=True):
        results[name] = {"step": result.step, "digest": result.digest, "test": finite(result.test)}
    return {name: results[name] for name in configs}


def _finished(config: RunConfig) -> dict[str, Any] | None:
    """Reads result.json of a finished run, or returns None; warns if its environment differs.

    Raises ValueError if the run has another configuration or was trained on other images.
    """
    path = run_directory.check_workdir(config, steps_known=config.train.epochs == 0) / run_directory.RESULT
    if not path.exists():
        return None
    config, workdir, splits = run_directory.with_images(task_of(config), config)
    run_directory.check_workdir(config)  # again: epochs are steps by now
    result: dict[str, Any] = files.read_json(path)
    if not isinstance(result, dict) or not {"step", "digest", "test"} <= result.keys():
        raise ValueError(f"{path} is damaged, it holds no result: remove it, and the same command evaluates again")
    if result["step"] != config.train.num_steps or result.get("scoring_seed") != keys.SCORING_SEED:
        return None  # to be trained further, or scored again because older versions took the run's own seed
    run_directory.check_data(workdir, sources.describe(splits))
    saved, now = files.read_json(workdir / "environment.json"), environment.describe(config)
    for line in files.differences(saved | {"devices": 0}, now | {"devices": 0}):
        logging.warning("%s was trained in another environment: %s", workdir.name, line)
    return result


if __name__ == "__main__":
    cli.run(main)
