"""Where two runs part: the first step at which they differ, in which leaves, and what differs in how they were made.

$ python experiments/compare_runs.py runs/a runs/b

Compared are configurations, images and environments, field by field; the rows of metrics.jsonl at the steps that both
runs logged, with their fingerprints of the batch and of each group of the state's leaves; and the SHA-256 of the states
at the checkpoints that both hold, the first two that differ also leaf by leaf. Nothing in the runs is changed.

Exit codes: 0 for runs whose rows and checkpoints are equal as far as both go, 3 for runs that differ, or have no step
in common; 1 and 2, as in all scripts, for an error with a remedy and for a wrong command line.
"""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np
import tyro
from etils import epath

from genjax import cli, cyclegan, files, keys, vae
from genjax.train import checkpoint, run_directory
from genjax.train.writers import read_rows

DIFFERENT = 3
"""Exit code for runs that differ: 1, which diff would give, is that of an error in all scripts."""

TASKS = {"vae": vae.TASK, "cyclegan": cyclegan.TASK}

MOST_LINES = 40
"""Lines shown about any one thing; the results name all that differs."""

Workdir = Annotated[str, tyro.conf.arg(metavar="RUN", help="Directory of a training run.")]


class Found(NamedTuple):
    """What a comparison step by step has found."""

    steps: Sequence[int] = ()
    """Those compared, ascending."""
    first: int | None = None
    """The first of them that differs."""
    names: Sequence[str] = ()
    """What differs there."""
    lines: Sequence[str] = ()
    """All of it in words, a heading first."""


def compare(a: Workdir, b: Workdir, /) -> dict[str, Any]:
    """Shows on stderr what differs between two runs, as `name: in a -> in b`, and returns it in short.

    Raises ValueError or OSError, naming the file, for a directory that holds no run and for what cannot be read.
    """
    configs = [run_directory.load_config(workdir) for workdir in (a, b)]
    runs = [files.resolve(workdir) for workdir in (a, b)]
    fields = {
        "config": [_fields(config) for config in configs],
        "data": [_images(run) for run in runs],
        "environment": [files.read_json(run / "environment.json") for run in runs],
    }
    differing = {name: run_directory.differences(*both) for name, both in fields.items()}
    for name, lines in differing.items():
        _show(f"{name}.json: {'differs' if lines else 'equal'}", *lines)

    rows = saved = Found()
    families = [run_directory.family_of(config) for config in configs]
    if families[0] == families[1]:
        rows = compare_rows(*(read_rows(run / "metrics.jsonl") for run in runs))
        _show(*rows.lines)
        saved = compare_checkpoints(configs, [run / "checkpoints" for run in runs])
        _show(*saved.lines)
    else:
        _show(f"nothing in the state of a {families[0]} run has a counterpart in that of a {families[1]} run")
    return _summary(rows, saved) | {f"{name}_differences": _names(lines) for name, lines in differing.items()}


def _summary(rows: Found, saved: Found) -> dict[str, Any]:
    steps = sorted({*rows.steps, *saved.steps})
    first = min((step for step in (rows.first, saved.first) if step is not None), default=None)
    last_equal = max((step for step in steps if first is None or step < first), default=None)
    if not steps:
        _show("the runs have no step in common")
    elif first is None:
        _show(f"the runs are equal at all steps that both have, up to step {last_equal}")
    else:
        before = "at no step before" if last_equal is None else f"up to step {last_equal}"
        _show(f"the runs differ first at step {first}; they are equal {before}")
    return {
        "equal": bool(steps) and first is None,
        "first_difference": first,
        "last_equal": last_equal,
        "first_row": rows.first,
        "groups": _groups(rows.names),
        "metrics": [name for name in rows.names if not name.startswith("fingerprint.")],
        "first_checkpoint": saved.first,
        "leaves": list(saved.names),
        "steps_compared": len(rows.steps),
        "checkpoints_compared": len(saved.steps),
    }


def compare_rows(old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]) -> Found:
    """The rows of two metrics.jsonl at the steps that both have, training with training, evaluation with evaluation."""
    old_rows, new_rows = ({_place(row): row for row in rows} for rows in (old, new))
    pairs = {place: (old_rows[place], new_rows[place]) for place in sorted(old_rows.keys() & new_rows.keys())}
    marked = {place for place, pair in pairs.items() if all("fingerprint" in row for row in pair)}
    differing = {place: lines for place, pair in pairs.items() if (lines := _row_differences(*pair))}

    steps, of_old, of_new = (sorted({step for step, _ in rows}) for rows in (pairs, old_rows, new_rows))
    counts = f"of {len(of_old)} and {len(of_new)}; with fingerprints: {len(marked)}"
    heading = f"metrics.jsonl: steps logged in both: {len(steps)} ({counts})"
    if not differing:
        return Found(steps, lines=[heading])
    first, _ = min(differing)
    lines = [line for (step, _), found in differing.items() if step == first for line in found]
    figures = [line for line in lines if not line.startswith("fingerprint.")]
    said = _reading(_groups(_names(lines))) if (first, "training") in marked else "no fingerprints to tell more by"
    return Found(steps, first, _names(lines), [heading, f"step {first}: {said}", *figures])


