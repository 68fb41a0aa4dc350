"""Checks of the promises R1 to R7, one function each, on tiny trainings.

R3 to R6 need 8 devices in this process; R1, R2 and R7 start processes of their own. `fault` names a fault of faults.py
to add to the trainings; the check must then fail.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh
from jax.typing import DTypeLike

from genjax import cli, files, keys, optim, parallel
from genjax.config import RunConfig
from genjax.data import sources
from genjax.families import FAMILIES
from genjax.parallel import PyTree
from genjax.task import State
from genjax.train import checkpoint, fingerprint
from studies.reproducibility import kills, tiny_runs
from studies.reproducibility.faults import recorded_inputs, with_fault
from studies.reproducibility.stepping import mesh_of, walk

LOSSES = ("loss", "g_loss", "d_a_loss", "d_b_loss")
"""Names of the losses that networks minimise, in all families."""

GPU_FLAGS = "--xla_gpu_exclude_nondeterministic_ops=true --xla_gpu_autotune_level=0"
"""XLA flags for reproducible bytes on a GPU: deterministic operations, and no choice of kernels by timing."""


class Outcome(NamedTuple):
    """The verdict of a check, and the numbers behind it."""

    held: bool
    seen: str


def same_bytes(family: str, directory: Path, fault: str = "") -> Outcome:
    """Checks R1: two runs of the same command are equal; a run with another seed differs.

    The second compiles its own programs, so that these are checked too. The third may take those of the first.
    """

    def start(name: str, seed: int, **variables: str) -> subprocess.Popen[str]:
        command = tiny_runs.command(family, directory / name, fault, seed=seed)
        return tiny_runs.start(command, tiny_runs.environment(1, **variables))

    def finish(name: str, process: subprocess.Popen[str]) -> tuple[str, bytes]:
        return tiny_runs.finish(process)["digest"], tiny_runs.metrics(directory / name)

    started = {"one": start("one", 0), "two": start("two", 0, JAX_ENABLE_COMPILATION_CACHE="false")}
    one, two = (finish(name, process) for name, process in started.items())
    other = finish("other", start("other", 1))
    held = one == two and other[0] != one[0] and other[1] != one[1]
    return Outcome(held, f"{one[0][:8]} {two[0][:8]}, seed 1 {other[0][:8]}")


def killed_and_resumed(family: str, directory: Path, fault: str = "") -> Outcome:
    """Checks R2: a run that is killed during a save and resumed equals an uninterrupted one."""
    environment = tiny_runs.environment(1)
    whole = tiny_runs.finish(tiny_runs.start(tiny_runs.command(family, directory / "whole", fault), environment))
    for attempt in range(8):
        killed = directory / f"killed-{attempt}"
        command = tiny_runs.command(family, killed, fault)
        if kills.kill_at(command, killed, kills.MOMENTS["during a save"], environment):
            break
    else:
        raise RuntimeError("no kill in 8 arrived during a save: the machine is too slow or too fast for this check")
    resumed = tiny_runs.finish(tiny_runs.start(command, environment))
    held = (
        0 < resumed["resumed_from"] < resumed["step"]
        and resumed["digest"] == whole["digest"]
        and tiny_runs.metrics(killed) == tiny_runs.metrics(directory / "whole")
    )
    return Outcome(held, f"{whole['digest'][:8]} {resumed['digest'][:8]}, resumed from {resumed['resumed_from']}")


def same_inputs(family: str, directory: Path, fault: str = "") -> Outcome:
    """Checks R3: the losses' inputs in three steps are equal on 1 to 8 devices and in 2 processes."""
    seen = {f"{num}": inputs_of(family, directory, mesh_of(num), fault) for num in (1, 2, 4, 8)}
    seen["2x2"] = set.union(*inputs_of_two_processes(family, directory, fault))
    digests = {name: fingerprint.tree_digest([np.array(sorted(inputs))])[:8] for name, inputs in seen.items()}
    examples = 3 * tiny_runs.config(family, directory).data.batch_size
    held = len(set(digests.values())) == 1 and len(seen["1"]) >= examples
    return Outcome(held, " ".join(f"{name}:{value}" for name, value in digests.items()))


def inputs_of(family: str, directory: Path, mesh: Mesh, fault: str = "", flags: Sequence[str] = ()) -> set[str]:
    """Returns digests of the inputs of the losses in three steps, of a training changed by `flags`."""
    with with_fault(family, fault), recorded_inputs(family) as inputs:
        for _ in _steps(family, directory, mesh, 3, flags=flags):
            pass
    return inputs


def inputs_of_two_processes(family: str, directory: Path, fault: str = "", flags: Sequence[str] = ()) -> list[set[str]]:
    """Returns the same digests from each of two processes with two devices."""
    command = [sys.executable, "-m", "studies.reproducibility.checks", family, str(directory), fault, *flags]
    processes = tiny_runs.start_processes([command] * 2, devices=2)
    inputs = []
    for output, errors, process in [(*process.communicate(), process) for process in processes]:
        if process.returncode != 0:
            raise RuntimeError(f"one of two processes failed:\n{errors[-3000:]}")
        inputs.append(set(json.loads(output.splitlines()[-1])))
    return inputs


