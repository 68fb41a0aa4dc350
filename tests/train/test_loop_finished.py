"""Runs that are there already, or under way: what fit goes on with, keeps, and refuses."""

import json
import logging
import os
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from fitted import fit, outcome
from genjax import report
from genjax.data import batches, sources
from genjax.loading import load_sampler
from genjax.train import checkpoint, config_file, environment, loop, trackers
from genjax.train.rows import read_rows

pytestmark = pytest.mark.slow


@pytest.fixture
def finished(trained, make_run):
    """A finished run that a test may change: a copy of `trained`."""
    shutil.copytree(trained.workdir, make_run().workdir)
    return make_run()


def listing(config):
    """All files of a run, with the times of their last change."""
    return {path: path.stat().st_mtime_ns for path in Path(config.workdir).rglob("*")}


def test_fit_trains_no_finished_run_again(finished, whole):
    first = json.loads(Path(finished.workdir, "result.json").read_text())
    again = fit(finished)
    assert (again.resumed_from, again.digest, again.test) == (12, first["digest"], first["test"])
    assert Path(finished.workdir, "metrics.jsonl").read_bytes() == whole[1]


def test_fit_keeps_a_finished_runs_environment(finished, monkeypatch, whole):
    path = Path(finished.workdir, "environment.json")
    trained_in = path.read_bytes()
    monkeypatch.setattr(environment, "describe", lambda config: {"device": "another"})
    assert fit(finished).digest == whole[0]
    assert path.read_bytes() == trained_in


def test_fit_warns_of_a_changed_environment(finished, make_run, monkeypatch, caplog):
    monkeypatch.setattr(environment, "PACKAGES", ())
    monkeypatch.setattr(environment, "CPUINFO", Path("/another/machine"))
    with caplog.at_level(logging.WARNING):
        fit(make_run(train={"num_steps": 16}))
    assert "environment has changed" in caplog.text and f"packages.jax: {jax.__version__} -> None" in caplog.text
    assert f"processor.features: {environment.describe(make_run())['processor']['features']}" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"batch_size": 12}}, "batch-size 12 does not divide over 8 devices"),
        ({"data": {"source": "folder:/nowhere"}}, "/nowhere"),
        ({"vae": {"latent_dim": 9}}, "vae.latent_dim: 4 -> 9"),
        ({"train": {"num_steps": 8}}, "train.num_steps: 12 -> 8"),
        ({"train": {"steps_per_dispatch": 2}}, "train.steps_per_dispatch: 1 -> 2"),
        ({"train": {"num_steps": 24, "track": ("mlflow",)}}, "needs a package of clouds: pip install"),
    ],
    ids=str,
)
def test_fit_refuses_before_it_writes(finished, make_run, change, message, monkeypatch):
    monkeypatch.setitem(trackers.TRACKERS, "mlflow", ("a package of clouds", None))
    before = listing(finished)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        fit(make_run(**change))
    assert listing(finished) == before


@pytest.mark.parametrize("name", ["metrics.jsonl", "timing.jsonl"])
def test_fit_refuses_damaged_rows(finished, make_run, name):
    path = Path(finished.workdir, name)
    path.write_text(path.read_text()[:-9])
    before = listing(finished)
    with pytest.raises(ValueError, match=f"{name} is damaged, it holds . of the . rows up to the checkpoint: restore"):
        fit(make_run(train={"num_steps": 16}))
    assert listing(finished) == before


def test_fit_refuses_records_without_rows(finished, make_run, monkeypatch):
    """Those of an earlier genjax; such a run can still be loaded."""
    record, before = checkpoint.record, listing(finished)
    monkeypatch.setattr(checkpoint, "record", lambda *args: record(*args)._replace(rows=None))
    with pytest.raises(ValueError, match="an earlier genjax began the run .*: resume it with that version"):
        fit(make_run(train={"num_steps": 16}))
    assert listing(finished) == before and load_sampler(finished.workdir).step == 12


def test_fit_warns_of_removed_rows(finished, make_run, caplog):
    path = Path(finished.workdir, "metrics.jsonl")
    rows = path.read_bytes().splitlines()
    path.unlink()
    with caplog.at_level(logging.WARNING):
        fit(finished)
        longer = fit(make_run(train={"num_steps": 16}))
    assert caplog.messages == 2 * [f"{path} is gone, so rows 1 to {len(rows)}, up to the checkpoint, are lost"]
    assert longer.resumed_from == 12 and [row["step"] for row in read_rows(path)] == [14, 16, 16]
    assert fit(make_run(train={"num_steps": 20})).resumed_from == 16  # those rows are covered again


