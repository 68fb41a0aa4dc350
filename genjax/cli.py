"""Setup shared by all commands: logs, compilation cache, several processes, errors, the last JSON line."""

import contextlib
import dataclasses
import errno
import json
import logging
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import absl.logging
import jax
import tyro
from etils import epath

from genjax import files, flag_help, parallel, report
from genjax.config import RunConfig
from genjax.families import task_of
from genjax.files import Json
from genjax.task import Task
from genjax.train.loop import fit
from genjax.train.rows import finite

C = TypeVar("C", bound=RunConfig)

MaxMegapixels = Annotated[
    int | None, tyro.conf.arg(help="Largest picture that is read; by default as large as the training took.")
]

STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)
"""Exit codes of a training that was stopped and saved: 130 and 143."""

GRACE_SECONDS = 3  # for the other processes to print the same error: when process 0 ends, JAX aborts them

REMEDY = "the last checkpoint is whole: run the same command again in all processes"
LAST_WORDS = f"error: this process was aborted, most likely because another process of the run died; {REMEDY}"


class _Formatter(logging.Formatter):
    """Formats log lines without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        return files.printable(super().format(record))


@contextlib.contextmanager
def processes() -> Iterator[None]:
    """Connects to the other processes of a run, if the environment variable GENJAX_DISTRIBUTED is set.

    When one process dies, JAX aborts the others within seconds, and they run no more Python. So a child shell waits for
    the end of this process, and prints the remedy if the process ended without a farewell.
    """
    where = os.environ.get("GENJAX_DISTRIBUTED")
    if where is None:
        yield
        return
    try:
        parallel.connect(where)
    except ValueError as error:
        sys.exit(f"error: {error}")
    # `read` fails if the pipe closes without a line, as it does when this process dies.
    survivor = ["sh", "-c", 'read -r farewell || echo "$0" >&2', LAST_WORDS]
    # In a session of its own: Ctrl-C goes to a whole group of processes, and would end it too.
    shell = subprocess.Popen(survivor, stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield
    except SystemExit as error:
        shell.communicate(b"farewell\n")
        if error.code in STOPPED:  # all processes stop at the same step
            raise
        print(error.code, f"If another process died first, {REMEDY}", sep="\n", file=sys.stderr, flush=True)
        if parallel.is_main_process():
            time.sleep(GRACE_SECONDS)
        os._exit(1)  # sys.exit would wait for the other processes, which cannot go on without this one
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    shell.communicate(b"farewell\n")


def setup() -> None:
    """Sets up logs on stderr, and the disk cache of compiled programs, which makes a second start quick.

    Raises ValueError if JAX finds no device of the kind that JAX_PLATFORMS names.
    """
    try:
        main = parallel.is_main_process()  # here JAX looks for its devices
    except (AssertionError, RuntimeError) as error:
        asked = os.environ.get("JAX_PLATFORMS")
        if not asked:
            raise
        detail = f" ({error})" if str(error) else ""
        raise ValueError(f"JAX finds no device with JAX_PLATFORMS={asked!r}: unset it{detail}") from error
    form = "%(asctime)s %(message)s" if main else f"%(asctime)s [process {jax.process_index()}] %(message)s"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(form, datefmt="%H:%M:%S"))
    logging.basicConfig(level=logging.INFO if main else logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("jax").setLevel(logging.WARNING)
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it logs each file it opens; errors are also raised
    # When a checkpoint fails to save or load, Orbax raises one error and also logs several with tracebacks.
    absl.logging.set_verbosity(absl.logging.FATAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    usual = sys.unraisablehook
    sys.unraisablehook = lambda u: None if str(u.exc_value) == "Event loop is closed" else usual(u)
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        try:
            jax.config.update("jax_compilation_cache_dir", str(Path("~/.cache/genjax/xla").expanduser()))
        except RuntimeError:
            logging.warning("no home directory to keep compiled programs in: set JAX_COMPILATION_CACHE_DIR")


def check_different(**options: Sequence[object]) -> None:
    """Raises ValueError for a flag without values or with a repeated value."""
    for name, given in options.items():
        if not given or len(set(given)) < len(given):
            raise ValueError(f"--{name} needs one or more different values, got {' '.join(map(str, given)) or 'none'}")


def choose_config(configs: Mapping[str, Callable[[], C]], args: Sequence[str] | None = None) -> C:
    """Parses the command line (or `args`): the name of a configuration, then flags that change its fields.

    Help and errors are about the named configuration; without a name, the help lists all.
    """
    given = sys.argv[1:] if args is None else list(args)
    if given and given[0] in configs:
        name, make = given[0], configs[given[0]]
        config = dataclasses.replace(make(), workdir=tyro.MISSING)  # so that --workdir is required
        prog, described = f"{sys.argv[0]} {name}", flag_help.description(make)
        return tyro.cli(type(config), default=config, args=given[1:], prog=prog, description=described)
    if given and not given[0].startswith(("-h", "--help", "--tyro")):  # the last ones print completions for shells
        names = ", ".join(configs)
        print(f"error: no configuration is called {given[0]!r}: give {names}, and then flags", file=sys.stderr)
        sys.exit(2)  # a wrong command line, as tyro's own
    overview = {name: (flag_help.summary(make), make()) for name, make in configs.items()}
    return tyro.extras.overridable_config_cli(overview, args=args)


def title(config: RunConfig) -> str:
    """Returns what a training is, such as VAE on digits."""
    return f"{task_of(config).title} on {config.data.source}"


def train(config: RunConfig, task: Task | None = None, heading: str = "") -> Json:
    """Trains `config` and returns the results to print: step, digest, seconds, test metrics.

    `task` defaults to that of the family, and `heading`, which is logged first, to the title. If a signal stopped the
    training, it has saved, and the program exits here with 128 + the signal's number, as shells do. The report in the
    run's directory is written anew at each evaluation, and at the end.
    """
    began = time.perf_counter()
    logging.info("%s, in %s", heading or title(config), config.workdir)
    result = fit(task or task_of(config), config, after_evaluation=_write_report)
    path = _write_report(files.resolve(config.workdir))
    if result.stopped_by is not None:
        logging.warning("stopped and saved at step %d; the same command goes on from there", result.step)
        sys.exit(128 + result.stopped_by)
    logging.info("the report of this training: %s", path)
    return {
        "step": result.step,
        "resumed_from": result.resumed_from,
        "digest": result.digest,
        "seconds": round(time.perf_counter() - began, 1),
        **finite(result.test),
        "report": path,
    }


def _write_report(workdir: epath.Path) -> str:
    """Writes the report of a training into its directory, in process 0; returns its path.

    A report that fails is logged, as the training is worth more.
    """
    path = workdir / "report.html"
    if parallel.is_main_process():
        try:
            report.write_run(workdir, path)
        except (ValueError, OSError) as error:
            logging.warning("no report is written: %s", error)
    return str(path)


def run(main: Callable[[], Json]) -> Json:
    """Runs `main`, prints its results in process 0 as one line of flat JSON, and returns them.

    An error that has a remedy ends the program with one message on stderr and exit code 1.
    """
    with processes():  # before setup: JAX joins no others once it has its devices
        try:
            setup()
            with flag_help.REGISTRY:
                results = main()
        except (ValueError, OSError, FloatingPointError) as error:
            logging.debug("traceback of the error below", exc_info=True)
            full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
            sys.exit(
                f"error: {files.printable(error)}" + (": make room, and give the same command again" if full else "")
            )
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
                raise  # no lack of memory, so a fault of the program: with its traceback
            said = str(error).partition("\n")[0]
            sys.exit(f"error: out of memory ({files.printable(said)}): use fewer images at once or a smaller network")
        except KeyboardInterrupt:
            print("interrupted: the same command goes on from the last checkpoint, if there is one", file=sys.stderr)
            sys.exit(128 + signal.SIGINT)
        if results and parallel.is_main_process():
            print(json.dumps(results), flush=True)
    return results
