"""Adds faults to trainings, and records the inputs of their losses.

$ PYTHONPATH=experiments python -m studies.reproducibility.faults vae R2 experiments/train_vae.py digits --workdir ...

A check that cannot fail shows nothing. So each promise of reproducibility has a fault here that breaks it; such faults
occur in other codebases.
"""

import contextlib
import functools
import hashlib
import importlib
import inspect
import runpy
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from genjax import keys, parallel
from genjax.data import batches
from genjax.data.splits import Domains
from genjax.families import FAMILIES
from genjax.parallel import PyTree
from genjax.task import Task

Fault = contextlib.AbstractContextManager[Any]
"""Context in which traced trainings have a fault."""


def _put(task: Task) -> Fault:
    """Replaces the original of `task` in the table of families."""
    return mock.patch.dict(FAMILIES, {task.name: task})


def clock_in_the_state(family: str) -> Fault:
    """Stores the current time in the initial state."""
    original = FAMILIES[family].init

    def init(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **kwargs)._replace(skipped=jnp.int32(time.time_ns() % 10**6))

    return _put(FAMILIES[family]._replace(init=init))


def carried_generator(family: str) -> Fault:
    """Draws batches from a stateful generator that no checkpoint holds."""
    rng = np.random.default_rng(0)

    def load(domains: Domains, seed: int, step: int, batch_size: int, rows: slice, *_: Any) -> batches.Batch:
        chosen = tuple(array[rng.integers(0, len(array), batch_size)][rows] for array in domains)
        return batches.Batch(chosen, np.arange(batch_size, dtype=np.int32)[rows])

    return mock.patch.object(batches, "load", load)


def keys_of_the_device(family: str) -> Fault:
    """Derives keys also from the device, so that noise and pool decisions differ between devices."""
    original = keys.per_example

    def per_example(key: Array, position: Array) -> Array:
        return original(jax.random.fold_in(key, lax.axis_index("data")), position)

    return mock.patch.object(keys, "per_example", per_example)


def sum_for_the_mean(family: str) -> Fault:
    """Sums gradients and losses over devices instead of averaging them."""
    return mock.patch.object(parallel, "mean_over_devices", lambda tree: lax.psum(tree, "data"))


def different_averages(family: str) -> Fault:
    """Gives each device different averaged weights; a checkpoint holds those of one device."""
    original = FAMILIES[family].train_step

    def train_step(*args: Any, **kwargs: Any) -> Any:
        state, metrics = original(*args, **kwargs)
        scale = 1 + 1e-3 * lax.axis_index("data")
        return state._replace(ema=jax.tree.map(lambda x: x * scale, state.ema)), metrics

    return _put(FAMILIES[family]._replace(train_step=train_step))


def forgotten_mean(family: str) -> Fault:
    """Omits the mean over devices for the gradients of one network."""
    networks = {"vae": "encoder", "cyclegan": "g_b2a", "cut": "heads", "unit": "shared_decoder"}
    original, forgotten = parallel.mean_over_devices, networks[family]

    def choose(path: tuple[Any, ...], own: Array, mean: Array) -> Array:
        return own if any(getattr(entry, "key", None) == forgotten for entry in path) else mean

    def mean_over_devices(tree: PyTree) -> PyTree:
        return jax.tree_util.tree_map_with_path(choose, tree, original(tree))

    return mock.patch.object(parallel, "mean_over_devices", mean_over_devices)


FAULTS: dict[str, Callable[[str], Fault]] = {
    "R1": clock_in_the_state,
    "R2": carried_generator,
    "R3": keys_of_the_device,
    "R4": sum_for_the_mean,
    "R5": different_averages,
    "R6": forgotten_mean,
    "R7": clock_in_the_state,
}
"""Faults by the promise that each breaks."""


def with_fault(family: str, fault: str) -> Fault:
    """Returns a context with the fault of that name; without a fault if the name is empty."""
    return FAULTS[fault](family) if fault else contextlib.nullcontext()


