"""Times a study of seeds: all runs in one process, as in seed_study.py, against one process for each.

$ python experiments/benchmark.py seeds vae:digits --seeds 4

Runs have the configuration's length, with evaluations and pictures. Processes run one after another. The two sides take
turns, so that other work on the machine affects both. Each turn starts with an empty compilation cache, which later
processes of the turn read. Seconds include the start of Python; results are medians.
"""

import dataclasses
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import tyro

from genjax import flag_help


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The runs, and how often to time them."""

    config: tyro.conf.Positional[str]
    """vae:CONFIG, cyclegan:CONFIG or cut:CONFIG."""
    seeds: int = 4
    """Seeds 0, 1, ..."""
    rounds: int = 3
    """Turns of each side."""
    num_steps: int | None = None
    """Steps of each run at a constant learning rate, for a quick trial."""


def main() -> dict[str, Any]:
    """Returns the median seconds of both sides, and True if their runs have the same bytes."""
    options = tyro.cli(Options, description=flag_help.description(__doc__))
    every, digests = range(options.seeds), set()
    seconds: dict[str, list[float]] = {"one_process": [], "processes": []}
    for turn in range(options.rounds):
        for side in list(seconds)[:: -1 if turn % 2 else 1]:
            with tempfile.TemporaryDirectory() as directory:
                began, found = time.perf_counter(), list[str]()
                for seeds in [every] if side == "one_process" else [[seed] for seed in every]:
                    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                        found += process.submit(train, options, directory, seeds).result()
                seconds[side].append(time.perf_counter() - began)
                digests.add(tuple(found))
    medians = {f"{side}_seconds": round(statistics.median(values), 1) for side, values in seconds.items()}
    return {"config": options.config, "seeds": options.seeds, **medians, "same_bytes": len(digests) == 1}


def train(options: Options, directory: str, seeds: Sequence[int]) -> list[str]:
    """Trains one run for each of `seeds`, in a process that has not used JAX before; returns their digests."""
    import jax

    import configs
    from genjax.families import task_of
    from genjax.train.multi_seed import fit_seeds

    jax.config.update("jax_compilation_cache_dir", f"{directory}/cache")
    config = configs.make(options.config)
    if num := options.num_steps:
        optim = dataclasses.replace(config.optim, schedule="constant")
        train = dataclasses.replace(config.train, num_steps=num, log_every=num, eval_every=num, checkpoint_every=num)
        config = dataclasses.replace(config, optim=optim, train=train)
    runs = [dataclasses.replace(config, workdir=f"{directory}/{seed}", seed=seed) for seed in seeds]
    return [result.digest for result in fit_seeds(task_of(config), runs)]
