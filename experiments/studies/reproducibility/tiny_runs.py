"""A tiny training of each family, from the command line: what the promises of reproducibility are tried on."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import tyro

from configs import cyclegan as cyclegan_configs
from configs import vae as vae_configs
from genjax import cyclegan, vae

SCRIPTS = Path(__file__).parents[2]


class Family(NamedTuple):
    """A script, a named configuration, the flags that make it tiny, and the steps between its checkpoints."""

    package: Any
    configs: Any
    script: str
    arguments: tuple[str, ...]
    every: int


FAMILIES = {
    "vae": Family(
        vae, vae_configs.CONFIGS, "train_vae.py", ("digits", "--data.batch-size", "64", "--vae.hidden-sizes", "32"), 40
    ),
    "cyclegan": Family(
        cyclegan, cyclegan_configs.CONFIGS, "train_cyclegan.py",
        ("icons", "--data.batch-size", "8", "--data.image-size", "16", "16", "--optim.schedule", "constant",
         "--optim.decay-steps", "0", "--cyclegan.width", "2", "--cyclegan.blocks", "0",
         "--cyclegan.discriminator-width", "2", "--cyclegan.discriminator-layers", "1", "--cyclegan.pool-size", "16",
         "--train.num-sample-images", "8"), 8,
    ),
}  # fmt: skip


def arguments(family: str, workdir: Path, seed: int = 0, checkpoints: int = 6) -> list[str]:
    """The command line of a tiny training with so many checkpoints."""
    every = FAMILIES[family].every
    flags = {
        "workdir": workdir, "seed": seed, "train.num-steps": checkpoints * every, "train.log-every": every // 4,
        "train.eval-every": every, "train.checkpoint-every": every,
    }  # fmt: skip
    return [*FAMILIES[family].arguments, *(part for name, value in flags.items() for part in (f"--{name}", str(value)))]


def config(family: str, workdir: Path, **changes: Any) -> Any:
    """The configuration that this command line makes."""
    configs = {name: (make.__doc__ or "", make()) for name, make in FAMILIES[family].configs.items()}
    return tyro.extras.overridable_config_cli(configs, args=arguments(family, workdir, **changes))


def command(family: str, workdir: Path, fault: str = "", **changes: Any) -> list[str]:
    """What starts it as a process, with a fault in it or none (see altered.py)."""
    script = str(SCRIPTS / FAMILIES[family].script)
    altered = ["-m", "studies.reproducibility.faults", family, fault] if fault else []
    return [sys.executable, *altered, script, *arguments(family, workdir, **changes)]


def environment(devices: int, **changes: str) -> dict[str, str]:
    """Environment variables of a process with so many emulated devices."""
    path = os.pathsep.join(filter(None, (str(SCRIPTS), os.environ.get("PYTHONPATH"))))  # for `python -m studies.NAME`
    return {**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices), **changes}


def start(command: list[str], environment: dict[str, str], umask: int = -1) -> subprocess.Popen[str]:
    """Starts a training whose output is read when it has ended."""
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, umask=umask)


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The results that a training prints last; RuntimeError with its errors if it failed."""
    output, errors = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, process.args))} failed:\n{errors[-3000:]}")  # type: ignore[arg-type]
    return json.loads(output.splitlines()[-1])


def start_processes(commands: list[list[str]], devices: int, umasks: tuple[int, ...] = ()) -> list:
    """Starts commands as the processes of one run, with so many emulated devices each."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    num = len(commands)
    return [
        start(command, environment(devices, GENJAX_DISTRIBUTED=f"localhost:{port},{num},{i}"), *umasks[i : i + 1])
        for i, command in enumerate(commands)
    ]


def metrics(workdir: Path) -> bytes:
    """The bytes of a run's metrics."""
    return (workdir / "metrics.jsonl").read_bytes()
