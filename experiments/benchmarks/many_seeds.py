"""What a training step of many seeds takes: in one program, one after another, and with `vmap` over the seeds.

$ python experiments/benchmarks/many_seeds.py vae:digits --seeds 8

On one device. Compiles without the cache on the disk. The programs take turns, so that what else the machine does
meets them alike; a step is one of all seeds, and beside the median of its seconds there is the least, which other work
disturbs less. `reckoned_seconds` is a training of the configuration's length by the medians, each program compiled
once, as all seeds share the one that takes them one after another.
"""

import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

sys.path.append(str(Path(__file__).parents[1]))
import cyclegan_configs  # noqa: E402
import vae_configs  # noqa: E402

from genjax import cyclegan, digest, keys, parallel, vae  # noqa: E402
from genjax.data import batches, sources  # noqa: E402
from genjax.keys import Stream  # noqa: E402
from genjax.program import bind  # noqa: E402
from genjax.task import Task  # noqa: E402

STUDIES: dict[str, tuple[Task, Callable]] = {
    f"{family}:{name}": (task, make)
    for family, task, configs in (
        ("vae", vae.TASK, vae_configs.CONFIGS),
        ("cyclegan", cyclegan.TASK, cyclegan_configs.CONFIGS),
    )
    for name, make in configs.items()
}
COMPARED_AFTER = 10
"""Steps after which losses and states are compared."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Which step, of how many seeds, how often."""

    study: tyro.conf.Positional[str]
    """vae:CONFIG or cyclegan:CONFIG."""
    seeds: int = 8
    """Seeds 0, 1, ..."""
    steps: int = 30
    """Steps of each program, 10 or more; all but the first are timed."""


def main() -> dict[str, Any]:
    """Seconds, and how far the results are apart."""
    options = tyro.cli(Options, description=__doc__)
    jax.config.update("jax_enable_compilation_cache", False)
    if options.study not in STUDIES:
        raise ValueError(f"{options.study} names no configuration: give one of {', '.join(STUDIES)}")
    task, make_config = STUDIES[options.study]
    config = dataclasses.replace(make_config(), workdir="unused")
    inputs, seeds = _load(config, options), range(options.seeds)
    init = jax.jit(lambda seed: task.init(config, keys.for_step(keys.root_key(seed), Stream.INIT, 0)))
    begun = {kind: [jax.device_get(init(seed)) for seed in seeds] for kind in PROGRAMS}
    compiled, compile_seconds = {}, {}
    for kind, (make, _) in PROGRAMS.items():
        compiled[kind], compile_seconds[kind] = make(task, config, begun[kind], inputs[0])

    states, metrics, taken = dict(begun), {}, {kind: [] for kind in PROGRAMS}  # type: ignore[var-annotated]
    found: dict[str, Any] = {}
    for step, batch in enumerate(inputs, 1):
        for kind, (_, advance) in PROGRAMS.items():
            began = time.perf_counter()
            states[kind], metrics[kind] = jax.block_until_ready(advance(compiled[kind], states[kind], batch))
            taken[kind].append(time.perf_counter() - began)
        if step == COMPARED_AFTER:
            found = _compare({kind: _by_seed(kind, states[kind], metrics[kind]) for kind in PROGRAMS})
    step_seconds = {kind: statistics.median(values[1:]) for kind, values in taken.items()}
    least = {kind: min(values[1:]) for kind, values in taken.items()}
    whole = {kind: compile_seconds[kind] + config.train.num_steps * step_seconds[kind] for kind in PROGRAMS}
    tables = {"compile_seconds": compile_seconds, "step_seconds": step_seconds, "least_step_seconds": least,
              "reckoned_seconds": whole}  # fmt: skip
    rounded = {f"{kind}.{of}": float(f"{v:.4g}") for of, table in tables.items() for kind, v in table.items()}
    return {"study": options.study, "seeds": options.seeds, "device": jax.devices()[0].device_kind, **rounded, **found}


def _load(config: Any, options: Options) -> list[list[batches.Batch]]:
    """For each step a batch for each seed."""
    source, size = sources.load(config.data, 0).train, config.data.batch_size
    return [
        [batches.load(source, seed, step, size, slice(None)) for seed in range(options.seeds)]
        for step in range(options.steps)
    ]


def _compile(fn: Any, *arguments: Any) -> tuple[Callable, float]:
    began = time.perf_counter()
    compiled = fn.lower(*arguments).compile()
    return compiled, time.perf_counter() - began


def _mesh() -> Any:
    return parallel.make_seed_mesh(1, jax.devices()[:1])


