"""Checks the promises of reproducibility on a tiny training of each family: a table with PASS or FAIL.

$ python experiments/reproducibility.py
$ python experiments/reproducibility.py --break R3
$ python experiments/reproducibility.py --kills 20

The last line is one JSON object; the exit code is 1 if a promise is broken. `--break` adds a fault that breaks a
promise, to show that its check can fail. `--kills` kills one training repeatedly instead. The checks run on a CPU with
8 emulated devices; R7 needs an NVIDIA GPU.
"""

import dataclasses
import itertools
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

os.environ["JAX_PLATFORMS"] = "cpu"  # before JAX is imported; R7 starts processes with the GPU
os.environ["JAX_NUM_CPU_DEVICES"] = "8"

import tyro  # noqa: E402

from genjax import cli, flag_help  # noqa: E402
from studies.reproducibility import checks, kills  # noqa: E402

Row = Literal["R1", "R2", "R3", "R4", "R5", "R6", "R7"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The checks to make."""

    families: tuple[Literal["vae", "cyclegan", "cut", "unit"], ...] = ("vae", "cyclegan")
    """Families of models."""
    rows: tuple[Row, ...] = ()
    """Promises to check; if empty, all that can be checked on this machine."""
    broken: Annotated[Row | None, tyro.conf.arg(name="break")] = None
    """Adds the fault that breaks this promise, and checks only this promise."""
    kills: int = 0
    """Kills trainings on 1 and 8 devices and a study of two seeds, each this many times; checks no promises."""
    checkpoints: int = 150
    """With --kills: number of checkpoints of the training."""


def main() -> dict[str, bool | float]:
    """Prints the table and returns its verdicts."""
    options = tyro.cli(Options, description=flag_help.description(__doc__))
    if options.kills < 0:
        raise ValueError(f"--kills must not be negative, got {options.kills}")
    if options.broken and options.kills:
        raise ValueError("--break and --kills exclude each other: give one of them")
    cli.check_different(families=options.families, rows=options.rows or ("all",))
    directory, began = Path(tempfile.mkdtemp(prefix="genjax-")), time.perf_counter()
    try:
        results = _kill(options, directory) if options.kills else _check(options, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return {**results, "seconds": round(time.perf_counter() - began, 1)}


def _check(options: Options, directory: Path) -> dict[str, bool]:
    gpu = shutil.which("nvidia-smi") is not None
    rows: Sequence[str] = [options.broken] if options.broken else options.rows
    if "R7" in rows and not gpu:
        raise ValueError("R7 needs an NVIDIA GPU, and there is no nvidia-smi here: name other --rows")
    rows = rows or [row for row in checks.PROMISES if row != "R7" or gpu]
    results: dict[str, bool] = {}
    for row in rows:
        for family in options.families:
            began, where = time.perf_counter(), directory / f"{row}-{family}"
            where.mkdir()
            outcome = checks.PROMISES[row](family, where, row if options.broken else "")
            verdict, seconds = "PASS" if outcome.held else "FAIL", time.perf_counter() - began
            print(f"{row}  {verdict}  {family:8}  {seconds:4.0f} s  {outcome.seen}", flush=True)
            results[row] = results.get(row, True) and outcome.held
    return results


def _kill(options: Options, directory: Path) -> dict[str, bool]:
    results = {}
    kinds: dict[str, tuple[int, tuple[int, ...]]] = {"1": (1, ()), "8": (8, ()), "study": (1, (0, 1))}
    for family, (kind, (devices, seeds)) in itertools.product(options.families, kinds.items()):
        name = f"{family}.{kind}"
        where = directory / name
        where.mkdir()
        row = kills.kill_again_and_again(family, devices, options.kills, options.checkpoints, where, seeds)
        print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
        enough = row["during_a_save"] >= min(5, options.kills // 4)
        results[f"kills.{name}"] = row["strictly_inside"] and row["same_results"] and row["same_metrics"] and enough
    return results


if __name__ == "__main__":
    sys.exit(0 if all(cli.run(main).values()) else 1)
