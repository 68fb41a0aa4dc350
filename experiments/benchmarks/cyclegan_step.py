"""Times CycleGAN's training step and translation against PyTorch (pip install -e '.[parity]'), and CUT's steps.

$ python experiments/benchmark.py cyclegan_step
$ python experiments/benchmark.py cyclegan_step --sides float32 --families cut fastcut

A step includes generators, pools, discriminators and Adam, with the paper's networks, losses and weights. Each side is
a process of its own. The sides take turns, so that other work on the machine affects all of them. In each turn an
action is done twice and the second is timed, because the first finds caches and memory as other sides left them.
Results are medians. `ratio` is genjax / PyTorch: below 1, genjax is faster. On an NVIDIA GPU, float32 is compared with
PyTorch eager and compiled, and bfloat16 with PyTorch with channels last and autocast, eager and compiled. All sides
hold their memory at once, so large batches need one call for each precision (`--sides`). PyTorch compiles for minutes.
"""

import contextlib
import dataclasses
import importlib
import json
import logging
import multiprocessing
import os
import resource
import shutil
import statistics
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, Literal, NamedTuple

import tyro

from genjax import flag_help

SideName = Literal[
    "float32", "float32-remat", "float32-accumulate", "tensorfloat32", "bfloat16", "torch", "torch-tf32",
    "torch-channels-last", "torch-channels-last-autocast", "torch-compile", "torch-compile-autocast"
]  # fmt: skip
CPU_SIDES: tuple[SideName, ...] = ("float32", "torch")
GPU_SIDES: tuple[SideName, ...] = (
    "float32", "torch", "torch-compile", "bfloat16", "torch-channels-last-autocast", "torch-compile-autocast"
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The steps to time, and how often."""

    cases: tuple[str, ...] = ("64x6x1", "64x6x4", "256x9x1", "256x9x4")
    """SIZExBLOCKSxBATCH of each case."""
    sides: tuple[SideName, ...] = ()
    """Sides to time. torch and those that begin with torch are PyTorch, the others genjax; torch-tf32 is PyTorch's
    default on a GPU. float32-remat has --train.remat, float32-accumulate as many --train.accumulate as images in the
    batch. Empty for the sides that the hardware can run."""
    families: tuple[Literal["cut", "fastcut"], ...] = ()
    """Other families to time too, each in genjax's first precision: ratio_step.cut is CUT / CycleGAN."""
    seconds: float = 60.0
    """Timed seconds for each case, action and side; at least 3 and at most 30 turns."""
    compilation: bool = True
    """Also measures the compile time of genjax's step, alone on the machine: cold, and from the disk cache."""


class Side(NamedTuple):
    """A process that waits for requests."""

    name: str
    pipe: Connection
    ready: dict[str, Any]
    """Measurements of the process before anything is timed."""


def main() -> dict[str, Any]:
    """Times each case and returns all measurements with their ratios; logs them as they come."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = tyro.cli(Options, description=flag_help.description(__doc__))
    names = options.sides or (GPU_SIDES if shutil.which("nvidia-smi") else CPU_SIDES)
    results: dict[str, Any] = {}
    ours = [name for name in names if not name.startswith("torch")]
    if options.families and not ours:
        raise ValueError(f"--families needs a side of genjax, such as float32, got --sides {' '.join(names)}")
    sides = [*names, *(f"{family}:{ours[0]}" for family in options.families)]
    for case in options.cases:
        results |= _time(case, sides, options.seconds)
        logging.info("%s", json.dumps(results, indent=1))
        if options.compilation and ours:
            results |= _time_compilation(case, ours[0])
    named = {"64x6x1.ratio_step.torch": "ratio_64", "256x9x1.ratio_step.torch": "ratio_256",
             "256x9x1.ratio_translate.torch": "ratio_translate_256"}  # fmt: skip
    results |= {short: results[long] for long, short in named.items() if long in results}
    return {name: float(f"{v:.4g}") if isinstance(v, float) else v for name, v in results.items()}


def _time(case: str, names: Sequence[str], seconds: float) -> dict[str, Any]:
    """Starts all sides, then times them in turns."""
    with tempfile.TemporaryDirectory() as cache, contextlib.ExitStack() as stack:
        pipes = {name: stack.enter_context(_process(case, name, cache)) for name in names}
        sides, taken = [], {}
        for name, pipe in pipes.items():
            sides.append(Side(name, pipe, _answer(name, pipe)))
            logging.info("%s: %s is ready", case, name)
        for action in ("step", "translate"):
            taken[action] = _take_turns(sides, action, seconds)
            medians = {name: statistics.median(values) for name, values in taken[action].items()}
            logging.info("%s: seconds of a %s: %s", case, action, json.dumps(medians))
        device = {what: {side.name: _ask(side, what) for side in sides} for what in ("peak_mib", "matmul_tflops")}
    return _summarize(case, sides, taken, device)


def _time_compilation(case: str, name: str) -> dict[str, float]:
    """Measures the compile time in two processes; the second uses the disk cache of the first."""
    seconds = {}
    with tempfile.TemporaryDirectory() as cache:
        for when in ("cold", "from_cache"):
            with _process(case, name, cache) as pipe:
                seconds[f"{case}.compile_seconds.{when}"] = _answer(name, pipe)["compile_step_seconds"]
    return seconds


def _summarize(
    case: str, sides: list[Side], taken: dict[str, dict[str, list[float]]], device: dict[str, dict[str, float]]
) -> dict[str, Any]:
    """Computes medians, ratios of genjax to each PyTorch side, and floating-point operations per second."""
    results: dict[str, Any] = {f"{case}.{what}.{name}": v for what, by in device.items() for name, v in by.items()}
    results |= {
        f"{case}.temporary_mib.{side.name}": side.ready["temporary_mib"]
        for side in sides
        if "temporary_mib" in side.ready
    }
    work = {key: value for side in sides for key, value in side.ready.items() if key.endswith("_tflop")}
    for action, by_side in taken.items():
        seconds = {name: statistics.median(values) for name, values in by_side.items()}
        for name, value in seconds.items():
            results[f"{case}.{action}_seconds.{name}"] = value
            results[f"{case}.{action}_least_seconds.{name}"] = min(by_side[name])
            if f"{action}_tflop" in work:
                results[f"{case}.{action}_tflops.{name}"] = work[f"{action}_tflop"] / value
        for name, value in seconds.items():
            alike = "bfloat16" if "autocast" in name else "tensorfloat32" if "tf32" in name else "float32"
            if name.startswith("torch") and alike in seconds:
                results[f"{case}.ratio_{action}.{name}"] = seconds[alike] / value
            family, _, precision = name.rpartition(":")
            if family:
                results[f"{case}.ratio_{action}.{family}"] = value / seconds[precision]
    return results


def _take_turns(sides: list[Side], action: str, budget: float) -> dict[str, list[float]]:
    """Measures the seconds of each turn of each side, after one that is not timed."""

    def turn_of(side: Side) -> float:
        _ask(side, action)
        return float(_ask(side, action))

    first = {side.name: turn_of(side) for side in sides}
    turns = max(3, min(30, int(budget / max(first.values()))))
    taken: dict[str, list[float]] = {side.name: [] for side in sides}
    for turn in range(turns):
        for side in sides if turn % 2 == 0 else sides[::-1]:
            taken[side.name].append(turn_of(side))
    return taken


def _ask(side: Side, action: str) -> Any:
    return _answer(side.name, side.pipe, action)


def _answer(name: str, pipe: Connection, action: str | None = None) -> Any:
    """Requests `action`, if one is given, and returns the next answer of the process."""
    try:
        if action is not None:
            pipe.send(action)
        answer = pipe.recv()
    except (EOFError, OSError):
        raise RuntimeError(f"the process of {name} ended, perhaps for lack of memory") from None
    if isinstance(answer, str):
        raise RuntimeError(f"the process of {name} failed:\n{answer}")
    return answer


@contextlib.contextmanager
def _process(case: str, name: str, cache: str) -> Iterator[Connection]:
    """Starts a side; its first answer is its measurements, then it answers one request after another."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, case, name, cache))
    process.start()
    there.close()
    try:
        yield here
    except BaseException:
        process.terminate()  # it may compile for minutes yet
        raise
    finally:
        here.close()
        process.join()


def _serve(pipe: Connection, case: str, name: str, cache: str) -> None:
    """Serves one side: sends its measurements, then the seconds of each action, or the text of an error."""
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # before JAX is imported: other sides need memory too
    try:
        module = importlib.import_module(f"benchmarks._{'torch' if name.startswith('torch') else 'genjax'}_cyclegan")
        prepared = module.prepare(*(int(number) for number in case.split("x")), name, cache)
        for action in prepared.actions.values():  # PyTorch compiles only now
            action()
        pipe.send(prepared.before)
        while True:
            action = pipe.recv()
            if action == "peak_mib":
                resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # KiB on Linux
                pipe.send(prepared.peak_mib() or resident)
            elif action == "matmul_tflops":
                pipe.send(prepared.matmul_tflops())
            else:
                began = time.perf_counter()
                prepared.actions[action]()
                pipe.send(time.perf_counter() - began)
    except (EOFError, OSError):  # the benchmark has closed the pipe
        return
    except Exception:
        pipe.send(traceback.format_exc())
