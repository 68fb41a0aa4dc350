"""Same seed, same bytes: from the command line, also after SIGKILL at the worst moments."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "experiments"
NUM_STEPS, EVERY = 240, 40


def command(workdir, seed=0):
    flags = {
        "--workdir": workdir, "--seed": seed, "--train.num-steps": NUM_STEPS, "--train.log-every": 10,
        "--train.eval-every": EVERY, "--train.checkpoint-every": EVERY, "--data.batch-size": 64,
    }  # fmt: skip
    return [sys.executable, SCRIPTS / "train_vae.py", "digits", *(str(item) for pair in flags.items() for item in pair)]


def environment(num_devices):
    return {**os.environ, "JAX_NUM_CPU_DEVICES": str(num_devices)}


def train(workdir, seed=0, num_devices=1):
    """Runs the training to its end: the results it prints last, and the bytes of its metrics."""
    done = subprocess.run(command(workdir, seed), capture_output=True, text=True, env=environment(num_devices))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), Path(workdir, "metrics.jsonl").read_bytes()


def kill_at(workdir, moment, num_devices):
    """Starts the training and kills it at the first sight of `moment(checkpoints)`.

    False if there was none, or if it had passed when the kill arrived.
    """
    process = subprocess.Popen(
        command(workdir), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(num_devices)
    )
    checkpoints = Path(workdir, "checkpoints")
    while process.poll() is None:
        names = os.listdir(checkpoints) if checkpoints.exists() else []
        if moment(names):
            process.kill()
            assert process.wait() == -signal.SIGKILL
            return moment(os.listdir(checkpoints))
        time.sleep(0.0005)
    return False


def committed(names):
    return [int(name) for name in names if name.isdigit()]


def unfinished(names):
    return [name for name in names if "orbax-checkpoint-tmp" in name]


@pytest.fixture(scope="module", params=[1, 8], ids=["1 device", "8 devices"])
def devices(request):
    return request.param


@pytest.fixture(scope="module")
def whole(devices, tmp_path_factory):
    """An uninterrupted run."""
    return train(tmp_path_factory.mktemp("whole"), num_devices=devices)


def test_same_seed_same_digest_and_another_seed_another(devices, whole, tmp_path):
    results, metrics = train(tmp_path / "same", num_devices=devices)
    assert (results["digest"], metrics) == (whole[0]["digest"], whole[1])
    assert results["negative_elbo"] == whole[0]["negative_elbo"]
    other, _ = train(tmp_path / "other", seed=1, num_devices=devices)
    assert other["digest"] != whole[0]["digest"]


MOMENTS = {
    "before the first commit": (lambda names: unfinished(names) and not committed(names), range(0, 1)),
    "during a save": (lambda names: unfinished(names) and committed(names), range(EVERY, NUM_STEPS)),
    "after a commit": (lambda names: len(committed(names)) > 1 and not unfinished(names), range(EVERY, NUM_STEPS)),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_started_again_it_comes_to_the_same_bytes(devices, whole, tmp_path, moment):
    seen, resumed_from = MOMENTS[moment]
    attempts = [tmp_path / str(attempt) for attempt in range(5)]
    workdir = next((workdir for workdir in attempts if kill_at(workdir, seen, devices)), None)
    assert workdir, f"no kill arrived {moment}"
    results, metrics = train(workdir, num_devices=devices)
    assert results["resumed_from"] in resumed_from
    assert (results["digest"], metrics) == (whole[0]["digest"], whole[1])
    assert not unfinished(os.listdir(workdir / "checkpoints"))
