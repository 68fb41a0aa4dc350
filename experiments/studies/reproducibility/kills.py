"""Kills trainings, at a chosen state of the checkpoint directory or repeatedly at random moments."""

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


def _committed(names: list[str]) -> list[int]:
    return [int(name) for name in names if name.isdigit()]


def _half_done(names: list[str]) -> list[str]:
    return [name for name in names if "orbax-checkpoint-tmp" in name]


MOMENTS: dict[str, Callable[[list[str]], bool]] = {
    "before the first commit": lambda names: bool(_half_done(names)) and not _committed(names),
    "during a save": lambda names: bool(_half_done(names)) and bool(_committed(names)),
    "after a commit": lambda names: len(_committed(names)) > 1 and not _half_done(names),
}
"""Tests of the names in the checkpoint directory. Orbax saves to a temporary directory and renames it."""


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
    checkpoints = workdir / "checkpoints"
    return os.listdir(checkpoints) if checkpoints.exists() else []


def _start(command: list[str], environment: dict[str, str], workdir: Path) -> subprocess.Popen[bytes]:
    with open(f"{workdir}.log", "ab") as log:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, env=environment)


def _kill(process: subprocess.Popen[bytes]) -> bool:
    process.kill()
    return process.wait() == -signal.SIGKILL


def kill_again_and_again(family: str, devices: int, kills: int, checkpoints: int, directory: Path) -> dict[str, Any]:
    """Kills one training `kills` times, every third time during a save, and compares it with an uninterrupted one.

    The other kills come at a random moment within two seconds after the start (a quarter of them) or after a later
    checkpoint. The same command resumes the training each time.
    """
    environment, rng = tiny_runs.environment(devices), random.Random(0)
    whole = tiny_runs.finish(
        tiny_runs.start(tiny_runs.command(family, directory / "whole", checkpoints=checkpoints), environment)
    )
    killed, during_a_save = directory / "killed", 0
    command = tiny_runs.command(family, killed, checkpoints=checkpoints)
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
    resumed = tiny_runs.finish(tiny_runs.start(command, environment))
    log = Path(f"{killed}.log").read_text()
    from_steps = [int(step) for step in re.findall(r"resumed .* from step (\d+)", log)] + [resumed["resumed_from"]]
    return {
        "family": family,
        "devices": devices,
        "kills": kills,
        "during_a_save": during_a_save,
        "steps": whole["step"],
        "resumed_from": sorted(set(from_steps)),
        "strictly_inside": all(0 < step < whole["step"] for step in from_steps),
        "same_state": resumed["digest"] == whole["digest"],
        "same_metrics": tiny_runs.metrics(killed) == tiny_runs.metrics(directory / "whole"),
        "digest": whole["digest"][:8],
    }


def _wait_for_commits(process: subprocess.Popen[bytes], workdir: Path, num: int) -> None:
    """Waits until this process has saved `num` checkpoints."""
    before = max(_committed(_names(workdir)), default=0)
    seen: set[int] = set()
    while process.poll() is None and len(seen) < num:
        seen |= {step for step in _committed(_names(workdir)) if step > before}
        time.sleep(0.001)


def _wait_for_a_save(process: subprocess.Popen[bytes], workdir: Path) -> None:
    while process.poll() is None and not _half_done(_names(workdir)):
        time.sleep(0.0005)
