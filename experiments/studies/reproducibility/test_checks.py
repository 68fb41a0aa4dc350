"""The checks of reproducibility hold, and can fail; trainings that are killed come to the same bytes."""

import functools
import json
import os
import shutil
import subprocess
import sys

import pytest

from compilation import fully_compiled
from studies.reproducibility import checks, kills, tiny_runs

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def repeated(tmp_path_factory):
    """A directory of the runs with which R1 is checked, and what the check found."""
    directory = tmp_path_factory.mktemp("repeated")
    with fully_compiled():
        return directory, checks.PROMISES["R1"]("vae", directory, "")


def test_r1_holds(repeated):
    outcome = repeated[1]
    assert outcome.held, outcome.seen


# R2 is tested by the kills below, R3 in test_multiprocess.py, R3 and R4 on more devices in the tests of the steps.
@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("row", ["R5", "R6"])
def test_promises_hold(tmp_path, row):
    outcome = checks.PROMISES[row]("vae", tmp_path, "")
    assert outcome.held, outcome.seen


@pytest.mark.parametrize("row", ["R2", "R5", "R6"])  # the others take longer: reproducibility.py --break
def test_promises_find_their_faults(tmp_path, row):
    assert not checks.PROMISES[row]("vae", tmp_path, row).held


def test_script_prints_fail_and_exits_with_1(tmp_path):
    command = [sys.executable, tiny_runs.SCRIPTS / "reproducibility.py", "--families", "vae", "--break", "R6"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout.startswith("R6  FAIL  vae")
    assert json.loads(done.stdout.splitlines()[-1])["R6"] is False


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="there is a GPU")
def test_script_refuses_r7_without_a_gpu():
    command = [sys.executable, tiny_runs.SCRIPTS / "reproducibility.py", "--rows", "R7"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: R7 needs an NVIDIA GPU") and done.stdout == ""


IN_TURN = ("before the first commit", "after a commit", "during a save")
"""An order in which no start begins with what the next kill waits for."""


def killed_and_resumed(command, directory, moments, environment):
    """Kills the training of `command(workdir)` at each of the moments and finishes it; returns workdir and results."""
    for attempt in range(8):
        workdir = directory / f"killed-{attempt}"
        if all(kills.kill_at(command(workdir), workdir, kills.MOMENTS[m], environment) for m in moments):
            break
    else:
        raise AssertionError(f"no kills in 8 attempts arrived {', '.join(moments)}")
    return workdir, tiny_runs.finish(tiny_runs.start(command(workdir), environment))


def assert_same(workdir, whole):
    """The run in `workdir` has the result and the rows of another, and left no half-done checkpoint."""
    assert tiny_runs.metrics(workdir) == tiny_runs.metrics(whole)
    assert (workdir / "result.json").read_bytes() == (whole / "result.json").read_bytes()
    assert not [path for path in (workdir / "checkpoints").iterdir() if "orbax-checkpoint-tmp" in path.name]


@pytest.mark.usefixtures("full")
def test_killed_vae_resumes_to_the_same_bytes(repeated, tmp_path):
    command = functools.partial(tiny_runs.command, "vae")
    workdir, results = killed_and_resumed(command, tmp_path, IN_TURN, tiny_runs.environment(1))
    assert tiny_runs.TINY["vae"].every < results["resumed_from"] < results["step"]
    assert_same(workdir, repeated[0] / "one")


def test_killed_cyclegan_resumes_to_the_same_bytes(tmp_path):
    """On eight devices; its pools, four networks and averages, from whichever checkpoint was whole."""
    environment = tiny_runs.environment(8)

    def command(workdir):
        off = (f"--loss.{name}-{domain} 0" for name in ("cycle", "identity") for domain in "ab")
        flags = " ".join(["--cyclegan.discriminator pixel", *off])
        return [*tiny_runs.command("cyclegan", workdir, checkpoints=3), *flags.split()]

    whole = tmp_path / "whole"
    tiny_runs.finish(tiny_runs.start(command(whole), environment))
    workdir, results = killed_and_resumed(command, tmp_path, ["during a save"], environment)
    assert 0 < results["resumed_from"] < results["step"]
    assert_same(workdir, whole)


SLOW_RENAMES = """
import os, time

def slowly(move):
    def moved(source, *args, **kwargs):
        time.sleep(0.3 * ("orbax-checkpoint-tmp" in str(source)))
        return move(source, *args, **kwargs)
    return moved

os.rename, os.replace = slowly(os.rename), slowly(os.replace)
"""


def test_killed_study_resumes_with_slow_renames(tmp_path, monkeypatch):
    """Each run is killed while a finished save waits for its name; an older checkpoint is there."""
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "sitecustomize.py").write_text(SLOW_RENAMES)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "slow"), prepend=os.pathsep)
    environment, whole, killed = tiny_runs.environment(1), tmp_path / "whole", tmp_path / "killed"
    command = functools.partial(tiny_runs.study_command, "vae", seeds=(0, 1), checkpoints=6)
    tiny_runs.finish(tiny_runs.start(command(whole), environment))
    runs = sorted(path.parent.name for path in whole.glob("*/result.json"))
    for run in runs:

        def during_a_save(names, run=run):
            return kills.MOMENTS["during a save"]([name for name in names if name.startswith(f"{run}/")])

        assert kills.kill_at(command(killed), killed, during_a_save, environment)
    tiny_runs.finish(tiny_runs.start(command(killed), environment))
    assert len(runs) == 2
    for run in runs:
        assert_same(killed / run, whole / run)
