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
FAMILIES = {
    "vae": ("train_vae.py", "digits", {"data.batch-size": 64}, 40),
    "cyclegan": ("train_cyclegan.py", "icons", {
        "data.batch-size": 8, "data.image-size": "16 16", "optim.schedule": "constant", "optim.decay-steps": 0,
        "cyclegan.width": 2, "cyclegan.blocks": 0, "cyclegan.discriminator-width": 2,
        "cyclegan.discriminator-layers": 1, "cyclegan.pool-size": 16, "train.num-pictures": 8,
    }, 8),
}  # fmt: skip
"""Script, configuration, flags, and steps between checkpoints, of which a run has six."""


def command(family, workdir, seed=0):
    script, config, flags, every = FAMILIES[family]
    flags = flags | {
        "workdir": workdir, "seed": seed, "train.num-steps": 6 * every, "train.log-every": every // 4,
        "train.eval-every": every, "train.checkpoint-every": every,
    }  # fmt: skip
    arguments = [part for name, value in flags.items() for part in (f"--{name}", *str(value).split())]
    return [sys.executable, SCRIPTS / script, config, *arguments]


def environment(num_devices):
    return {**os.environ, "JAX_NUM_CPU_DEVICES": str(num_devices)}


def train(family, workdir, seed=0, num_devices=1):
    """Runs the training to its end: the results it prints last, and the bytes of its metrics."""
    done = subprocess.run(command(family, workdir, seed), capture_output=True, text=True, env=environment(num_devices))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), Path(workdir, "metrics.jsonl").read_bytes()


def kill_at(family, workdir, moment, num_devices):
    """Starts the training and kills it at the first sight of `moment(checkpoints)`.

    False if there was none, or if it had passed when the kill arrived.
    """
    process = subprocess.Popen(
        command(family, workdir), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(num_devices)
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


@pytest.fixture(scope="module", params=[("vae", 1), ("vae", 8), ("cyclegan", 8)], ids="{0[0]} on {0[1]}".format)
def family_and_devices(request):
    return request.param


@pytest.fixture(scope="module")
def family(family_and_devices):
    return family_and_devices[0]


@pytest.fixture(scope="module")
def devices(family_and_devices):
    return family_and_devices[1]


@pytest.fixture(scope="module")
def whole(family, devices, tmp_path_factory):
    """An uninterrupted run."""
    return train(family, tmp_path_factory.mktemp("whole"), num_devices=devices)


def test_same_seed_same_digest_and_another_seed_another(family, devices, whole, tmp_path):
    results, metrics = train(family, tmp_path / "same", num_devices=devices)
    assert (results["digest"], metrics) == (whole[0]["digest"], whole[1])
    times = {"seconds", "report"}
    assert {name: results[name] for name in results if name not in times} == {
        name: whole[0][name] for name in whole[0] if name not in times
    }
    other, _ = train(family, tmp_path / "other", seed=1, num_devices=devices)
    assert other["digest"] != whole[0]["digest"]


MOMENTS = {
    "before the first commit": lambda names: unfinished(names) and not committed(names),
    "during a save": lambda names: unfinished(names) and committed(names),
    "after a commit": lambda names: len(committed(names)) > 1 and not unfinished(names),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_started_again_it_comes_to_the_same_bytes(family, devices, whole, tmp_path, moment):
    every = FAMILIES[family][-1]
    attempts = [tmp_path / str(attempt) for attempt in range(5)]
    workdir = next((workdir for workdir in attempts if kill_at(family, workdir, MOMENTS[moment], devices)), None)
    assert workdir, f"no kill arrived {moment}"
    results, metrics = train(family, workdir, num_devices=devices)
    if moment == "before the first commit":
        assert results["resumed_from"] == 0
    else:
        assert every <= results["resumed_from"] < 6 * every
    assert (results["digest"], metrics) == (whole[0]["digest"], whole[1])
    assert not unfinished(os.listdir(workdir / "checkpoints"))
