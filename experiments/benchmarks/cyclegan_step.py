"""Times CycleGAN's training step and translation beside the same in PyTorch (pip install -e '.[parity]').

$ python experiments/benchmark.py cyclegan_step

A step is that of generators, pools, discriminators and Adam, with the paper's networks, losses and weights. Each side
is a process of its own; they take turns, so that what else the machine does meets them alike. In each turn an action is
done twice and the second is counted, as one in a row of many: the first finds caches and memory as others left them.
Medians. `ratio` is genjax / PyTorch: below 1, genjax is faster. Where there is an NVIDIA GPU, float32 runs beside
PyTorch eager and compiled, and bfloat16 beside it with channels last and autocast, eager and compiled; all of them hold
their memory at once, so large batches take a call for each precision (`--sides`). PyTorch compiles for minutes.
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

SideName = Literal[
    "float32", "tensorfloat32", "bfloat16", "torch", "torch-tf32", "torch-channels-last",
    "torch-channels-last-autocast", "torch-compile", "torch-compile-autocast"
]  # fmt: skip
CPU_SIDES: tuple[SideName, ...] = ("float32", "torch")
GPU_SIDES: tuple[SideName, ...] = (
    "float32", "torch", "torch-compile", "bfloat16", "torch-channels-last-autocast", "torch-compile-autocast"
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The steps to time, and how often."""

    cases: tuple[str, ...] = ("64x6x1", "64x6x4", "256x9x1", "256x9x4")
    """SIZExBLOCKSxBATCH, a table each."""
    sides: tuple[SideName, ...] = ()
    """float32, tensorfloat32 and bfloat16 are genjax, the rest PyTorch, whose convolutions are torch-tf32 on a GPU if
    nothing is said. None: those of the hardware."""
    seconds: float = 60.0
    """Counted, for each case, action and side; at least 3 and at most 30 turns."""
    compilation: bool = True
    """Also how long genjax's step compiles, alone on the machine: cold, and from the cache on the disk."""


class Side(NamedTuple):
    """A process that waits for requests."""

    name: str
    pipe: Connection
    ready: dict[str, Any]
    """Its measurements before anything is timed."""


def main() -> dict[str, Any]:
    """Times each case and returns all measurements with their ratios; logs them as they come."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = tyro.cli(Options, description=__doc__)
    names = options.sides or (GPU_SIDES if shutil.which("nvidia-smi") else CPU_SIDES)
    results: dict[str, Any] = {}
    for case in options.cases:
        results |= _time(case, names, options.seconds)
        logging.info("%s", json.dumps(results, indent=1))
        ours = [name for name in names if not name.startswith("torch")]
        if options.compilation and ours:
            results |= _time_compilation(case, ours[0])
    named = {"64x6x1.ratio_step.torch": "ratio_64", "256x9x1.ratio_step.torch": "ratio_256",
             "256x9x1.ratio_translate.torch": "ratio_translate_256"}  # fmt: skip
    results |= {short: results[long] for long, short in named.items() if long in results}
    return {name: float(f"{v:.4g}") if isinstance(v, float) else v for name, v in results.items()}


def _time(case: str, names: Sequence[str], seconds: float) -> dict[str, Any]:
    """All sides get ready together, then take turns."""
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
    """Seconds of one process after another, the second with what the first has left on the disk."""
    seconds = {}
    with tempfile.TemporaryDirectory() as cache:
        for when in ("cold", "from_cache"):
            with _process(case, name, cache) as pipe:
                seconds[f"{case}.compile_seconds.{when}"] = _answer(name, pipe)["compile_step_seconds"]
    return seconds


def _summarize(
    case: str, sides: list[Side], taken: dict[str, dict[str, list[float]]], device: dict[str, dict[str, float]]
) -> dict[str, Any]:
    """Medians, ratios of genjax's to each of PyTorch's, and floating-point operations a second."""
    results: dict[str, Any] = {f"{case}.{what}.{name}": v for what, by in device.items() for name, v in by.items()}
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
    return results


def _take_turns(sides: list[Side], action: str, budget: float) -> dict[str, list[float]]:
    """Seconds of each turn of each side, after one that is not counted."""

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
        raise RuntimeError(f"the process of {name} ended: is there memory enough?") from None
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
    """Serves one side: sends its measurements, then the seconds of each action; a text if it fails."""
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
    except (EOFError, OSError):  # nothing more is asked
        return
    except Exception:
        pipe.send(traceback.format_exc())
