"""The checks of reproducibility hold, and can fail; trainings that are killed come to the same bytes."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

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


@pytest.fixture(scope="module", params=[("vae", 1), ("cyclegan", 8)], ids="{0[0]} on {0[1]}".format)
def family_and_devices(request):
    return request.param


@pytest.fixture(scope="module")
def runs(family_and_devices, tmp_path_factory):
    """The uninterrupted run, then the killed ones, two at a time: a start keeps one core busy."""
    directory = tmp_path_factory.mktemp("runs")
    whole = uninterrupted(*family_and_devices, directory / "whole")
    with ThreadPoolExecutor(2) as pool:
        killed = {
            moment: pool.submit(killed_and_started_again, *family_and_devices, directory / moment, moment)
            for moment in kills.MOMENTS
        }
        yield whole, killed


def uninterrupted(family, devices, workdir):
    return tiny_runs.finish(
        tiny_runs.start(tiny_runs.command(family, workdir), tiny_runs.environment(devices))
    ), workdir


def killed_and_started_again(family, devices, directory, moment):
    directory.mkdir()
    environment = tiny_runs.environment(devices)
    for attempt in range(8):
        workdir = directory / str(attempt)
        command = tiny_runs.command(family, workdir)
        if kills.kill_at(command, workdir, kills.MOMENTS[moment], environment):
            return tiny_runs.finish(tiny_runs.start(command, environment)), workdir
    raise AssertionError(f"no kill arrived {moment}")


@pytest.mark.parametrize("moment", kills.MOMENTS)
def test_killed_training_resumes_to_the_same_bytes(family_and_devices, runs, moment):
    whole, killed = runs
    (expected, uninterrupted), (results, workdir) = whole, killed[moment].result()
    if moment == "before the first commit":
        assert results["resumed_from"] == 0
    else:
        assert tiny_runs.TINY[family_and_devices[0]].every <= results["resumed_from"] < results["step"]
    assert results["digest"] == expected["digest"]
    assert tiny_runs.metrics(workdir) == tiny_runs.metrics(uninterrupted)
    other = {"seconds", "report", "resumed_from"}
    assert {name: results[name] for name in results if name not in other} == {
        name: expected[name] for name in expected if name not in other
    }
    assert not [path for path in (workdir / "checkpoints").iterdir() if "orbax-checkpoint-tmp" in path.name]
