"""Several seeds in one process: each comes to the bytes that it has alone, and nothing is compiled anew."""

import dataclasses
import os
import signal
import types
from pathlib import Path

import pytest

from fitted import fit
from genjax import parallel, vae
from genjax.data import batches
from genjax.train import multi_seed
from genjax.train.multi_seed import fit_seeds
from tiny import tiny_run

pytestmark = pytest.mark.slow


def configs(root, seeds=(0, 1), **changes):
    return [tiny_run(str(root / f"seed-{seed}"), seed=seed, **changes) for seed in seeds]


def outcomes(results, runs):
    return [(r.digest, Path(c.workdir, "metrics.jsonl").read_bytes()) for r, c in zip(results, runs, strict=True)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The outcomes of two runs by themselves."""
    runs = configs(tmp_path_factory.mktemp("alone"))
    return outcomes([fit(run) for run in runs], runs)


def test_fit_seeds_equals_single_runs_and_compiles_once(tmp_path, monkeypatch, alone):
    compiled, pmap = [], parallel.pmap
    monkeypatch.setattr(
        parallel, "pmap", lambda *args, **kwargs: compiled.append(pmap(*args, **kwargs)) or compiled[-1]
    )
    runs = configs(tmp_path)
    assert outcomes(fit_seeds(vae.TASK, runs), runs) == alone and alone[0][0] != alone[1][0]
    # Train, fingerprint, check of replicas, evaluate, active units, draw.
    assert [fn._cache_size() for fn in compiled] == [1] * 6


def test_fit_seeds_stops_at_a_signal_and_resumes(tmp_path, monkeypatch, alone):
    load, runs = batches.load, configs(tmp_path)

    def load_and_signal(source, seed, step, *args):
        if step == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return load(source, seed, step, *args)

    with monkeypatch.context() as patch:
        patch.setattr(batches, "load", load_and_signal)
        (stopped,) = fit_seeds(vae.TASK, runs)  # the second run has not begun
    assert stopped.stopped_by is signal.SIGTERM and 0 < stopped.step < 12 and not Path(runs[1].workdir).exists()
    resumed = fit_seeds(vae.TASK, runs)
    assert [result.resumed_from for result in resumed] == [stopped.step, 0] and outcomes(resumed, runs) == alone


def test_fit_seeds_resumes_each_run_by_itself(tmp_path, monkeypatch, alone):
    load, runs = batches.load, configs(tmp_path)

    def load_or_crash(source, seed, step, *args):
        if seed == 1 and step == 6:
            raise RuntimeError("power cut")
        return load(source, seed, step, *args)

    with monkeypatch.context() as patch:
        patch.setattr(batches, "load", load_or_crash)
        with pytest.raises(RuntimeError, match="power cut"):
            fit_seeds(vae.TASK, runs)
    assert fit(runs[1]).resumed_from == 4  # either way of training resumes the other
    resumed = fit_seeds(vae.TASK, runs)
    assert [result.resumed_from for result in resumed] == [12, 12] and outcomes(resumed, runs) == alone


def test_fit_seeds_trains_the_others_if_one_diverges(tmp_path, monkeypatch):
    trained = []

    def fit_or_diverge(task, config, make_programs):
        if config.seed == 1:
            raise FloatingPointError(f"{config.workdir}: not finite")
        trained.append(config.seed)
        return types.SimpleNamespace(stopped_by=signal.SIGTERM if config.seed == 3 else None)

    monkeypatch.setattr(multi_seed, "fit", fit_or_diverge)
    with pytest.raises(FloatingPointError, match=r"^1 of 3 runs diverged:\n.*seed-1: not finite$"):
        fit_seeds(vae.TASK, configs(tmp_path, (0, 1, 2)))
    assert trained == [0, 2]
    assert fit_seeds(vae.TASK, configs(tmp_path, (1, 3, 4)))[-1].stopped_by is signal.SIGTERM  # to be resumed
    assert trained == [0, 2, 3]


def test_fit_seeds_refuses_runs_that_differ_otherwise(tmp_path):
    one, two = configs(tmp_path)
    for other, said in [
        (dataclasses.replace(two, data=dataclasses.replace(two.data, batch_size=32)), "in workdir and seeds alone"),
        (dataclasses.replace(two, precision="bfloat16"), "in workdir and seeds alone"),
        (dataclasses.replace(two, workdir=one.workdir), "a workdir of its own"),
    ]:
        with pytest.raises(ValueError, match=said):
            fit_seeds(vae.TASK, [one, other])
    assert not list(tmp_path.iterdir())
