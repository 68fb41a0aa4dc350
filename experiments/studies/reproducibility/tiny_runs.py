"""Tiny trainings of each family from the command line, for the checks of reproducibility."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from configs import CONFIGS
from genjax import cli
from genjax.config import RunConfig

SCRIPTS = Path(__file__).parents[2]


class Tiny(NamedTuple):
    """A named configuration, the flags that make it tiny, and the steps between its checkpoints."""

    config: str
    flags: str
    every: int


TINY = {
    "vae": Tiny("digits", "--data.batch-size 64 --vae.hidden-sizes 32 --vae.test-draws 2", 40),
    "cyclegan": Tiny(
        "icons",
        "--data.batch-size 8 --data.image-size 16 16 --optim.schedule constant "
        "--cyclegan.base-channels 2 --cyclegan.num-blocks 0 --cyclegan.discriminator-channels 2 "
        "--cyclegan.discriminator-layers 1 --cyclegan.pool-size 16 --train.num-sample-images 8",
        8,
    ),
    "cut": Tiny(
        "icons",
        "--data.batch-size 8 --data.image-size 16 16 --optim.schedule constant "
        "--cut.base-channels 2 --cut.num-blocks 1 --cut.features pixels down_2 block_1 --cut.head-units 8 --cut.mirror "
        "--cut.discriminator-channels 2 --cut.discriminator-layers 1 --train.num-sample-images 8",
        8,
    ),
    "unit": Tiny(
        "icons",
        "--data.batch-size 8 --data.image-size 16 16 --optim.schedule constant "
        "--unit.base-channels 2 --unit.num-blocks 1 --unit.discriminator-channels 2 --unit.discriminator-layers 1 "
        "--train.num-sample-images 8",
        8,
    ),
}
"""Tiny trainings by family."""


def arguments(family: str, workdir: Path, seed: int = 0, checkpoints: int = 6) -> list[str]:
    """Command-line arguments of a tiny training that saves `checkpoints` checkpoints."""
    return [TINY[family].config, "--workdir", str(workdir), "--seed", str(seed), *_flags(family, checkpoints)]


def _flags(family: str, checkpoints: int) -> list[str]:
    _, flags, every = TINY[family]
    lengths = f"--train.num-steps {checkpoints * every} --train.log-every {every // 4}"
    return f"{flags} {lengths} --train.eval-every {every} --train.checkpoint-every {every}".split()


def config(family: str, workdir: Path, flags: Sequence[str] = ()) -> RunConfig:
    """Returns the configuration that `arguments` describes, changed by further flags."""
    return cli.choose_config(CONFIGS[family], [*arguments(family, workdir), *flags])


def command(family: str, workdir: Path, fault: str = "", **changes: int) -> list[str]:
    """Returns the command that starts a tiny training, with a fault of faults.py if one is named."""
    script = str(SCRIPTS / f"train_{family}.py")
    runner = ["-m", "studies.reproducibility.faults", family, fault] if fault else []
    return [sys.executable, *runner, script, *arguments(family, workdir, **changes)]


def study_command(family: str, workdir: Path, seeds: Sequence[int], checkpoints: int) -> list[str]:
    """Returns the command that starts a study of tiny trainings with these seeds."""
    study = [f"{family}:{TINY[family].config}", "--workdir", str(workdir), "--seeds", *map(str, seeds)]
    return [sys.executable, str(SCRIPTS / "seed_study.py"), *study, *_flags(family, checkpoints)]


def environment(devices: int, **changes: str) -> dict[str, str]:
    """Returns the environment variables of a process with `devices` emulated devices."""
    path = os.pathsep.join(filter(None, (str(SCRIPTS), os.environ.get("PYTHONPATH"))))  # for `python -m studies.NAME`
    return {**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices), **changes}


def start(command: Sequence[str], environment: dict[str, str], umask: int = -1) -> subprocess.Popen[str]:
    """Starts a training; `finish` reads its output."""
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, umask=umask)


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Waits for a training and returns its results; raises RuntimeError with its log if it failed."""
    output, errors = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{process.args!r} failed:\n{errors[-3000:]}")
    results: dict[str, Any] = json.loads(output.splitlines()[-1])
    return results


def start_processes(
    commands: Sequence[Sequence[str]], devices: int, umasks: Sequence[int] = (), **last: str
) -> list[subprocess.Popen[str]]:
    """Starts commands as the processes of one run, with `devices` emulated devices each.

    `last` are environment variables of the last process alone.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    num = len(commands)
    variables = [environment(devices, GENJAX_DISTRIBUTED=f"localhost:{port},{num},{i}") for i in range(num)]
    variables[-1] |= last
    return [start(command, variables[i], *umasks[i : i + 1]) for i, command in enumerate(commands)]


def metrics(workdir: Path) -> bytes:
    """Returns the bytes of a run's metrics.jsonl."""
    return (workdir / "metrics.jsonl").read_bytes()