class Recorded(NamedTuple):
    """A function and the inputs of it to record: arguments [b, ...], or fields of an argument."""

    module: str
    function: str
    inputs: tuple[str, ...]


RECORDED = {
    "vae": (Recorded("genjax.vae.objectives", "training_terms", ("images", "noise")),),
    "cyclegan": (
        Recorded("genjax.cyclegan.steps", "total_loss", ("inputs.a", "inputs.b", "inputs.element")),
        Recorded("genjax.gan.adversarial", "discriminator_loss", ("real", "fraction")),
    ),
    "cut": (
        Recorded("genjax.cut.steps", "total_loss", ("inputs.a", "inputs.b")),
        Recorded("genjax.gan.adversarial", "discriminator_loss", ("real", "fraction")),
    ),
    "unit": (
        Recorded("genjax.unit.steps", "make", ("a", "b", "noise")),
        Recorded("genjax.gan.adversarial", "discriminator_loss", ("real", "fraction")),
    ),
}
"""Inputs of a family's losses: augmented images, latent noise, transforms of affine consistency, places of the gradient
penalty."""


@contextlib.contextmanager
def recorded_inputs(family: str) -> Iterator[set[str]]:
    """Yields a set that collects digests of the losses' inputs during training, one for each example.

    With pools it also collects a digest of their random numbers and decisions for each batch. Digests are taken inside
    the compiled step. Evaluations, which call the same functions, are not recorded.
    """
    seen: set[str] = set()
    training = False
    original = FAMILIES[family].train_step

    def train_step(*args: Any, **kwargs: Any) -> Any:
        nonlocal training
        training = True  # while it is traced
        try:
            return original(*args, **kwargs)
        finally:
            training = False

    def note(*arrays: Array) -> None:
        for row in zip(*map(np.asarray, arrays), strict=True):  # no JAX here: the devices wait for this callback
            seen.add(hashlib.sha256(b"".join(part.tobytes() for part in row)).hexdigest()[:16])

    def watched(fn: Callable[..., Any], choose: Callable[..., list[Array]]) -> Callable[..., Any]:
        @functools.wraps(fn)
        def watch(*args: Any, **kwargs: Any) -> Any:
            returned = fn(*args, **kwargs)
            if training:
                jax.debug.callback(note, *choose(returned, inspect.signature(fn).bind(*args, **kwargs).arguments))
            return returned

        return watch

    with contextlib.ExitStack() as stack:
        stack.enter_context(_put(FAMILIES[family]._replace(train_step=train_step)))
        for module_name, name, inputs in RECORDED[family]:
            module = importlib.import_module(module_name)
            choose = functools.partial(_choose, inputs)
            stack.enter_context(mock.patch.object(module, name, watched(getattr(module, name), choose)))
        pool = importlib.import_module("genjax.gan.image_pool")
        stack.enter_context(mock.patch.object(pool, "decide", watched(pool.decide, _decisions)))
        yield seen
        jax.effects_barrier()


def _choose(inputs: tuple[str, ...], _: Any, given: dict[str, Any]) -> list[Array]:
    """Returns inputs by name, such as "images", or "inputs.a" for the field `a` of the argument `inputs`."""
    chosen = []
    for name in inputs:
        argument, *fields = name.split(".")
        chosen.append(functools.reduce(getattr, fields, given[argument]))
    return chosen


def _decisions(slots: tuple[Array, Array], given: dict[str, Any]) -> list[Array]:
    """Returns inputs and outputs of `image_pool.decide` as one row."""
    return [jnp.asarray(x)[None] for x in (*(v for v in given.values() if isinstance(v, Array)), *slots)]


def main() -> None:
    """Runs the script as from the command line, with the fault."""
    family, fault, script, *arguments = sys.argv[1:]
    sys.argv = [script, *arguments]
    with with_fault(family, fault):
        runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
