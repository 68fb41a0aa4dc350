"""Trainings on a disk that is full for a while."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from genjax import vae
from genjax.train import checkpoint, loop, multi_seed, run_directory
from tiny import tiny_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("failing_loads"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # see failing_loads: saves do so too
]


@pytest.fixture(scope="module")
def programs():
    """Compiled once: all runs here are alike."""
    return multi_seed.compile_once()


SAVE = r"cannot save a checkpoint in \S*/checkpoints \(.*No space left on device.*; those before it are whole"


@pytest.mark.parametrize(
    ("moment", "said", "whole"),
    [
        ((loop.Writer, "flush", 1), r"No space left on device: '\S*/metrics.jsonl'", []),
        ((checkpoint.Saver, "save", 2), SAVE, [4]),
        ((run_directory, "write_result", 1), r"No space left on device: '\S*/result-12.json'", [8, 12]),
    ],
    ids=["rows", "save", "result"],
)
def test_fit_ends_on_a_full_disk_and_goes_on(trained, programs, disk, monkeypatch, moment, said, whole):
    config, (place, name, count), calls = tiny_run(f"{disk.path}/run"), moment, []
    checkpoints, usual = Path(config.workdir, "checkpoints"), getattr(place, name)

    def fill_and_call(*args, **kwargs):
        calls.append(name)
        if len(calls) == count:
            while checkpoint.steps(checkpoints) != whole:  # the save before may be under way
                time.sleep(0.01)
            disk.fill()
        return usual(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(place, name, fill_and_call)
        with pytest.raises(OSError, match=said):
            loop.fit(vae.TASK, config, programs)
    assert checkpoint.steps(checkpoints) == whole and not Path(config.workdir, "result.json").exists()

    disk.filler.unlink()
    assert loop.fit(vae.TASK, config, programs).resumed_from == max(whole, default=0)
    for file in ("metrics.jsonl", "result.json"):
        assert Path(config.workdir, file).read_bytes() == Path(trained.workdir, file).read_bytes()
    assert sorted(path.name for path in checkpoints.iterdir()) == ["12", "8"]


@pytest.mark.process
def test_run_says_once_that_the_disk_is_full(disk):
    disk.fill()
    os.truncate(disk.filler, disk.filler.stat().st_size - 48 * 1024)  # room for records and rows, not for a checkpoint
    script = (
        "from tiny import tiny_run; from genjax import cli, vae; from genjax.train.loop import fit; "
        f"cli.run(lambda: {{'step': fit(vae.TASK, tiny_run('{disk.path}/run')).step}})"
    )
    tests = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", script], cwd=tests, capture_output=True, text=True)
    assert done.returncode == 1 and not done.stdout and "Traceback" not in done.stderr
    (said,) = (line for line in done.stderr.splitlines() if "No space left" in line)
    assert said.startswith("error: cannot save a checkpoint in ") and said.endswith("goes on from the last one")