def same_numbers(family: str, directory: Path, fault: str = "") -> Outcome:
    """Checks R4: losses and gradients of one step agree on 1 and 8 devices, in float64 and in float32."""
    worst = {}
    for dtype in (jnp.float64, jnp.float32):
        with jax.enable_x64(dtype == jnp.float64), with_fault(family, fault):
            (one, on_one), (eight, on_eight) = (
                jax.device_get(next(_steps(family, directory, mesh_of(num), 1, dtype))) for num in (1, 8)
            )
        grads = list(zip(first_moments(one), first_moments(eight), strict=True))
        losses = [(on_one[name], on_eight[name]) for name in LOSSES if name in on_one]
        if not losses:
            raise ValueError(f"a step of {family} has none of the metrics {', '.join(LOSSES)}: correct LOSSES")
        if dtype == jnp.float64:
            errors = [np.max(np.abs(a - b) / (1e-8 * np.abs(a) + 1e-12)) for a, b in [*grads, *losses]]
        else:
            total = np.sqrt(sum(np.sum(np.square(grad)) for grad, _ in grads))
            errors = [np.linalg.norm(a - b) / (1e-5 * np.linalg.norm(a) + 1e-7 * total) for a, b in grads]
            errors += [abs(a - b) / (1e-5 * abs(a)) for a, b in losses]
        worst[dtype.__name__] = float(max(errors))
    seen = ", ".join(f"{name} {error:.2g} of the tolerance" for name, error in worst.items())
    return Outcome(max(worst.values()) <= 1, seen)


def first_moments(state: State) -> list[np.ndarray]:
    """Returns Adam's first moments of all networks: after one step, the gradients times a constant."""
    nets = [value for value in state._asdict().values() if isinstance(value, optim.Net)]
    return jax.tree.leaves([net.opt_state.mu for net in nets])


def saved_and_restored_elsewhere(family: str, directory: Path, fault: str = "") -> Outcome:
    """Checks R5: a checkpoint from 8 devices, restored on 2, has the same bytes."""
    config, task = tiny_runs.config(family, directory / "unused"), FAMILIES[family]
    with with_fault(family, fault):
        *_, (state, _) = _steps(family, directory, mesh_of(8), 3)
    path = files.resolve(directory / "checkpoints")
    with checkpoint.Saver(path, config.train) as saver:
        saver.save(3, state, {}, None)
    abstract = parallel.abstract(mesh_of(2), lambda: task.init(config, keys.root_key(0)))
    on_eight = digests_by_device(state)
    try:
        on_two = digests_by_device(checkpoint.restore(path, 3, abstract).state)
    except ValueError:  # Orbax saves what some device holds, and its SHA-256 is not that of the first
        on_two = {"damaged"}
    held = on_eight == on_two and len(on_eight) == 1
    return Outcome(held, f"8: {' '.join(sorted(on_eight))}, 2: {' '.join(sorted(on_two))}")


def replicas_equal(family: str, directory: Path, fault: str = "") -> Outcome:
    """Checks R6: the states on 8 devices have the same bytes after each of three steps."""
    with with_fault(family, fault):
        counts = [len(digests_by_device(state)) for state, _ in _steps(family, directory, mesh_of(8), 3)]
    return Outcome(counts == [1, 1, 1], f"different states on 8 devices after each step: {counts}")


def digests_by_device(tree: PyTree) -> set[str]:
    """Returns the digests of the devices' copies: a single one if all copies are equal."""
    num = len(jax.tree.leaves(tree)[0].addressable_shards)
    return {
        fingerprint.tree_digest(jax.tree.map(lambda leaf, i=i: np.asarray(leaf.addressable_shards[i].data), tree))[:8]
        for i in range(num)
    }


def same_bytes_on_gpu(family: str, directory: Path, fault: str = "") -> Outcome:
    """Checks R7: two runs of the same command on a GPU, with GPU_FLAGS, are equal."""
    xla_flags = f"{os.environ.get('XLA_FLAGS', '')} {GPU_FLAGS}"
    environment = tiny_runs.environment(1, XLA_FLAGS=xla_flags)
    del environment["JAX_PLATFORMS"]
    one, two = (
        tiny_runs.finish(tiny_runs.start(tiny_runs.command(family, directory / name, fault), environment))["digest"]
        for name in ("one", "two")
    )
    held = one == two and tiny_runs.metrics(directory / "one") == tiny_runs.metrics(directory / "two")
    return Outcome(held, f"{one[:8]} {two[:8]}")


def _steps(
    family: str,
    directory: Path,
    mesh: Mesh,
    num_steps: int,
    dtype: DTypeLike | None = None,
    flags: Sequence[str] = (),
) -> Iterator[tuple[State, dict[str, Array]]]:
    config: RunConfig = tiny_runs.config(family, directory / "unused", flags)
    source = sources.load(config.data, config.seed).train
    return walk(FAMILIES[family], config, source, mesh, num_steps, dtype)


PROMISES: dict[str, Callable[[str, Path, str], Outcome]] = {
    "R1": same_bytes,
    "R2": killed_and_resumed,
    "R3": same_inputs,
    "R4": same_numbers,
    "R5": saved_and_restored_elsewhere,
    "R6": replicas_equal,
    "R7": same_bytes_on_gpu,
}


def main() -> None:
    """Prints digests of the losses' inputs on the devices of this process, one of several."""
    family, directory, fault, *flags = sys.argv[1:]
    with cli.processes():
        print(json.dumps(sorted(inputs_of(family, Path(directory), parallel.make_mesh(), fault, flags))), flush=True)


if __name__ == "__main__":
    main()
