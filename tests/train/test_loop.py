"""Training loop: equal bytes, signals and crashes, rows and calls, and one compilation of each function."""

import dataclasses
import json
import logging
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from fitted import fit, outcome, programs_of
from genjax import keys, parallel, vae
from genjax.data import batches, sources
from genjax.evaluation.per_image import per_image_means
from genjax.train import checkpoint, config_file, fingerprint, loop, trackers, writers
from genjax.train.multi_seed import compile_once
from genjax.train.rows import read_rows
from tiny import write_noise

pytestmark = pytest.mark.slow


def test_fit_repeats_its_bytes_and_other_seeds_differ(make_run, tmp_path, whole):
    assert outcome(make_run()) == whole
    other = outcome(make_run(workdir=str(tmp_path / "other"), seed=1))
    assert other[0] != whole[0] and other[1] != whole[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_fit_saves_at_a_signal_and_resumes(make_run, monkeypatch, whole, number):
    config, load = make_run(), batches.load
    usual = signal.getsignal(number)

    def load_and_signal(source, seed, step, *args):
        if step == 6:
            os.kill(os.getpid(), number)
        return load(source, seed, step, *args)

    with monkeypatch.context() as patch:
        patch.setattr(batches, "load", load_and_signal)
        stopped = fit(config)
    assert stopped.stopped_by is number and 0 < stopped.step < 12 and not stopped.test
    assert signal.getsignal(number) is usual

    resumed = fit(config)
    assert resumed.resumed_from == stopped.step and resumed.stopped_by is None
    assert (resumed.digest, Path(config.workdir, "metrics.jsonl").read_bytes()) == whole


def test_fit_resumes_after_a_crash(make_run, monkeypatch, whole):
    config, load = make_run(), batches.load

    def load_or_crash(source, seed, step, *args):
        if step == 10:
            raise RuntimeError("power cut")
        return load(source, seed, step, *args)

    with monkeypatch.context() as patch:
        patch.setattr(batches, "load", load_or_crash)
        with pytest.raises(RuntimeError, match="power cut"):
            fit(config)
    resumed = fit(config)
    assert resumed.resumed_from == 8
    assert (resumed.digest, Path(config.workdir, "metrics.jsonl").read_bytes()) == whole


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


def test_fit_continues_when_num_steps_rises(make_run, whole):
    fit(make_run(train={"num_steps": 8}))
    longer = fit(make_run())
    assert (longer.resumed_from, longer.digest) == (8, whole[0])


@pytest.mark.parametrize(
    "change",
    [
        {"vae": {"architecture": "chain", "latent_dim": 32, "groups": (2, 3), "objective": "dreg", "train_draws": 3}},
        {"vae": {"likelihood": "gaussian_optimal"}, "data": {"binarize": "none", "dequantize": True}},
    ],
    ids=["dreg", "optimal"],
)
def test_fit_continues_any_objective(make_run, tmp_path, change):
    whole = fit(make_run(str(tmp_path / "whole"), **change))
    fit(make_run(train={"num_steps": 8}, **change))
    assert fit(make_run(**change)).digest == whole.digest
    rows = [Path(tmp_path, name, "metrics.jsonl").read_bytes() for name in ("whole", "run")]
    assert rows[0] == rows[1]


def test_fit_numbers_ignore_logging_fields(make_run, whole):
    train = {"log_every": 5, "eval_every": 2, "checkpoint_every": 12, "num_sample_images": 3}
    config = make_run(train=train, data={"prefetch": 5, "decode_threads": 1})
    assert loop.fit(vae.TASK, config).digest == whole[0]


def test_fit_turns_epochs_into_steps(make_run, whole):
    num_train = len(sources.load(make_run().data, seed=0).train[0])
    config = make_run(train={"num_steps": 1000, "epochs": 12 * 16 / num_train})
    assert outcome(config) == whole
    assert config_file.load(config.workdir).train.num_steps == 12
    assert outcome(config) == whole  # both ways of giving the length go on
    assert outcome(make_run()) == whole
    with pytest.raises(ValueError, match="train.num_steps: 12 -> 6"):
        fit(make_run(train={"epochs": 6 * 16 / num_train}))


def test_fit_dispatches_give_equal_bits(make_run, tmp_path, whole):
    config = make_run(train={"steps_per_dispatch": 2, "log_every": 4})
    twos = outcome(config)
    alike = make_run(str(tmp_path / "fours"), train={"steps_per_dispatch": 4, "log_every": 4})
    fit(dataclasses.replace(alike, train=dataclasses.replace(alike.train, num_steps=8)))
    assert outcome(alike) == twos  # resumed, too
    assert fit(dataclasses.replace(config, workdir=alike.workdir)).digest == twos[0]  # and refused neither

    single = {row["step"]: row for row in map(json.loads, whole[1].splitlines()) if "elbo" in row}
    rows = [row for row in map(json.loads, twos[1].splitlines()) if "elbo" in row]
    assert [row["step"] for row in rows] == [4, 8, 12]
    for row in rows:
        assert row["elbo"] == pytest.approx(single[row["step"]]["elbo"], rel=1e-5)
        assert row["fingerprint"]["batch"] == single[row["step"]]["fingerprint"]["batch"]


def test_fit_ignores_the_number_of_decoding_threads(make_run, tmp_path):
    write_noise(tmp_path / "images", 40)

    def digest_with(threads):
        data = {"source": f"folder:{tmp_path / 'images'}", "cache_dir": str(tmp_path / f"cache-{threads}")}
        data |= {"decode_threads": threads, "prefetch": threads}
        config = make_run(workdir=str(tmp_path / f"run-{threads}"), data=data, train={"num_steps": 4})
        return fit(config).digest

    assert digest_with(1) == digest_with(8)


@pytest.mark.parametrize("caches", [("disk", "none"), ("none", "disk")])
def test_fit_resumes_with_another_cache(make_run, tmp_path, caches):
    write_noise(tmp_path / "images", 40, size=(12, 10))

    def digest_after(workdir, num_steps, cache):
        data = {"source": f"folder:{tmp_path / 'images'}", "cache_dir": str(tmp_path / "cache"), "cache": cache}
        data |= {"image_size": (8, 8), "load_scale": (1.25,)}  # crops, which are kept in another way
        train = {"num_steps": num_steps, "eval_every": 2, "checkpoint_every": 2}
        return fit(make_run(workdir=str(tmp_path / workdir), data=data, train=train)).digest

    digest_after("resumed", 2, caches[0])
    assert digest_after("resumed", 4, caches[1]) == digest_after("whole", 4, caches[0])


def test_fit_finishes_the_last_save_despite_signals(make_run, monkeypatch, whole):
    """So that one that reaches several processes, one after the other, costs none of them its checkpoint."""
    arrived, close = [], checkpoint.Saver.__exit__
    usual = signal.signal(signal.SIGTERM, lambda *_: arrived.append("as usual"))  # where nobody waits for the save

    def signal_and_close(*args):
        os.kill(os.getpid(), signal.SIGTERM)
        close(*args)
        arrived.append("closed")

    try:
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint.Saver, "__exit__", signal_and_close)
            assert fit(make_run()).digest == whole[0]
    finally:
        signal.signal(signal.SIGTERM, usual)
    assert arrived == ["closed"]


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


def test_fit_saves_no_state_that_differs_between_devices(make_run):
    def on_the_sixth(leaf):
        parts = [-shard.data if i == 5 else shard.data for i, shard in enumerate(leaf.addressable_shards)]
        return jax.make_array_from_single_device_arrays(leaf.shape, leaf.sharding, parts)

    def train_step(*args):
        state, *others = programs.train_step(*args)
        ema = jax.tree.map(on_the_sixth, state.ema) if int(state.step) == 6 else state.ema
        return state._replace(ema=ema), *others

    config = make_run()
    programs = programs_of(config)
    with pytest.raises(FloatingPointError, match=r"at step 8, .*: ema\..* on device 5 \(process 0\)"):
        loop.fit(vae.TASK, config, lambda *_: programs._replace(train_step=train_step))
    assert checkpoint.steps(Path(config.workdir, "checkpoints")) == [4]


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
