"""Compares two runs and finds the first step at which they differ.

$ python experiments/compare_runs.py runs/a runs/b

It compares configurations, images and environments field by field; the rows of metrics.jsonl at steps that both runs
logged, with fingerprints of the batch and of each group of the state's leaves; and the SHA-256 of the states at
checkpoints that both runs have. The first two checkpoints that differ are compared leaf by leaf. It changes no file.

Exit codes: 0 if all rows and checkpoints that both runs have are equal; 3 if they differ, or the runs have no step in
common; 1 for an error with a remedy and 2 for a wrong command line, as in all scripts.
"""

import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np
import tyro
from etils import epath

from genjax import cli, files, flag_help, keys
from genjax.config import RunConfig
from genjax.families import task_of
from genjax.task import Row
from genjax.train import checkpoint, config_file, weights_file
from genjax.train.rows import METRICS, read_rows

DIFFERENT = 3
"""Exit code for runs that differ; 1, the code of diff, is used for errors."""

MAX_LINES = 40
"""Largest number of lines shown for each comparison; the results name all differences."""

Workdir = Annotated[str, tyro.conf.arg(metavar="RUN", help="Directory of a training run.")]


class Comparison(NamedTuple):
    """The result of comparing two runs step by step."""

    steps: Sequence[int] = ()
    """Steps that both runs have, ascending."""
    first: int | None = None
    """First of these steps that differs."""
    names: Sequence[str] = ()
    """Names of the metrics or leaves that differ there."""
    lines: Sequence[str] = ()
    """Lines to show, a heading first."""


def compare(a: Workdir, b: Workdir, /) -> dict[str, Any]:
    """Shows the differences of two runs on stderr, as `name: in a -> in b`, and returns a summary.

    Raises ValueError or OSError, with the path, for a directory without a run and for files that cannot be read.
    """
    runs = [files.resolve(workdir) for workdir in (a, b)]
    for run in runs:
        weights_file.check_directory(run, "a comparison")
    configs = [config_file.read(run) for run in runs]
    fields = {
        "config": configs,
        "data": [_images(run) for run in runs],
        "environment": [files.read_json(run / "environment.json") for run in runs],
    }
    differing = {name: files.differences(*both) for name, both in fields.items()}
    for name, lines in differing.items():
        _show(f"{name}.json: {'differs' if lines else 'equal'}", *lines)

    rows = saved = Comparison()
    families = [config["family"] for config in configs]
    if families[0] == families[1]:
        rows = compare_rows(*(read_rows(run / METRICS) for run in runs))
        _show(*rows.lines)
        saved = compare_checkpoints([run / "checkpoints" for run in runs])
        _show(*saved.lines)
    else:
        _show(f"the states of a {families[0]} run and of a {families[1]} run have nothing in common to compare")
    return _summary(rows, saved) | {f"{name}_differences": _names(lines) for name, lines in differing.items()}


def _summary(rows: Comparison, saved: Comparison) -> dict[str, Any]:
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


def compare_rows(old: Iterable[Row], new: Iterable[Row]) -> Comparison:
    """Compares rows of metrics.jsonl at steps that both runs have, training and evaluation separately."""
    old_rows, new_rows = ({_place(row): row for row in rows} for rows in (old, new))
    pairs = {place: (old_rows[place], new_rows[place]) for place in sorted(old_rows.keys() & new_rows.keys())}
    marked = {place for place, pair in pairs.items() if all("fingerprint" in row for row in pair)}
    differing = {place: lines for place, pair in pairs.items() if (lines := _row_differences(*pair))}

    steps, of_old, of_new = (sorted({step for step, _ in rows}) for rows in (pairs, old_rows, new_rows))
    counts = f"of {len(of_old)} and {len(of_new)}; with fingerprints: {len(marked)}"
    heading = f"metrics.jsonl: steps logged in both: {len(steps)} ({counts})"
    if not differing:
        return Comparison(steps, lines=[heading])
    first, _ = min(differing)
    lines = [line for (step, _), of_step in differing.items() if step == first for line in of_step]
    metrics = [line for line in lines if not line.startswith("fingerprint.")]
    meaning = _explain(_groups(_names(lines))) if (first, "training") in marked else "no fingerprints to compare"
    return Comparison(steps, first, _names(lines), [heading, f"step {first}: {meaning}", *metrics])


