"""The notebook experiments/tour.ipynb: it is kept without outputs, and runs from the first cell to the last."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import sample

TOUR = Path(sample.__file__).parent / "tour.ipynb"

SMALLER = {
    "STEPS, FACES = 400, 2000": "STEPS, FACES = 2, 160",
    "hidden_sizes=(32, 64, 128), latent_dim=32": "hidden_sizes=(4,), latent_dim=4",
    "num_particles=8, num_restarts=2, num_ascent_steps=50, num_warmup=8": (
        "num_particles=1, num_restarts=1, num_ascent_steps=1, num_warmup=1"
    ),
    "base_channels=16, num_blocks=2, discriminator_channels=32": (
        "base_channels=2, num_blocks=0, discriminator_channels=2, discriminator_layers=1"
    ),
}
"""Sizes in the notebook, and what the test puts in their place."""

# As a notebook does, with the value of a cell that ends in an expression.
RUN_CELLS = """
import ast, json, sys
names, shown = {}, {}
for cell, source in json.load(sys.stdin).items():
    *statements, last = ast.parse(source).body or [ast.Pass()]
    if isinstance(last, ast.Expr):
        exec(compile(ast.Module(statements, []), cell, "exec"), names)
        value = eval(compile(ast.Expression(last.value), cell, "eval"), names)
        shown[cell] = value if isinstance(value, dict) else list(getattr(value, "size", ()))
    else:
        exec(compile(source, cell, "exec"), names)
json.dump(shown, sys.stderr)
"""


@pytest.fixture(scope="module")
def cells():
    return json.loads(TOUR.read_text(encoding="utf-8"))["cells"]


def code(cells):
    return {cell["id"]: "".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"}


def test_tour_is_kept_without_outputs(cells):
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells if "outputs" in cell)
    assert [cell["cell_type"] for cell in cells[:2]] == ["markdown", "code"]


def test_tour_begins_with_extras_that_exist(cells):
    project = tomllib.loads((TOUR.parents[1] / "pyproject.toml").read_text())["project"]
    install = next(iter(code(cells).values()))
    extras = install.split(f"{project['name'].replace('-', '_')}-*.whl)[")[1].split("]")[0].split(",")
    assert set(extras) <= project["optional-dependencies"].keys()
    assert all(line.startswith("#") for line in install.splitlines())


@pytest.mark.slow
@pytest.mark.process
def test_tour_runs_from_top_to_bottom(cells, tmp_path):
    sources = json.dumps(code(cells))
    for size, smaller in SMALLER.items():
        assert sources.count(size) == 1
        sources = sources.replace(size, smaller)
    done = subprocess.run(
        [sys.executable, "-c", RUN_CELLS], input=sources, capture_output=True, text=True, cwd=tmp_path,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "1", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    shown = json.loads(done.stderr.splitlines()[-1])
    # Eight faces of 96 pixels in a row, and 2 pixels between them.
    rows = {cell: (size[1] - 2) / 98 for cell, size in shown.items() if isinstance(size, list)}
    assert rows == {"faces": 1, "draw": 1, "between": 1, "guess": 6, "glasses": 3, "weights": 1}
    assert all(size[0] == 8 * 98 + 2 for size in shown.values() if isinstance(size, list))
    assert shown["train-vae"]["elbo"] < 0 < shown["train-cyclegan"]["l1_a2b"]
    assert [line.split(" {")[0] for line in done.stdout.splitlines()] == [
        "translations", "copies", "samples", "training faces"
    ]  # fmt: skip
