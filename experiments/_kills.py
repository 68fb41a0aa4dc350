"""Kills of a training: at a moment that the directory of its checkpoints shows, or at any moment, many times over."""

import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _tiny


def _committed(names: list[str]) -> list[int]:
    return [int(name) for name in names if name.isdigit()]


def _half_done(names: list[str]) -> list[str]:
    return [name for name in names if "orbax-checkpoint-tmp" in name]


MOMENTS: dict[str, Callable[[list[str]], bool]] = {
    "before the first commit": lambda names: bool(_half_done(names)) and not _committed(names),
    "during a save": lambda names: bool(_half_done(names)) and bool(_committed(names)),
    "after a commit": lambda names: len(_committed(names)) > 1 and not _half_done(names),
}
"""By the names in the directory of the checkpoints: Orbax saves into a temporary one, which it renames."""


def kill_at(
    command: list[str], workdir: Path, moment: Callable[[list[str]], bool], environment: dict[str, str]
) -> bool:
    """Starts a training and kills it at the first sight of a moment.

    False if there was none, or if it had passed when the kill arrived.
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
    """Kills one training `kills` times, every third time with a save half done and else at a random moment.

    Each time the same command resumes it; at the end its state and metrics are compared with an uninterrupted run's.
    """
    environment, rng = _tiny.environment(devices), random.Random(0)
    whole = _tiny.finish(_tiny.start(_tiny.command(family, directory / "whole", checkpoints=checkpoints), environment))
    killed, during_a_save = directory / "killed", 0
    command = _tiny.command(family, killed, checkpoints=checkpoints)
    for number in range(kills):
        if number % 3 == 0:  # the first one too, so that there is something to resume
            during_a_save += _kill_during_a_save(command, killed, environment)
        else:
            process = _start(command, environment, killed)
            if rng.random() < 0.75:  # else while it starts
                _wait_for_a_resumption(process, killed, len(_resumed_from(killed)))
            time.sleep(rng.uniform(0, whole["seconds"] / kills))
            if not _kill(process):
                raise RuntimeError(f"the training ended before kill {number + 1}: give it more checkpoints")
    resumed = _tiny.finish(_tiny.start(command, environment))
    from_steps = [*_resumed_from(killed), resumed["resumed_from"]]
    return {
        "family": family,
        "devices": devices,
        "kills": kills,
        "during_a_save": during_a_save,
        "resumptions": len(from_steps),
        "first_resumed_step": min(from_steps),
        "last_resumed_step": max(from_steps),
        "steps": whole["step"],
        "strictly_inside": all(0 < step < whole["step"] for step in from_steps),
        "same_state": resumed["digest"] == whole["digest"],
        "same_metrics": _tiny.metrics(killed) == _tiny.metrics(directory / "whole"),
        "digest": whole["digest"][:8],
    }


def _resumed_from(workdir: Path) -> list[int]:
    """The steps that its trainings went on from, as they logged them."""
    return [int(step) for step in re.findall(r"resumed .* from step (\d+)", Path(f"{workdir}.log").read_text())]


def _wait_for_a_resumption(process: subprocess.Popen[bytes], workdir: Path, before: int) -> None:
    while process.poll() is None and len(_resumed_from(workdir)) == before:
        time.sleep(0.01)


def _kill_during_a_save(command: list[str], workdir: Path, environment: dict[str, str]) -> bool:
    """Kills it at a save that begins in this process; whether the save was half done when the kill had arrived."""
    process = _start(command, environment, workdir)
    stale = set(_half_done(_names(workdir)))  # of an earlier kill
    while process.poll() is None:
        half_done = set(_half_done(_names(workdir)))
        stale &= half_done
        if half_done - stale and _committed(_names(workdir)):
            return _kill(process) and bool(set(_half_done(_names(workdir))) - stale)
        time.sleep(0.0005)
    raise RuntimeError("the training ended before it could be killed during a save: give it more checkpoints")
