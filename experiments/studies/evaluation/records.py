"""Records of evaluations: evaluation-STEP.json in a run, and grids of nearest training pictures for its report."""

import json
import logging
from typing import Any

import numpy as np
from etils import epath

from genjax import files, report
from genjax.data import image_arrays
from genjax.evaluation.picture_sets import Measured, Sets
from genjax.report import sections
from genjax.train import weights_file

SHOWN = 24
"""Pictures of a set that are drawn beside their nearest training pictures."""


def keep(workdir: str, record: dict[str, Any], sets: dict[str, Sets], found: dict[str, Measured]) -> str:
    """Writes results into the run, and its report.

    Returns the file, or "" if it cannot be written, which is logged. A file of weights gets its results beside it, and
    no report.
    """
    path = weights_file.beside(workdir, f"evaluation-{record['step']}.json")
    try:
        add(path, record)
        if not weights_file.is_named(workdir):
            _write_nearest(files.resolve(workdir), record["step"], sets, found)
            report.write_run(workdir)
    except (OSError, ValueError) as error:  # the figures took longer than their record: they are printed in any case
        logging.warning("the results are not all in %s: %s", workdir, error)
        return ""
    return str(path)


def of_set(measured: Measured) -> dict[str, Any]:
    """Returns what stands in evaluation-STEP.json about a set."""
    metrics = {name: value._asdict() for name, value in measured.metrics.items()}
    counts = {"num_generated": measured.num_pictures, "num_reference": measured.num_real}
    return (
        counts
        | ({"num_training": measured.num_training} if measured.nearest is not None else {})
        | {"metrics": metrics}
    )


def _write_nearest(workdir: epath.Path, step: int, sets: dict[str, Sets], found: dict[str, Measured]) -> None:
    """Draws some pictures of each set beside the training pictures nearest to them, for the report."""
    for name, each in sets.items():
        rows = found[name].nearest
        if rows is not None and each.train is not None:
            shown = np.linspace(0, len(rows) - 1, min(SHOWN, len(rows))).astype(int)
            beside = (each.train[rows[shown, k]] for k in range(rows.shape[1]))
            joined = np.concatenate(
                [each.pictures[shown], *(image_arrays.to_uint8(image_arrays.unit_floats(near)) for near in beside)],
                axis=2,
            )
            path = workdir / "samples" / f"nearest {name}_generated_nearest training pictures-{step:08d}.png"
            image_arrays.write_png(path, image_arrays.grid(joined, columns=4))


def add(path: epath.Path, record: dict[str, Any]) -> None:
    """Adds a record to those in a file; one of the same network, pictures and seed keeps its other metrics."""
    record = json.loads(json.dumps(record))  # as it is read back: with lists in place of tuples
    # Another evaluation may add its own at the same time.
    with files.locked(path.with_name(".evaluation.lock")), sections.damage(path.parent):
        earlier = files.read_json(path) if path.exists() else []
        same = [one for one in earlier if _settings(one) == _settings(record)]
        for one in same:
            for name, measured in record["sets"].items():
                measured["metrics"] = one["sets"][name]["metrics"] | measured["metrics"]
        files.write_json(path, [*(one for one in earlier if one not in same), record])


def _settings(record: dict[str, Any]) -> list[Any]:
    """Returns all that decides the figures of a record of a checkpoint."""
    counts = {name: (one["num_generated"], one["num_reference"]) for name, one in record["sets"].items()}
    return [record["features"], record["split"], record["seed"], record.get("priors"), counts]
