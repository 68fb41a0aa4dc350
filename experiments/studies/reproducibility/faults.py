"""Runs a training script with a fault in it.

$ PYTHONPATH=experiments python -m studies.reproducibility.faults vae R2 experiments/train_vae.py digits --workdir ...

A check that cannot fail shows nothing: each fault is what one promise of reproducibility excludes, as other codebases
have it. Trainings can be watched here, too: what enters their losses.
"""

import contextlib
import hashlib
import runpy
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from genjax import cyclegan, keys, parallel, vae
from genjax.cyclegan import losses as cyclegan_losses
from genjax.data import batches
from genjax.gan import adversarial, image_pool
from genjax.vae import losses as vae_losses

PACKAGES = {"vae": vae, "cyclegan": cyclegan}


def clock_in_the_state(family: str) -> Any:
    """A state that remembers when it was made."""
    task = PACKAGES[family].TASK

    def init(config: Any, key: Array) -> Any:
        return task.init(config, key)._replace(skipped=jnp.int32(time.time_ns() % 10**6))

    return mock.patch.object(PACKAGES[family], "TASK", task._replace(init=init))


def carried_generator(family: str) -> Any:
    """Batches from a generator that moves on from call to call, and that no checkpoint holds."""
    rng = np.random.default_rng(0)

    def load(source: Any, seed: int, step: int, batch_size: int, rows: slice, order: batches.Order) -> batches.Batch:
        chosen = tuple(array[rng.integers(0, len(array), batch_size)][rows] for array in source)
        return batches.Batch(chosen, np.arange(batch_size, dtype=np.int32)[rows])

    return mock.patch.object(batches, "load", load)


def device_bound_keys(family: str) -> Any:
    """Keys that depend on the device, so that each has noise, and a pool, of its own."""
    per_example = keys.per_example

    def bound(key: Array, position: Array) -> Array:
        return per_example(jax.random.fold_in(key, lax.axis_index("data")), position)

    return mock.patch.object(keys, "per_example", bound)


def sum_for_the_mean(family: str) -> Any:
    """Gradients and losses that grow with the number of devices."""
    return mock.patch.object(parallel, "mean_over_devices", lambda tree: lax.psum(tree, "data"))


def averages_of_each_device(family: str) -> Any:
    """A part of the state that is not the same on all devices, of which a checkpoint holds one."""
    task = PACKAGES[family].TASK

    def train_step(*arguments: Any) -> Any:
        state, metrics = task.train_step(*arguments)
        apart = 1 + 1e-3 * lax.axis_index("data")
        return state._replace(ema=jax.tree.map(lambda x: x * apart, state.ema)), metrics

    return mock.patch.object(PACKAGES[family], "TASK", task._replace(train_step=train_step))


def forgotten_mean(family: str) -> Any:
    """The gradients of one network are not averaged over the devices."""
    original = parallel.mean_over_devices

    def forgetful(trees: Any) -> Any:
        metrics, grads = trees
        mean, means = original(trees)
        forgotten = "encoder" if family == "vae" else "g_b2a"
        return mean, means | {forgotten: grads[forgotten]}

    return mock.patch.object(parallel, "mean_over_devices", forgetful)


FAULTS: dict[str, Callable[[str], Any]] = {
    "R1": clock_in_the_state,
    "R2": carried_generator,
    "R3": device_bound_keys,
    "R4": sum_for_the_mean,
    "R5": averages_of_each_device,
    "R6": forgotten_mean,
    "R7": clock_in_the_state,
}
"""By the promise that excludes it."""


def altered(family: str, fault: str) -> Any:
    """A context manager with the fault, or with none if it is empty."""
    return FAULTS[fault](family) if fault else contextlib.nullcontext()


@contextlib.contextmanager
def recorded(family: str) -> Iterator[set[str]]:
    """A set that fills with the digests of what enters the losses in training, one for each example.

    For a VAE its image and latent noise; for CycleGAN its images of both domains, its dihedral transform and its place
    of a gradient penalty, and for each batch the random numbers and the decisions of the pools. Seen inside the
    compiled step, of which only that of training is looked at.
    """
    seen: set[str] = set()
    task, training = PACKAGES[family].TASK, [False]

    def train_step(*arguments: Any) -> Any:
        training[0] = True  # while it is traced
        try:
            return task.train_step(*arguments)
        finally:
            training[0] = False

    def note(*arrays: Array) -> None:
        for row in zip(*map(np.asarray, arrays), strict=True):  # no JAX in here: the devices wait for this function
            seen.add(hashlib.sha256(b"".join(part.tobytes() for part in row)).hexdigest()[:16])

    def watched(fn: Callable, choose: Callable[..., list[Array]]) -> Callable:
        def watch(*arguments: Any) -> Any:
            returned = fn(*arguments)
            if training[0]:
                jax.debug.callback(note, *choose(returned, *arguments))
            return returned

        return watch

    watches: list[tuple[Any, str, Callable[..., list[Array]]]] = [
        (vae_losses, "elbo_terms", lambda _, config, params, images, noise, beta: [images, noise]),
        (cyclegan_losses, "generator_terms", lambda _, n, terms: [n.a, n.b, n.element]),
        (adversarial, "discriminator_loss", lambda _, config, discriminator, real, fake, fraction: [real, fraction]),
        (image_pool, "decide", lambda out, num, uniforms, size: [x[None] for x in (num, uniforms, *out)]),
    ]
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(PACKAGES[family], "TASK", task._replace(train_step=train_step)))
        for module, name, choose in watches:
            stack.enter_context(mock.patch.object(module, name, watched(getattr(module, name), choose)))
        yield seen
        jax.effects_barrier()


def main() -> None:
    """Runs the script as it would run by itself."""
    family, fault, script, *arguments = sys.argv[1:]
    sys.argv = [script, *arguments]
    with altered(family, fault):
        runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
