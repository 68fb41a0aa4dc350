"""The checks of reproducibility hold, and can fail; trainings that are killed come to the same bytes."""

import json
import shutil
import subprocess
import sys

import pytest

from studies.reproducibility import checks, kills, tiny_runs

pytestmark = pytest.mark.process

QUICK = ("R1", "R5", "R6")
"""R2 is tested by the kills below, R3 in test_multiprocess.py, R3 and R4 on more devices in the tests of the steps."""


@pytest.mark.parametrize("row", QUICK)
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


def killed_in_turn(command, workdir, environment):
    """Kills one training at each of the moments; returns False if one of them had passed when the kill arrived."""
    return all(kills.kill_at(command, workdir, kills.MOMENTS[moment], environment) for moment in IN_TURN)


@pytest.mark.parametrize(("family", "devices"), [("vae", 1), ("cyclegan", 8)])
def test_killed_training_resumes_to_the_same_bytes(family, devices, tmp_path):
    environment = tiny_runs.environment(devices)
    expected = tiny_runs.finish(tiny_runs.start(tiny_runs.command(family, tmp_path / "whole"), environment))
    for attempt in range(8):
        workdir = tmp_path / f"killed-{attempt}"
        command = tiny_runs.command(family, workdir)
        if killed_in_turn(command, workdir, environment):
            break
    else:
        raise AssertionError(f"no kills in 8 attempts arrived {', '.join(IN_TURN)}")
    results = tiny_runs.finish(tiny_runs.start(command, environment))
    assert tiny_runs.TINY[family].every < results["resumed_from"] < results["step"]
    assert tiny_runs.metrics(workdir) == tiny_runs.metrics(tmp_path / "whole")
    other = {"seconds", "report", "resumed_from"}
    assert {name: results[name] for name in results if name not in other} == {
        name: expected[name] for name in expected if name not in other
    }
    assert not [path for path in (workdir / "checkpoints").iterdir() if "orbax-checkpoint-tmp" in path.name]