def _numbers(count: int) -> list[np.ndarray]:
    return [np.int32(seed) for seed in range(count)]  # type: ignore[misc]


def _unrolled(task: Any, config: Any, states: Sequence[Any], batch: Sequence[Any]) -> tuple[Callable, float]:
    """The program of `study.fit_together`, which for one seed is that of a single run too."""
    mesh = _mesh()
    step = parallel.pmap_seeds(bind(task.train_step, config, Stream.TRAIN), mesh, donate=(0,))
    return _compile(step, *_shard(mesh, states, batch, _numbers(len(states))))


def _shard(mesh: Any, states: Any, batch: Any, seeds: Any) -> tuple[Any, Any, Any]:
    by_seed, by_both = parallel.BY_SEED, parallel.BY_SEED_AND_DATA
    return (
        parallel.shard_seeds(mesh, states, by_seed) if isinstance(states[0].step, np.ndarray) else states,
        parallel.shard_seeds(mesh, batch, by_both), parallel.shard_seeds(mesh, seeds, by_seed),
    )  # fmt: skip


def _advance_unrolled(compiled: Any, states: Any, batch: Any) -> tuple[Any, Any]:
    stepped = compiled(*_shard(_mesh(), states, batch, _numbers(len(batch))))
    return [state for state, _ in stepped], [metrics for _, metrics in stepped]


def _singly(task: Any, config: Any, states: Sequence[Any], batch: Sequence[Any]) -> tuple[Callable, float]:
    return _unrolled(task, config, states[:1], batch[:1])


def _advance_singly(compiled: Any, states: Any, batch: Any) -> tuple[Any, Any]:
    mesh, out = _mesh(), []
    for seed, (state, one) in enumerate(zip(states, batch, strict=True)):
        ((state, metrics),) = compiled(*_shard(mesh, [state], [one], [np.int32(seed)]))
        out.append(jax.block_until_ready((state, metrics)))
    return [state for state, _ in out], [metrics for _, metrics in out]


def _vmapped(task: Any, config: Any, states: Sequence[Any], batch: Sequence[Any]) -> tuple[Callable, float]:
    mesh, all_alike = parallel.make_mesh(jax.devices()[:1]), parallel.REPLICATED
    step = jax.vmap(bind(task.train_step, config, Stream.TRAIN))
    fn = parallel.pmap(step, mesh, (all_alike, all_alike, all_alike), all_alike, donate=(0,))
    return _compile(fn, *_stack((states, batch, _numbers(len(states)))))


def _stack(runs: tuple[Any, ...]) -> list[Any]:
    return [jax.device_put(jax.tree.map(lambda *leaves: np.stack(leaves), *part)) for part in runs]


def _advance_vmapped(compiled: Any, states: Any, batch: Any) -> tuple[Any, Any]:
    batch, seeds = _stack((batch, _numbers(len(batch))))
    return compiled(_stack((states,))[0] if isinstance(states, list) else states, batch, seeds)


PROGRAMS: dict[str, tuple[Callable, Callable]] = {
    "singly": (_singly, _advance_singly),
    "unrolled": (_unrolled, _advance_unrolled),
    "vmapped": (_vmapped, _advance_vmapped),
}
"""How each kind is compiled, and how it takes a step of all seeds."""


def _by_seed(kind: str, states: Any, metrics: Any) -> list[tuple[Any, dict[str, Any]]]:
    """State and metrics of each seed, on the host."""
    states, metrics = jax.device_get((states, metrics))
    if kind == "vmapped":
        runs = range(len(metrics["skipped"]))
        return [jax.tree.map(lambda leaf, run=run: leaf[run], (states, metrics)) for run in runs]
    return [jax.tree.map(lambda leaf: leaf[0], run) for run in zip(states, metrics, strict=True)]


def _compare(runs: dict[str, list[tuple[Any, dict[str, Any]]]]) -> dict[str, Any]:
    """Whether states are equal to the last bit, and the largest relative difference of a vmapped metric."""
    digests = {kind: [digest.tree_digest(state) for state, _ in of_kind] for kind, of_kind in runs.items()}
    apart = [
        abs(float(value) - float(exact[name])) / max(abs(float(exact[name])), 1e-30)
        for (_, metrics), (_, exact) in zip(runs["vmapped"], runs["unrolled"], strict=True)
        for name, value in metrics.items()
    ]
    return {
        "unrolled.same_states": digests["unrolled"] == digests["singly"],
        "vmapped.same_states": digests["vmapped"] == digests["singly"],
        "vmapped.largest_relative_difference": float(f"{max(apart):.2g}"),
    }


if __name__ == "__main__":
    print(json.dumps(main()))
