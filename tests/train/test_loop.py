"""Training loop: equal bytes, signals and crashes, and what may change when a run goes on."""

import dataclasses
import json
import os
import signal
from pathlib import Path

import jax
import pytest

from fitted import fit, outcome, programs_of
from genjax import vae
from genjax.data import batches, sources
from genjax.train import checkpoint, config_file, loop
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
