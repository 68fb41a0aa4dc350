"""What the scripts share at their start and at their end: logs, the compilation cache, errors, the last JSON line."""

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import absl.logging
import jax
import tyro

from genjax.metrics import finite
from genjax.task import Task
from genjax.train import fit


def setup() -> None:
    """Logs to stderr, and keeps compiled programs on the disk, so that a second start is quick."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr, force=True
    )
    logging.getLogger("jax").setLevel(logging.WARNING)
    absl.logging.set_verbosity(absl.logging.ERROR)
    # When Orbax fails to load a checkpoint, which is reported as one error, it also says so once for each array.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    usual = sys.unraisablehook
    sys.unraisablehook = lambda u: None if str(u.exc_value) == "Event loop is closed" else usual(u)
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(Path("~/.cache/genjax/xla").expanduser()))


def choose_config(configs: Mapping[str, Callable[[], Any]]) -> Any:
    """The configuration named first on the command line, with the flags that follow."""
    return tyro.extras.overridable_config_cli({name: (make.__doc__ or "", make()) for name, make in configs.items()})


def train(task: Task, config: Any) -> dict[str, Any]:
    """Trains to the end and returns what a script prints of it: step, digest, seconds, metrics on the test images.

    A training that a signal ended early exits here, saved, with 128 + the signal's number, as a shell would report it:
    130 for SIGINT, 143 for SIGTERM.
    """
    began = time.perf_counter()
    result = fit(task, config)
    if result.stopped_by is not None:
        logging.warning("stopped and saved at step %d; the same command goes on from there", result.step)
        sys.exit(128 + result.stopped_by)
    return {
        "step": result.step,
        "resumed_from": result.resumed_from,
        "digest": result.digest,
        "seconds": round(time.perf_counter() - began, 1),
        **finite(result.test),
    }


def run(main: Callable[[], Mapping[str, Any]]) -> None:
    """Runs `main` and prints its results as the last line, one flat JSON object.

    An error that has a remedy is one message on stderr and exit code 1.
    """
    setup()
    try:
        results = main()
    except (ValueError, OSError, FloatingPointError) as error:
        logging.debug("traceback of the error below", exc_info=True)
        sys.exit(f"error: {error}")
    if results:
        print(json.dumps(results), flush=True)