def test_fit_refuses_changed_images(make_run, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8), np.uint8)
    np.savez(tmp_path / "x.npz", x_train=images)
    config = make_run(data={"source": f"npz:{tmp_path}/x.npz"})
    fit(config)
    np.savez(tmp_path / "x.npz", x_train=255 - images)
    with pytest.raises(ValueError, match="images have changed"):
        fit(config)


def test_fit_keeps_the_result_of_shorter_runs(make_run, monkeypatch, caplog):
    workdir = Path(make_run().workdir)
    fit(make_run(train={"num_steps": 4}))
    result = (workdir / "result.json").read_bytes()
    with monkeypatch.context() as patch, caplog.at_level(logging.INFO):
        patch.setattr(batches, "load", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            fit(make_run(train={"num_steps": 16}))
    assert not (workdir / "result.json").exists() and f"stays in {workdir}/result-4.json" in caplog.text
    fit(make_run(train={"num_steps": 16}))
    assert json.loads((workdir / "result.json").read_text())["step"] == 16
    assert (workdir / "result-4.json").read_bytes() == result
    assert 4 in checkpoint.steps(workdir / "checkpoints")
    assert checkpoint.record(workdir / "checkpoints", 4).digest == json.loads(result)["digest"]
    with pytest.raises(
        ValueError, match=f"after 4 steps is in {workdir}/result-4.json, its checkpoint in checkpoints/4"
    ):
        fit(make_run(train={"num_steps": 4}))


def test_fit_writes_nothing_if_restoring_fails(finished, make_run, monkeypatch):
    before = listing(finished)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "restore_latest", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            fit(make_run(train={"num_steps": 10**6}))
    assert {path: time for path, time in listing(finished).items() if path.is_file()} == {
        path: time for path, time in before.items() if path.is_file()
    }


def test_fit_refuses_dispatches_past_the_checkpoint(make_run):
    every = {"num_steps": 24, "log_every": 6, "eval_every": 12, "checkpoint_every": 12}
    config = make_run(train={"num_steps": 8, "steps_per_dispatch": 2, "log_every": 4})
    fit(config)
    before = listing(config)
    with pytest.raises(ValueError, match="is at step 8, which is not a multiple of .*dispatch 6: .* divides it"):
        fit(make_run(train=every | {"steps_per_dispatch": 6}))
    assert listing(config) == before


def test_fit_refuses_a_second_training(make_run, monkeypatch):
    config, load, refused = make_run(), batches.load, []

    def load_while_another_begins(source, seed, step, *args):
        if step == 2:
            with monkeypatch.context() as patch:
                patch.setattr(
                    loop, "_restore_or_init", lambda *args: 1 / 0
                )  # two trainings in one process would not end well
                with pytest.raises(ValueError, match="another training is under way in .*run"):
                    fit(make_run(train={"num_steps": 20}))
            refused.append(step)
        return load(source, seed, step, *args)

    monkeypatch.setattr(batches, "load", load_while_another_begins)
    assert fit(config).step == 12 and refused == [2]


def test_fit_begins_after_a_failed_start(make_run, monkeypatch, whole):
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_restore_or_init", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            fit(make_run())
    assert os.listdir(make_run().workdir) == [".lock"]
    assert outcome(make_run()) == whole


def test_fit_refuses_after_another_training_while_loading(make_run, monkeypatch):
    load = sources.load

    def load_after_another(data, seed):
        if seed == 0:
            fit(make_run(seed=1, train={"num_steps": 4}))
        return load(data, seed)

    monkeypatch.setattr(sources, "load", load_after_another)
    with pytest.raises(ValueError, match="seed: 1 -> 0"):
        fit(make_run())
    assert config_file.load(make_run().workdir).seed == 1


def test_fit_refuses_float64(make_run):
    with jax.enable_x64(True), pytest.raises(ValueError, match="JAX_ENABLE_X64 is set, and trainings are in float32"):
        fit(make_run())
    assert not Path(make_run().workdir).exists()


def test_fit_expands_home_directories(make_run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    fit(make_run(workdir="~/here"))
    assert load_sampler("~/here").step == 12
    report.write_report("~/here/report.html", "t", {"r": "~/here"})
    assert (tmp_path / "here" / "report.html").exists()


def test_fit_takes_relative_workdirs(make_run, tmp_path, monkeypatch, whole):
    monkeypatch.chdir(tmp_path)
    assert outcome(make_run(workdir="here"))[0] == whole[0]
    assert load_sampler("here").step == load_sampler(tmp_path / "here").step == 12


def test_fit_resumes_moved_runs(finished, make_run, tmp_path):
    shutil.move(finished.workdir, tmp_path / "elsewhere")
    moved = make_run(str(tmp_path / "elsewhere"), train={"num_steps": 16})
    assert fit(moved).resumed_from == 12
