"""Profile of a few steps of a training, with JAX's profiler."""

import contextlib
import logging
from collections.abc import Callable, Iterator

import jax
from etils import epath

from genjax.parallel import PyTree

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def profiled(directory: epath.Path, steps: tuple[int, int] | None) -> Iterator[Callable[[int, PyTree], None]]:
    """Yields a function to call after each step with its number and outputs, and traces steps (start, stop].

    The trace, in `directory`/plugins/profile/TIME, begins at the first step called with at or after `start`, and ends
    once `stop` was computed, or with the context. Nothing happens for None; if no step is traced, that is logged.
    """
    start, stop = steps or (0, 0)
    running = traced = False

    def after_step(step: int, outputs: PyTree) -> None:
        nonlocal running, traced
        if running and step >= stop:
            jax.block_until_ready(outputs)  # which the devices may still be computing
            jax.profiler.stop_trace()
            logger.info("a trace for ui.perfetto.dev: %s/plugins/profile/*/*.trace.json.gz", directory)
            running = False
        elif not running and start <= step < stop:
            jax.block_until_ready(outputs)  # so that no earlier step is in the trace
            jax.profiler.start_trace(str(directory))
            running = traced = True

    try:
        yield after_step
    finally:
        if running:
            jax.profiler.stop_trace()
        if steps and not traced:
            logger.warning(
                "no trace is written: no call began in the steps %d to %d: give --train.profile others", start, stop
            )
