"""Requests to stop: a signal to any one process stops all of them at the same step."""

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator

import numpy as np
from jax import Array
from jax.sharding import Mesh

from genjax import parallel

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def requests() -> Iterator[Callable[[], int]]:
    """Yields a function that returns the signal this process received (SIGINT or SIGTERM), or 0.

    A second signal of the same kind has its usual effect.
    """
    requested = 0

    def request(number: int, _: object) -> None:
        nonlocal requested
        requested = number
        signal.signal(number, usual[signal.Signals(number)])
        logger.warning("%s: saving, then stopping", signal.Signals(number).name)

    # Only the main thread may handle signals.
    handled = SIGNALS if threading.current_thread() is threading.main_thread() else ()
    usual = {number: signal.getsignal(number) for number in handled}
    for number in usual:
        signal.signal(number, request)
    try:
        yield lambda: requested
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


def per_device(mesh: Mesh) -> dict[int, Array]:
    """Returns the input `signal` of a training step, int32 [1] on each device, for each signal number and for 0."""
    # On the devices before the loop begins, which copies nothing but batches.
    rows = parallel.process_rows(mesh.size)
    numbers = (0, *SIGNALS)
    return {number: parallel.shard_batch(mesh, np.full(mesh.size, number, np.int32)[rows]) for number in numbers}
