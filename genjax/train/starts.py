"""Starts from other weights (--init-from): of a run, of a file of weights, or of files of PyTorch.

Only parameters are taken: the optimiser, the steps and the image pools are fresh. The configuration records the origin
and its SHA-256, and the first checkpoint holds the weights, so a run that has one resumes without the origin.
"""

import dataclasses
import hashlib
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from genjax import files, keys, parallel
from genjax.checks import flag
from genjax.config import NO_FILE
from genjax.task import C, Parts, S, Starts, Task
from genjax.train import checkpoint, config_file, weights_file

logger = logging.getLogger(__name__)


class Origin(NamedTuple):
    """Weights that a training begins from."""

    parts: Parts  # NumPy arrays; what the origin does not hold is left out
    settings: Mapping[str, Any]  # of its networks, by dotted field
    sha256: tuple[str, ...]


def prepared(task: Task[C, S], config: C) -> tuple[C, Parts | None]:
    """Returns `config` with the SHA-256 of its start, and the weights to begin with.

    There are none without --init-from, and for a run with a checkpoint, which needs the origin no more. Raises
    ValueError or FileNotFoundError if the origin cannot be read, is another than the SHA-256 says, or has other
    networks.
    """
    if not config.init_from:
        return config, None
    workdir = files.resolve(config.workdir)
    if (workdir / config_file.NAME).exists():
        saved = config_file.load(workdir, type(config))
        # Compared with what the run began from, so that an origin that has changed is noticed.
        if saved.init_from == config.init_from and not config.init_from_sha256:
            config = dataclasses.replace(config, init_from_sha256=saved.init_from_sha256)
        known = config.init_from_sha256 != () and config.init_from_sha256 == saved.init_from_sha256
        if known and checkpoint.steps(workdir / "checkpoints"):
            return config, None
    if task.starts is None:
        raise ValueError(f"a {task.title} of its own kind begins from its seed: leave out --init-from")
    named = " ".join(config.init_from)
    origin = _read(task, task.starts, config)
    if config.init_from_sha256 not in ((), origin.sha256):
        raise ValueError(
            f"{named} is not what this run began from: its SHA-256 is {' '.join(origin.sha256)}, not "
            f"{' '.join(config.init_from_sha256)}. Restore it, or start another run in another --workdir"
        )
    expected = task.starts.parts(_abstract(task, config))  # shapes alone
    try:
        parts = _checked(task.starts, config, origin, expected)
    except ValueError as error:
        raise ValueError(f"cannot begin from {named}: {error}") from error
    fresh = [name for name, part in expected.items() if part and name not in parts]
    logger.info("begins from %s of %s%s", ", ".join(parts), named, f"; fresh: {', '.join(fresh)}" if fresh else "")
    return dataclasses.replace(config, init_from_sha256=origin.sha256), parts


def _checked(starts: Starts[C, S], config: C, origin: Origin, expected: Parts) -> Parts:
    """Returns the parts to begin with; raises ValueError unless they are those of the networks of `config`."""
    own = {name: value for name, value in files.flatten(dataclasses.asdict(config)).items() if name in starts.settings}
    # An empty part, such as spectral without the normalisation, is nothing to begin from.
    held = tuple(name for name, part in origin.parts.items() if expected[name])
    parts = {name: origin.parts[name] for name in starts.choose(config, held)}
    if not parts:
        raise ValueError("it holds no weights that are finite numbers")
    for name in parts:
        for field in starts.alike.get(name, ()):
            if field in origin.settings and origin.settings[field] != own[field]:
                was, now = _given(field, origin.settings[field]), _given(field, own[field])
                raise ValueError(
                    f"it was trained with {was}, and this run has {now}, with which {name} would be another function: "
                    f"give {was}"
                )
    wrong = weights_file.differences(parts, {name: expected[name] for name in parts})
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        # Settings in which the two runs differ are the likely cause.
        other = [field for field in starts.settings if origin.settings.get(field, own[field]) != own[field]]
        remedy = " ".join(_given(field, origin.settings[field]) for field in other)
        raise ValueError(f"{wrong[0]}{more}: {f'give {remedy}' if remedy else 'its networks are others'}")
    return parts


def _read(task: Task[C, S], starts: Starts[C, S], config: C) -> Origin:
    first = files.resolve(config.init_from[0])
    if first.is_dir() or weights_file.is_named(first) and first.suffix == weights_file.SUFFIX:
        if len(config.init_from) > 1 or config.init_key:
            raise ValueError(f"--init-from {first} holds all the weights: give nothing beside it, and no --init-key")
        return _of_run(task, starts, config)
    if config.init_which != "last":
        raise ValueError(f"--init-which {config.init_which} needs --init-from RUN, and {first} is no run directory")
    if starts.read_torch is None:
        files.read_bytes(first)  # for its own errors, as of a missing file
        raise ValueError(f"a {task.title} begins from a run directory or a file of weights (.safetensors), not {first}")
    parts, settings = starts.read_torch(config.init_from, config.init_key)
    return Origin(parts, settings, tuple(map(_sha256, config.init_from)))


def _of_run(task: Task[C, S], starts: Starts[C, S], config: C) -> Origin:
    """Reads the weights of a run directory, or of a file of weights."""
    (path,), which = config.init_from, config.init_which
    saved = config_file.load(path, type(config))
    if weights_file.is_named(path):
        if which != "last":
            raise ValueError(f"{path} holds the weights of one step: leave out --init-which {which}")
        abstract, weights = _abstract(task, saved), weights_file.read(path)
        state, sha256 = abstract._replace(ema=weights_file.params(weights, abstract.ema, path)), weights.sha256
    else:
        mesh = parallel.make_mesh()
        shapes = parallel.abstract(mesh, lambda: task.init(saved, keys.root_key(0)))
        chosen = int(which) if which.isdigit() else which
        restored = checkpoint.restore_chosen(files.resolve(path) / "checkpoints", chosen, shapes)
        state, sha256 = restored.state, restored.digest
    settings = files.flatten(dataclasses.asdict(saved))
    parts = {name: jax.device_get(part) for name, part in starts.parts(state).items() if _is_held(part)}
    return Origin(parts, {name: settings[name] for name in starts.settings}, (sha256,))


def _abstract(task: Task[C, S], config: C) -> S:
    return jax.eval_shape(lambda: task.init(config, keys.root_key(0)))


def _is_held(part: Any) -> bool:
    """Returns True if a part is there.

    A file has averages alone, and a converted run holds NaN for what it lacks.
    """
    leaves = jax.tree.leaves(part)
    arrays = all(isinstance(leaf, Array | np.ndarray) for leaf in leaves)
    return bool(leaves) and arrays and all(bool(np.isfinite(np.asarray(leaf)).all()) for leaf in leaves)


def _sha256(path: str) -> str:
    return hashlib.sha256(files.read_bytes(path)).hexdigest() if path != NO_FILE else ""


def _given(field: str, value: Any) -> str:
    """Returns the flag that gives a field its value."""
    part, _, name = field.rpartition(".")
    if isinstance(value, bool):
        return flag(part, name if value else f"no_{name}")
    return f"{flag(part, name)} {' '.join(map(str, value)) if isinstance(value, tuple) else value}"