def _place(row: Row) -> tuple[int, str]:
    """Returns step and kind of a row; a step may have one row of each kind."""
    return row["step"], "validation" if any(name.startswith("validation/") for name in row) else "training"


def _row_differences(old: Row, new: Row) -> list[str]:
    """Lists differences as `files.differences` does; fingerprints only if both rows have one."""
    ignored = set() if "fingerprint" in old and "fingerprint" in new else {"fingerprint"}
    kept = [{name: value for name, value in row.items() if name not in ignored} for row in (old, new)]
    return files.differences(*kept)


def _explain(groups: Sequence[str]) -> str:
    """Explains that the fingerprints of exactly these groups differ."""
    of_batch = {"batch", "batch.pairs"}
    batch = "another batch (other images, or another order)" if of_batch & set(groups) else "the same batch"
    state = ", ".join(group for group in groups if group not in of_batch)
    return f"{batch}, {f'and the state differs in {state}' if state else 'and the same state'}"


def compare_checkpoints(directories: Sequence[epath.Path]) -> Comparison:
    """Compares states that both directories hold by digest, and the first states that differ leaf by leaf."""
    steps = sorted(set(checkpoint.steps(directories[0])) & set(checkpoint.steps(directories[1])))
    heading = f"checkpoints in both: {len(steps)}"
    for step in steps:
        if len({checkpoint.record(directory, step).digest for directory in directories}) > 1:
            try:
                configs = [config_file.load(directory.parent) for directory in directories]
            except ValueError as error:  # of a class derived from the library's, which is not known here
                lines = [f"step {step}: the states differ; their leaves cannot be compared, as {error}"]
                return Comparison(steps, step, [], [heading, *lines])
            old, new = (_leaves(*run, step) for run in zip(configs, directories, strict=True))
            differences = {name: leaf_difference(old.get(name), new.get(name)) for name in old | new}
            lines = [f"{name}: {difference}" for name, difference in differences.items() if difference]
            counts = f"step {step}: {len(lines)} of {len(differences)} leaves differ"
            return Comparison(steps, step, _names(lines), [heading, counts, *lines])
    return Comparison(steps, lines=[heading])


def _leaves(config: RunConfig, directory: epath.Path, step: int) -> dict[str, np.ndarray]:
    """Loads the leaves of a checkpoint by name onto the host, whatever devices saved it."""
    shapes = jax.eval_shape(lambda: task_of(config).init(config, keys.root_key(0)))
    abstract = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), shapes)
    leaves = jax.tree_util.tree_leaves_with_path(checkpoint.restore(directory, step, abstract).state)
    return {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf) for path, leaf in leaves}


def leaf_difference(old: np.ndarray | None, new: np.ndarray | None) -> str:
    """Describes how the bits of two leaves differ; '' if they are equal. None is a missing leaf."""
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


def _images(run: epath.Path) -> dict[str, Any]:
    """Returns the contents of data.json by split and domain."""
    description = files.read_json(run / "data.json")
    splits = {split: arrays for split, arrays in description.items() if isinstance(arrays, list)}
    return {split: {str(i): array for i, array in enumerate(arrays)} for split, arrays in splits.items()}


def _names(lines: Sequence[str]) -> list[str]:
    return [line.partition(": ")[0] for line in lines]


def _groups(names: Sequence[str]) -> list[str]:
    return [name.removeprefix("fingerprint.") for name in names if name.startswith("fingerprint.")]


def _show(heading: str, *lines: str) -> None:
    more = [f"and {len(lines) - MAX_LINES} more"] if len(lines) > MAX_LINES else []
    print(heading, *(f"  {line}" for line in [*lines[:MAX_LINES], *more]), sep="\n", file=sys.stderr, flush=True)


if __name__ == "__main__":
    results = cli.run(lambda: tyro.cli(compare, description=flag_help.description(__doc__)))
    sys.exit(0 if results["equal"] else DIFFERENT)
