"""The wheel: all folders are in it, and in a fresh environment it has the library and the commands."""

import json
import os
import shutil
import site
import subprocess
import sys
import tomllib
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from genjax import cyclegan, keys, vae
from genjax.train import config_file, weights_file
from tiny import tiny_cyclegan, tiny_run, write_noise

TREE = Path(__file__).parents[1]

OF_THE_TESTS = {"genjax_commands.studies.fuzz", "genjax_commands.studies.mutation"}
"""Studies of the tests, which need a checkout."""


def test_packages_are_all_folders():
    settings = tomllib.loads((TREE / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {
        ".".join([package, *path.parent.relative_to(TREE / folder).parts])
        for package, folder in (("genjax", "genjax"), *settings["package-dir"].items())
        for path in (TREE / folder).rglob("*.py")
    }
    assert set(settings["packages"]) == folders - OF_THE_TESTS and len(settings["packages"]) > 20


def run(*command, cwd):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def write_weights(path, task, config):
    """Writes a file of random weights, without compiling anything."""
    rng, shapes = np.random.default_rng(0), jax.eval_shape(lambda: task.init(config, keys.root_key(0)).ema)
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype), shapes)
    weights_file.write(path, config_file.fields_of(config), 0, {}, params)


@pytest.mark.process
def test_wheel_samples_and_translates_in_a_fresh_environment(tmp_path):
    for name in ("genjax", "experiments"):
        shutil.copytree(TREE / name, tmp_path / "tree" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(TREE / name, tmp_path / "tree" / name)
    options = ("--quiet", "--no-deps", "--disable-pip-version-check")
    pip, wheels = (sys.executable, "-m", "pip"), tmp_path / "wheels"
    run(*pip, "wheel", *options, "--no-build-isolation", "--wheel-dir", wheels, ".", cwd=tmp_path / "tree")
    (wheel,) = wheels.glob("*.whl")
    # An environment with nothing of genjax, and the libraries of this one: a fresh download takes minutes.
    run(sys.executable, "-m", "venv", "--without-pip", "environment", cwd=tmp_path)
    (packages,) = (tmp_path / "environment").glob("lib/python*/site-packages")
    (packages / "others.pth").write_text("\n".join(site.getsitepackages()))
    python = tmp_path / "environment" / "bin" / "python"
    run(*pip, "--python", python, "install", *options, wheel, cwd=tmp_path)
    shutil.rmtree(tmp_path / "tree")

    (empty := tmp_path / "empty").mkdir()
    genjax = tmp_path / "environment" / "bin" / "genjax"
    listed = run(genjax, cwd=empty)
    assert all(f"  {name} " in listed for name in ("train-vae", "train-cyclegan", "sample", "translate", "export"))
    found = run(python, "-c", "import genjax; print(genjax.__file__)", cwd=empty)
    assert found.startswith(str(packages))
    write_weights(empty / "vae.safetensors", vae.TASK, tiny_run(""))
    write_weights(empty / "cyclegan.safetensors", cyclegan.TASK, tiny_cyclegan("", data={"channels": (3, 3)}))
    out = ("--workdir", "vae.safetensors", "--out", "samples.png")
    sampled = json.loads(run(genjax, "sample", "prior", "--num", "3", *out, cwd=empty))
    with Image.open(empty / "samples.png") as drawn:
        assert sampled["images"] == 3 and drawn.format == "PNG"
    write_noise(empty / "images", 2)
    flags = ("--workdir", "cyclegan.safetensors", "--direction", "a2b", "--images", "images", "--out", "out")
    assert json.loads(run(genjax, "translate", *flags, cwd=empty))["images"] == 2
    assert sorted(path.name for path in (empty / "out").iterdir()) == ["0.png", "1.png"]
