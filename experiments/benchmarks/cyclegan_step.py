"""CycleGAN's training step and translation beside the same in PyTorch (pip install -e '.[parity]').

$ python experiments/benchmarks/cyclegan_step.py

A step is that of generators, pools, discriminators and Adam, with the paper's networks, losses and weights. Each side
is a process of its own; they take turns, so that what else the machine does meets them alike. In each turn an action is
done twice and the second is counted, as one in a row of many: the first finds caches and memory as others left them.
Medians. `ratio` is genjax / PyTorch: below 1, genjax is faster. On a GPU both precisions of genjax run, beside PyTorch
eager, with channels last and autocast, and compiled.
"""

import contextlib
import dataclasses
import importlib
import json
import logging
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import tyro

CPU_SIDES = ("float32", "torch")
GPU_SIDES = (
    "float32", "bfloat16", "torch", "torch-channels-last-autocast", "torch-compile", "torch-compile-autocast"
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to time, and how often."""

    cases: tuple[str, ...] = ("64x6x1", "64x6x4", "256x9x1", "256x9x4")
    """SIZExBLOCKSxBATCH, a table each."""
    sides: tuple[str, ...] = ()
    """float32 and bfloat16 are genjax, the rest PyTorch: torch, torch-tf32, torch-channels-last,
    torch-channels-last-autocast, torch-compile, torch-compile-autocast. None: those of the hardware."""
    seconds: float = 60.0
    """Counted, for each case, action and side; at least 3 and at most 30 turns."""


class Side(NamedTuple):
    """A process that waits to be asked."""

    name: str
    pipe: Connection
    ready: dict[str, Any]
    """Its figures before anything is timed."""


def main() -> dict[str, Any]:
    """A table on the log, and the ratios."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = tyro.cli(Options, description=__doc__)
    results: dict[str, Any] = {}
    for case in options.cases:
        size, blocks, batch = (int(number) for number in case.split("x"))
        with tempfile.TemporaryDirectory() as cache, contextlib.ExitStack() as stack:
            first = stack.enter_context(_side((size, blocks, batch), "float32", cache))
            names = options.sides or (GPU_SIDES if first.ready["device"] != "cpu" else CPU_SIDES)
            sides = [
                first if name == "float32" else stack.enter_context(_side((size, blocks, batch), name, cache))
                for name in names
            ]
            taken = {action: _take_turns(sides, action, options.seconds) for action in ("step", "translate")}
            peaks = {side.name: _ask(side, "peak_mib") for side in sides}
            with _side((size, blocks, batch), "float32", cache) as again:
                warm = again.ready["compile_step_seconds"]
        results |= _judge(case, sides, taken, peaks)
        compiling = f"{case}.compile_seconds"
        results |= {f"{compiling}.cold": first.ready["compile_step_seconds"], f"{compiling}.from_cache": warm}
        logging.info("%s", json.dumps({k: v for k, v in results.items() if k.startswith(case)}, indent=1))
    named = {"64x6x1.ratio_step.torch": "ratio_64", "256x9x1.ratio_step.torch": "ratio_256",
             "256x9x1.ratio_translate.torch": "ratio_translate_256"}  # fmt: skip
    results |= {short: results[long] for long, short in named.items() if long in results}
    return {name: float(f"{v:.4g}") if isinstance(v, float) else v for name, v in results.items()}


def _judge(
    case: str, sides: list[Side], taken: dict[str, dict[str, list[float]]], peaks: dict[str, float]
) -> dict[str, Any]:
    """Medians, ratios of genjax's to each of PyTorch's, and the share of what the device's products reach."""
    figures: dict[str, Any] = {f"{case}.peak_mib.{name}": peak for name, peak in peaks.items()}
    work = {key: value for side in sides for key, value in side.ready.items() if key.endswith("_tflop")}
    for side in sides:
        figures[f"{case}.matmul_tflops.{side.name}"] = side.ready["matmul_tflops"]
    for action, by_side in taken.items():
        seconds = {name: statistics.median(values) for name, values in by_side.items()}
        for name, value in seconds.items():
            figures[f"{case}.{action}_seconds.{name}"] = value
            figures[f"{case}.{action}_least_seconds.{name}"] = min(by_side[name])
            if f"{action}_tflop" in work:
                figures[f"{case}.{action}_tflops.{name}"] = work[f"{action}_tflop"] / value
        for name, value in seconds.items():
            mixed = "bfloat16" if "autocast" in name else "float32"
            if name.startswith("torch") and mixed in seconds:
                figures[f"{case}.ratio_{action}.{name}"] = seconds[mixed] / value
    return figures


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
    side.pipe.send(action)
    answer = side.pipe.recv()
    if isinstance(answer, Exception):
        raise answer
    return answer


@contextlib.contextmanager
def _side(case: tuple[int, int, int], name: str, cache: str) -> Iterator[Side]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, case, name, cache), daemon=True)
    process.start()
    there.close()
    try:
        ready = here.recv()
        if isinstance(ready, Exception):
            raise ready
        yield Side(name, here, ready)
    except EOFError:
        raise RuntimeError(f"the process of {name} ended: is there memory enough for {case}?") from None
    finally:
        here.close()
        process.join()


def _serve(pipe: Connection, case: tuple[int, int, int], name: str, cache: str) -> None:
    """One side: answers an action with its seconds, and peak_mib with the memory that it has had at most."""
    try:
        module = importlib.import_module("_torch_cyclegan" if name.startswith("torch") else "_genjax_cyclegan")
        prepared = module.prepare(*case, name, cache)
        pipe.send(prepared.figures)
        while True:
            action = pipe.recv()
            if action == "peak_mib":
                resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # KiB on Linux
                pipe.send(prepared.peak_mib() or resident)
                continue
            began = time.perf_counter()
            prepared.actions[action]()
            pipe.send(time.perf_counter() - began)
    except EOFError:  # nothing more is asked
        return
    except Exception as error:
        pipe.send(error)


if __name__ == "__main__":
    print(json.dumps(main()))
