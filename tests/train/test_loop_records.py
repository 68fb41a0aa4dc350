"""Training loop: rows, calls, trackers and profiles, one compilation of each function, equal noise, bfloat16."""

import logging
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from fitted import fit, programs_of
from genjax import keys, parallel, vae
from genjax.data import batches, sources
from genjax.evaluation.per_image import per_image_means
from genjax.train import checkpoint, fingerprint, loop, trackers, writers
from genjax.train.multi_seed import compile_once
from genjax.train.rows import read_rows

pytestmark = pytest.mark.slow


def test_fit_writes_rows_at_evaluations(make_run, monkeypatch):
    load = batches.load

    def load_or_crash(source, seed, step, *args):
        if step == 10:
            raise RuntimeError("power cut")
        return load(source, seed, step, *args)

    monkeypatch.setattr(batches, "load", load_or_crash)
    monkeypatch.setattr(writers.Writer, "__exit__", lambda *args: None)  # nothing is written at the end
    with pytest.raises(RuntimeError, match="power cut"):
        fit(make_run(train={"checkpoint_every": 12}))
    assert [row["step"] for row in read_rows(Path(make_run().workdir, "metrics.jsonl"))] == [2, 4, 4, 6, 8, 8]


def test_fit_calls_back_with_rows_and_grids_written(make_run):
    seen = []

    def after_evaluation(workdir):
        rows = [row["step"] for row in read_rows(workdir / "metrics.jsonl")]
        seen.append((max(rows), len(list((workdir / "samples").glob("samples-*.png")))))

    config = make_run()
    loop.fit(vae.TASK, config, lambda *_: programs_of(config), after_evaluation)
    assert seen == [(4, 1), (8, 2), (12, 3)]


def test_fit_logs_fingerprints_of_state_and_batch(trained):
    workdir, source = Path(trained.workdir), sources.load(trained.data, trained.seed).train
    rows = {row["step"]: row["fingerprint"] for row in read_rows(workdir / "metrics.jsonl") if "fingerprint" in row}
    abstract = parallel.abstract(parallel.make_mesh(), lambda: vae.TASK.init(trained, keys.root_key(0)))
    assert sorted(rows) == [2, 4, 6, 8, 10, 12] and checkpoint.steps(workdir / "checkpoints") == [8, 12]
    for step in (8, 12):
        state = checkpoint.restore(workdir / "checkpoints", step, abstract).state
        batch = batches.load(source, trained.seed, step - 1, 16, slice(16))
        of_batch = fingerprint.batch_fingerprint(batch.images, batch.position)
        found = jax.jit(fingerprint.tree_fingerprint)(state) | {"batch": of_batch}
        assert rows[step] == {group: f"{int(value):08x}" for group, value in found.items()}
        assert set(rows[step]) == {*"step skipped net.params net.opt_state ema.encoder ema.decoder batch".split()}


def test_fit_compiles_once_also_after_restoring(make_run, monkeypatch):
    """Also one of each of the functions that evaluate and draw."""
    compiled, pmap = [], parallel.pmap

    def remember(*args, **kwargs):
        compiled.append(pmap(*args, **kwargs))
        return compiled[-1]

    monkeypatch.setattr(parallel, "pmap", remember)
    loop.fit(vae.TASK, make_run(train={"num_steps": 8}))
    loop.fit(vae.TASK, make_run(train={"num_steps": 12}))
    # Train, fingerprint, check of replicas, evaluate, active units, draw; twice.
    assert [fn._cache_size() for fn in compiled] == [1] * 12


def test_fit_refuses_implicit_transfers(make_run, monkeypatch):
    monkeypatch.setattr(parallel, "shard_batch", lambda mesh, batch: batch)
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        fit(make_run())


def test_fit_scores_all_seeds_with_equal_noise(make_run):
    """Here the test metric is the noise; initial parameters and batches differ."""

    def noise(config, state, batch, key):
        return ({"negative_elbo": jax.random.uniform(key, batch.position.shape)},)

    evaluator = per_image_means(noise, num_draws=lambda config, split: 3)
    task = vae.TASK._replace(evaluators=(evaluator,), visualize=lambda *arguments: {})
    make_programs = compile_once()
    first, second = (
        loop.fit(task, make_run(f"{make_run().workdir}-{seed}", seed=seed), make_programs) for seed in (0, 1)
    )
    assert first.test == second.test and first.digest != second.digest


def test_fit_learns_in_bfloat16_too(make_run, tmp_path):
    """After 300 steps the bounds on the test images are within 1% of one another: 0.3 nats of 27."""
    longer = dict.fromkeys(("num_steps", "log_every", "eval_every", "checkpoint_every"), 300)
    elbo = {}
    for precision in ("float32", "bfloat16"):
        config = make_run(workdir=str(tmp_path / precision), precision=precision, train=longer, data={"batch_size": 64})
        elbo[precision] = loop.fit(vae.TASK, config).test["elbo"]
    assert elbo["float32"] > -30
    np.testing.assert_allclose(elbo["bfloat16"], elbo["float32"], rtol=0.01)
    assert elbo["bfloat16"] != elbo["float32"]


def test_fit_shows_trackers_what_it_writes(make_run, monkeypatch):
    """Rows as in metrics.jsonl, the grids of samples/, and where a resumed run goes on."""
    starts, rows, grids = [], [], []

    def recorder(start):
        starts.append(start)
        return SimpleNamespace(
            scalars=lambda step, metrics: rows.append({"step": step, **metrics}),
            pictures=lambda step, pictures: grids.extend(f"{name}-{step:08d}.png" for name in pictures),
            close=lambda: None,
        )

    monkeypatch.setitem(trackers.TRACKERS, "wandb", ("json", recorder))
    for num_steps in (4, 8):
        fit(make_run(train={"num_steps": num_steps, "track": ("wandb",)}))
    workdir = Path(make_run().workdir)
    written = read_rows(workdir / "metrics.jsonl")
    assert rows == [{name: row[name] for name in row if name not in ("fingerprint", "warnings")} for row in written]
    assert sorted(grids) == sorted(path.name for path in (workdir / "samples").glob("*.png"))
    assert [start.step for start in starts] == [0, 4] and starts[0].hyperparameters["vae.latent_dim"] == 4


def test_fit_profiles_steps(make_run, monkeypatch):
    calls = []
    monkeypatch.setattr("jax.profiler.start_trace", lambda directory: calls.append(directory))
    monkeypatch.setattr("jax.profiler.stop_trace", lambda: calls.append("stopped"))
    fit(make_run(train={"num_steps": 4, "profile": "1:3"}))
    assert calls == [f"{make_run().workdir}/profile", "stopped"]


def test_fit_logs_parameters_if_asked(make_run, caplog):
    caplog.set_level(logging.INFO)
    for show in (False, True):
        fit(make_run(f"{make_run().workdir}-{show}", train={"num_steps": 4, "show_parameters": show}))
        assert ("kernel" in caplog.text) == show
