"""Kills trainings, at a chosen state of the checkpoint directory or repeatedly at random moments."""

import json
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from studies.reproducibility import tiny_runs


def _committed(names: list[str]) -> set[str]:
    return {name for name in names if name.rpartition("/")[2].isdigit()}


def _half_done(names: list[str]) -> list[str]:
    return [name for name in names if "orbax-checkpoint-tmp" in name]


MOMENTS: dict[str, Callable[[list[str]], bool]] = {
    "before the first commit": lambda names: bool(_half_done(names)) and not _committed(names),
    "during a save": lambda names: bool(_half_done(names)) and bool(_committed(names)),
    "after a commit": lambda names: len(_committed(names)) > 1 and not _half_done(names),
}
"""Tests of the names of checkpoints. Orbax saves to a temporary directory and renames it."""


def kill_at(
    command: list[str], workdir: Path, moment: Callable[[list[str]], bool], environment: dict[str, str]
) -> bool:
    """Starts a training and kills it as soon as `moment` holds.

    Returns False if it never held, or no longer held when the training was killed.
    """
    process = _start(command, environment, workdir)
    while process.poll() is None:
        if moment(_names(workdir)):
            return _kill(process) and moment(_names(workdir))
        time.sleep(0.0005)
    return False


def _names(workdir: Path) -> list[str]:
    """Lists the checkpoints of a run, or of all runs of a study."""
    directories = [workdir / "checkpoints", *workdir.glob("*/checkpoints")]
    return [f"{path.parent.name}/{name}" for path in directories if path.exists() for name in os.listdir(path)]


def _start(command: list[str], environment: dict[str, str], workdir: Path) -> subprocess.Popen[bytes]:
    with open(f"{workdir}.log", "ab") as log:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, env=environment)


def _kill(process: subprocess.Popen[bytes]) -> bool:
    process.kill()
    return process.wait() == -signal.SIGKILL


def kill_again_and_again(
    family: str, devices: int, kills: int, checkpoints: int, directory: Path, seeds: tuple[int, ...] = ()
) -> dict[str, Any]:
    """Kills one training `kills` times, every third time during a save, and compares it with an uninterrupted one.

    With `seeds` it is a study of those seeds. The other kills come at a random moment within two seconds after the
    start (a quarter of them) or after a later checkpoint. The same command resumes the training each time.
    """
    environment, rng = tiny_runs.environment(devices), random.Random(0)
    whole, killed, during_a_save = directory / "whole", directory / "killed", 0
    expected, command = (
        tiny_runs.study_command(family, workdir, seeds, checkpoints)
        if seeds
        else tiny_runs.command(family, workdir, checkpoints=checkpoints)
        for workdir in (whole, killed)
    )
    tiny_runs.finish(tiny_runs.start(expected, environment))
    for number in range(kills):
        process, directed = _start(command, environment, killed), number % 3 == 0
        if directed or rng.random() < 0.75:
            _wait_for_commits(process, killed, rng.randint(1, 4))
        if directed:
            _wait_for_a_save(process, killed)
        else:
            time.sleep(rng.uniform(0, 2))
        if not _kill(process):
            raise ValueError(f"the training ended before kill {number + 1}: give it more --checkpoints")
        during_a_save += directed and bool(_half_done(_names(killed)))
    if _start(command, environment, killed).wait() != 0:
        raise RuntimeError(f"the training failed after {kills} kills:\n{Path(f'{killed}.log').read_text()[-3000:]}")
    from_steps = [int(step) for step in re.findall(r"resumed .* from step (\d+)", Path(f"{killed}.log").read_text())]
    records = {run.relative_to(whole).parent: json.loads(run.read_bytes()) for run in whole.rglob("result.json")}
    steps = min(record["step"] for record in records.values())
    return {
        "family": family,
        "devices": devices,
        "runs": len(records),
        "kills": kills,
        "during_a_save": during_a_save,
        "steps": steps,
        "resumed_from": sorted(set(from_steps)),
        "strictly_inside": all(0 < step < steps for step in from_steps),
        "same_results": all(json.loads((killed / run / "result.json").read_bytes()) == records[run] for run in records),
        "same_metrics": all(tiny_runs.metrics(killed / run) == tiny_runs.metrics(whole / run) for run in records),
        "digests": [record["digest"][:8] for _, record in sorted(records.items())],
    }


def _wait_for_commits(process: subprocess.Popen[bytes], workdir: Path, num: int) -> None:
    """Waits until this process has saved `num` checkpoints."""
    before, seen = _committed(_names(workdir)), set[str]()
    while process.poll() is None and len(seen) < num:
        seen |= _committed(_names(workdir)) - before
        time.sleep(0.001)


def _wait_for_a_save(process: subprocess.Popen[bytes], workdir: Path) -> None:
    while process.poll() is None and not _half_done(_names(workdir)):
        time.sleep(0.0005)
