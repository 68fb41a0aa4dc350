"""One run on two processes of two emulated devices each, over the loopback, against one process with four."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from genjax import keys, parallel, vae
from genjax.train import checkpoint, config_file
from genjax.train.rows import read_rows
from studies.reproducibility import checks, tiny_runs
from studies.reproducibility.stepping import mesh_of

pytestmark = pytest.mark.process

CHECKPOINTS = 4
STEPS = CHECKPOINTS * tiny_runs.TINY["vae"].every


def command_in(workdir, **changes):
    return tiny_runs.command("vae", workdir, **{"checkpoints": CHECKPOINTS} | changes)


def start_pair(command):
    return tiny_runs.start_processes([command] * 2, devices=2)


def ends(processes):
    """Each process's exit code, output and errors."""
    return [(*process.communicate(timeout=120), process.returncode) for process in processes]


def results(ended):
    (output, errors, code), *others = ended
    assert code == 0, errors
    for other_output, other_errors, other_code in others:
        assert other_code == 0, other_errors
        assert "{" not in other_output  # process 0 alone reports
    return json.loads(output.splitlines()[-1])


def wait_for_a_checkpoint(workdir, processes):
    directory = workdir / "checkpoints"
    while not (directory.exists() and any(name.isdigit() for name in os.listdir(directory))):
        assert all(process.poll() is None for process in processes), [p.communicate() for p in processes]
        time.sleep(0.002)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """A run of one process with four devices."""
    workdir = tmp_path_factory.mktemp("one")
    return workdir, tiny_runs.finish(tiny_runs.start(command_in(workdir), tiny_runs.environment(4)))


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The same run of two processes; what the second one creates is closed to other users."""
    workdir = tmp_path_factory.mktemp("two")
    processes = tiny_runs.start_processes([command_in(workdir)] * 2, devices=2, umasks=(0o022, 0o077))
    return workdir, results(ends(processes))


def test_batches_are_identical_and_losses_nearly(one, two):
    rows = [list(read_rows(workdir / "metrics.jsonl")) for workdir, _ in (one, two)]
    assert len(rows[0]) == len(rows[1]) == 5 * CHECKPOINTS
    for first, second in zip(*rows, strict=True):
        assert first.keys() == second.keys()
        if "fingerprint" in first:
            assert first["fingerprint"]["batch"] == second["fingerprint"]["batch"]
        for name in ("loss", "validation/loss"):
            if name in first:
                assert first[name] == pytest.approx(second[name], rel=1e-5)


FEW_TERMS = ["--cyclegan.discriminator", "pixel"]
FEW_TERMS += [part for name in ("cycle", "identity") for domain in "ab" for part in (f"--loss.{name}-{domain}", "0")]


@pytest.mark.parametrize(("family", "flags"), [("vae", []), ("cyclegan", FEW_TERMS)])
def test_two_processes_have_equal_inputs(family, flags, tmp_path):
    """Images, noise, transforms, decisions of the pools: all that does not depend on networks and weights of terms."""
    first, second = checks.inputs_of_two_processes(family, tmp_path, flags=flags)
    assert first | second == checks.inputs_of(family, tmp_path, mesh_of(4), flags=flags)
    assert len(first) == len(second) >= 3 * tiny_runs.config(family, tmp_path).data.batch_size / 2
    # Of the pools' decisions, which concern the whole batch, and of nothing else.
    assert len(first & second) == {"vae": 0, "cyclegan": 3 * 2}[family]


def test_process_0_alone_writes_records(two):
    workdir, _ = two
    by_the_second = [path.relative_to(workdir) for path in workdir.rglob("*") if not path.stat().st_mode & 0o044]
    assert by_the_second  # both take part in a save
    assert {path.parts[0] for path in by_the_second} == {"checkpoints"}
    assert (workdir / "report.html").exists() and list((workdir / "samples").iterdir())


def test_sigterm_to_one_process_stops_all(two, tmp_path):
    command = command_in(tmp_path / "run")
    processes = start_pair(command)
    wait_for_a_checkpoint(tmp_path / "run", processes)
    processes[1].send_signal(signal.SIGTERM)
    sent = time.perf_counter()
    for _, errors, code in ends(processes):
        assert code == 143 and "stopped and saved at step" in errors
    assert time.perf_counter() - sent < 30
    resumed = results(ends(start_pair(command)))
    assert 40 < resumed["resumed_from"] < STEPS
    assert resumed["digest"] == two[1]["digest"]
    assert tiny_runs.metrics(tmp_path / "run") == tiny_runs.metrics(two[0])


@pytest.mark.parametrize("victim", [0, 1])
def test_processes_end_when_one_dies(one, tmp_path, victim):
    command = command_in(tmp_path / "run")
    processes = start_pair(command)
    wait_for_a_checkpoint(tmp_path / "run", processes)
    processes[victim].kill()
    died = time.perf_counter()
    _, errors, code = ends(processes)[1 - victim]
    assert time.perf_counter() - died < 30
    assert code not in (0, 143)
    assert "another process of the run died" in errors and "run the same command again" in errors
    if victim == 1:  # resumed by one process, with other rounding but the same batches
        resumed = tiny_runs.finish(tiny_runs.start(command, tiny_runs.environment(4)))
        rows = [list(read_rows(workdir / "metrics.jsonl")) for workdir in (tmp_path / "run", one[0])]
        assert [row.get("fingerprint", {}).get("batch") for row in rows[0]] == [
            row.get("fingerprint", {}).get("batch") for row in rows[1]
        ]
        assert rows[0][-1]["validation/loss"] == pytest.approx(rows[1][-1]["validation/loss"], rel=1e-5)
        assert 0 < resumed["resumed_from"] < STEPS


def test_two_processes_resume_one_processs_run(one, tmp_path):
    """As it was before its last checkpoint."""
    workdir = shutil.copytree(one[0], tmp_path / "run")
    *_, before, last = sorted(checkpoint.steps(workdir / "checkpoints"))
    shutil.rmtree(workdir / "checkpoints" / str(last))
    resumed = results(ends(start_pair(command_in(workdir))))
    assert (resumed["resumed_from"], resumed["step"]) == (before, STEPS) and before < last == STEPS
    rows, expected = (list(read_rows(Path(path) / "metrics.jsonl")) for path in (workdir, one[0]))
    for row, other in zip(rows, expected, strict=True):
        assert row.get("fingerprint", {}).get("batch") == other.get("fingerprint", {}).get("batch")


def test_two_processes_share_the_saving_of_large_arrays(tmp_path):
    wide = ("--vae.hidden-sizes", "1024", "1024")  # 4 MiB for four devices: as much as devices share at the least
    every = ("num-steps", "log-every", "eval-every", "checkpoint-every")
    short = (part for name in every for part in (f"--train.{name}", "2"))
    ended = results(ends(start_pair([*command_in(tmp_path / "run"), *wide, *short])))
    run = config_file.load(tmp_path / "run")
    abstract = parallel.abstract(mesh_of(1), lambda: vae.TASK.init(run, keys.root_key(0)))
    assert checkpoint.restore(tmp_path / "run" / "checkpoints", 2, abstract).digest == ended["digest"]


def test_processes_with_other_settings_are_refused(tmp_path, monkeypatch):
    """The older instructions stand for another processor: with them the second process rounds differently."""
    monkeypatch.delenv("XLA_FLAGS")
    commands = [command_in(tmp_path / "run", seed=seed) for seed in (0, 1)]
    older = {"XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2"}
    (_, first_errors, code), (_, errors, other_code) = ends(tiny_runs.start_processes(commands, devices=2, **older))
    assert code == other_code == 1
    assert "another process differs from process 0, and a run needs them alike: see its own error" in first_errors
    assert (
        "process 1 differs from process 0, and a run needs them alike:\n  config.seed: 0 -> 1\n"
        "  environment.flags.XLA_FLAGS: None -> --xla_cpu_max_isa=SSE4_2\n"
    ) in errors
    assert not (tmp_path / "run").exists()


def test_processes_need_equal_numbers_of_devices(tmp_path):
    commands = [command_in(tmp_path / "run")] * 2
    for _, errors, code in ends(tiny_runs.start_processes(commands, devices=2, JAX_NUM_CPU_DEVICES="1")):
        assert code == 1 and "Traceback" not in errors
        assert "processes need equal numbers of devices, but process 0 has 2, process 1 has 1: start" in errors
    assert not (tmp_path / "run").exists()