def _place(row: dict[str, Any]) -> tuple[int, str]:
    """Step and kind of a row; a step may have one of each kind."""
    return row["step"], "validation" if any(name.startswith("validation/") for name in row) else "training"


def _row_differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """As of `run_directory.differences`; a fingerprint counts if both rows have one, for those of earlier versions do not."""
    if not ("fingerprint" in old and "fingerprint" in new):
        old, new = ({name: value for name, value in row.items() if name != "fingerprint"} for row in (old, new))
    return run_directory.differences(old, new)


def _reading(groups: Sequence[str]) -> str:
    """What it means that the fingerprints of these groups differ, and of no others."""
    batch = "another batch (other images, or another order)" if "batch" in groups else "the same batch"
    state = ", ".join(group for group in groups if group != "batch")
    return f"{batch}, {f'and the state differs in {state}' if state else 'and the same state'}"


def compare_checkpoints(configs: Sequence[Any], directories: Sequence[epath.Path]) -> Found:
    """The states that both directories hold, by their digests; the first that differ, leaf by leaf."""
    steps = sorted(set(checkpoint.steps(directories[0])) & set(checkpoint.steps(directories[1])))
    heading = f"checkpoints in both: {len(steps)}"
    for step in steps:
        if len({checkpoint.record(directory, step).digest for directory in directories}) > 1:
            old, new = (_leaves(*run, step) for run in zip(configs, directories, strict=True))
            found = {name: leaf_difference(old.get(name), new.get(name)) for name in old | new}
            lines = [f"{name}: {difference}" for name, difference in found.items() if difference]
            said = f"step {step}: {len(lines)} of {len(found)} leaves differ"
            return Found(steps, step, _names(lines), [heading, said, *lines])
    return Found(steps, lines=[heading])


def _leaves(config: Any, directory: epath.Path, step: int) -> dict[str, np.ndarray]:
    """The leaves of a verified checkpoint by name, on the host, whatever devices saved it."""
    init = TASKS[run_directory.family_of(config)].init
    shapes = jax.eval_shape(lambda: init(config, keys.root_key(0)))
    abstract = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), shapes)
    found = jax.tree_util.tree_leaves_with_path(checkpoint.restore(directory, step, abstract).state)
    return {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf) for path, leaf in found}


def leaf_difference(old: np.ndarray | None, new: np.ndarray | None) -> str:
    """How two leaves differ, in bits, or nothing if they do not; None is a leaf that a state does not have."""
    if old is None or new is None:
        return f"only in the {'second' if old is None else 'first'}"
    if (old.dtype, old.shape) != (new.dtype, new.shape):
        return f"{old.dtype} {list(old.shape)} -> {new.dtype} {list(new.shape)}"
    bits = f"u{old.itemsize}"
    different = np.asarray(old.view(bits) != new.view(bits))
    if not different.any():
        return ""
    with np.errstate(invalid="ignore"):  # a NaN may be a signalling one
        most = np.abs(old[different].astype(float) - new[different].astype(float)).max()
    return f"{different.sum()} of {old.size} elements, by up to {most:.3g}"


def _fields(config: Any) -> dict[str, Any]:
    record = dataclasses.asdict(config)
    del record["workdir"]
    return {"family": run_directory.family_of(config), **record}


def _images(run: epath.Path) -> dict[str, Any]:
    """What data.json says, by split and domain."""
    description = files.read_json(run / "data.json")
    return {split: {str(i): array for i, array in enumerate(arrays)} for split, arrays in description.items()}


def _names(lines: Sequence[str]) -> list[str]:
    return [line.partition(": ")[0] for line in lines]


def _groups(names: Sequence[str]) -> list[str]:
    return [name.removeprefix("fingerprint.") for name in names if name.startswith("fingerprint.")]


def _show(heading: str, *lines: str) -> None:
    more = [f"and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else []
    print(heading, *(f"  {line}" for line in [*lines[:MOST_LINES], *more]), sep="\n", file=sys.stderr, flush=True)


if __name__ == "__main__":
    results: dict[str, Any] = {}
    cli.run(lambda: results.setdefault("found", tyro.cli(compare, description=__doc__)))
    sys.exit(0 if results["found"]["equal"] else DIFFERENT)
