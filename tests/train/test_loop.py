import dataclasses
import functools
import json
import logging
import math
import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from genjax import keys, parallel, report, vae
from genjax.data import batches, sources
from genjax.data.splits import Splits
from genjax.evaluation.per_image import per_image_means
from genjax.keys import Stream
from genjax.loading import load_sampler
from genjax.train import checkpoint, config_file, environment, fingerprint, loop, trackers, writers
from genjax.train.rows import read_rows
from tiny import cheaply_compiled, write_noise

pytestmark = pytest.mark.slow


def fit(config):
    """Trains a tiny VAE."""
    return loop.fit(vae.TASK, config, lambda *_: programs_of(config))


def programs_of(config):
    """Compiled functions, which runs that are alike share, as the seeds of a study do."""
    several = config.train.steps_per_dispatch
    lengths = dict.fromkeys(("num_steps", "log_every", "eval_every", "checkpoint_every"), several)
    records = {"track": (), "profile": "", "show_parameters": False}
    alike = dataclasses.replace(
        config, workdir="", seed=0, train=dataclasses.replace(config.train, **lengths, **records)
    )
    return programs_for(alike)


@functools.cache
def programs_for(config):
    return loop.compile_programs(vae.TASK, config, parallel.make_mesh())


@pytest.fixture
def finished(trained, make_run):
    """A finished run that a test may change: a copy of `trained`."""
    shutil.copytree(trained.workdir, make_run().workdir)
    return make_run()


def listing(config):
    """All files of a run, with the times of their last change."""
    return {path: path.stat().st_mtime_ns for path in Path(config.workdir).rglob("*")}


def outcome(config):
    """What two equal runs have in common: the digest of the state, and the bytes of the metrics."""
    return fit(config).digest, Path(config.workdir, "metrics.jsonl").read_bytes()


@pytest.fixture
def whole(trained):
    """The outcome of an uninterrupted run."""
    return outcome(trained)


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
        found = jax.jit(fingerprint.tree_fingerprint)(state) | {"batch": fingerprint.batch_fingerprint(*batch)}
        assert rows[step] == {group: f"{int(value):08x}" for group, value in found.items()}
        assert set(rows[step]) == {*"step skipped net.params net.opt_state ema.encoder ema.decoder batch".split()}


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


def test_fit_refuses_float64(make_run):
    with jax.enable_x64(True), pytest.raises(ValueError, match="JAX_ENABLE_X64 is set, and trainings are in float32"):
        fit(make_run())
    assert not Path(make_run().workdir).exists()


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
    whole = loop.fit(vae.TASK, make_run(str(tmp_path / "whole"), **change))
    loop.fit(vae.TASK, make_run(train={"num_steps": 8}, **change))
    assert loop.fit(vae.TASK, make_run(**change)).digest == whole.digest
    rows = [Path(tmp_path, name, "metrics.jsonl").read_bytes() for name in ("whole", "run")]
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    "change",
    [
        {"train": {"log_every": 5}},
        {"train": {"eval_every": 2}},
        {"train": {"checkpoint_every": 12}},
        {"train": {"num_sample_images": 3}},
        {"data": {"prefetch": 5}},
        {"data": {"decode_threads": 1}},
    ],
    ids=str,
)
def test_fit_numbers_ignore_logging_fields(make_run, whole, change):
    assert loop.fit(vae.TASK, make_run(**change)).digest == whole[0]


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


def test_fit_refuses_dispatches_past_the_checkpoint(make_run):
    every = {"num_steps": 24, "log_every": 6, "eval_every": 12, "checkpoint_every": 12}
    config = make_run(train={"num_steps": 8, "steps_per_dispatch": 2, "log_every": 4})
    fit(config)
    before = listing(config)
    with pytest.raises(ValueError, match="is at step 8, which is not a multiple of .*dispatch 6: .* divides it"):
        fit(make_run(train=every | {"steps_per_dispatch": 6}))
    assert listing(config) == before


def test_fit_ignores_the_number_of_decoding_threads(make_run, tmp_path):
    write_noise(tmp_path / "images", 40)

    def digest_with(threads):
        data = {"source": f"folder:{tmp_path / 'images'}", "cache_dir": str(tmp_path / f"cache-{threads}")}
        data |= {"decode_threads": threads, "prefetch": threads}
        config = make_run(workdir=str(tmp_path / f"run-{threads}"), data=data, train={"num_steps": 4})
        return fit(config).digest

    assert digest_with(1) == digest_with(8)


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
        if data.batch_size == 16:
            fit(make_run(data={"batch_size": 8}, train={"num_steps": 4}))
        return load(data, seed)

    monkeypatch.setattr(sources, "load", load_after_another)
    with pytest.raises(ValueError, match="data.batch_size: 8 -> 16"):
        fit(make_run())
    assert config_file.load(make_run().workdir).data.batch_size == 8


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


def test_per_image_means_ignore_batch_size_and_devices(make_run):
    def figures(num, batch_size):
        config, mesh = make_run(data={"batch_size": batch_size}), parallel.make_mesh(jax.devices()[:num])
        state = parallel.replicate(mesh, lambda: vae.TASK.init(config, jax.random.key(0)))
        splits = sources.load(config.data, 0)
        assert len(splits.test[0]) % batch_size  # the last batch is not full
        return vae.TASK.evaluators[0](config, mesh)(state, splits, "test")

    reference = figures(1, 7)
    for num, batch_size in [(1, 100), (2, 16), (8, 64)]:
        for name, value in figures(num, batch_size).items():
            np.testing.assert_allclose(value, reference[name], rtol=1e-6)


def test_per_image_means_count_every_image_once(make_run):
    config, mesh = make_run(), parallel.make_mesh()
    evaluator = per_image_means(
        lambda config, state, batch, key: tuple(
            {name: images.sum((1, 2, 3))} for name, images in zip("ab", batch.images, strict=True)
        )
    )
    rng = np.random.default_rng(0)
    for sizes in ((37, 20), (16, 40)):
        source = tuple(rng.integers(0, 256, (num, 8, 8, 1), np.uint8) for num in sizes)
        figures = evaluator(config, mesh)(None, Splits((), (), source), "test")
        for name, images in zip("ab", source, strict=True):
            np.testing.assert_allclose(figures[name], images.sum((1, 2, 3)).mean(), rtol=1e-12)


def test_per_image_means_repeat_at_any_step(make_run):
    config, mesh = make_run(), parallel.make_mesh()
    state = parallel.replicate(mesh, lambda: vae.TASK.init(config, jax.random.key(0)))
    evaluate, splits = vae.TASK.evaluators[0](config, mesh), sources.load(config.data, 0)
    later = state._replace(step=parallel.replicate_scalar(mesh, 7))
    assert evaluate(state, splits, "test") == evaluate(later, splits, "test")


@pytest.mark.slow
def test_fit_scores_all_seeds_with_equal_noise(make_run):
    """Here the test metric is the noise; initial parameters and batches differ."""

    def noise(config, state, batch, key):
        return ({"negative_elbo": jax.random.uniform(key, batch.position.shape)},)

    evaluator = per_image_means(noise, num_draws=lambda config, split: 3)
    task = vae.TASK._replace(evaluators=(evaluator,), visualize=lambda *arguments: {})
    first, second = (loop.fit(task, make_run(f"{make_run().workdir}-{seed}", seed=seed)) for seed in (0, 1))
    assert first.test == second.test and first.digest != second.digest


def test_fit_evaluates_each_split_and_hides_no_nan(make_run, tmp_path):
    levels = {name: np.full((16, 8, 8), i, np.uint8) for i, name in enumerate(("x_train", "x_validation", "x_test"))}
    np.savez(tmp_path / "x.npz", **levels)

    def score(config, state, batch, key):
        level = batch.images[0].mean((1, 2, 3))
        return (
            {
                "level": level,
                "elbo": level,
                "negative_elbo": level,
                "hole": jax.numpy.where(level == 2, jax.numpy.nan, 1),
            },
        )

    config = make_run(data={"source": f"npz:{tmp_path}/x.npz", "binarize": "none"})
    result = loop.fit(vae.TASK._replace(evaluators=(per_image_means(score),)), config)
    validated = [row for row in read_rows(Path(config.workdir, "metrics.jsonl")) if "validation/level" in row]
    assert result.test["level"] == 2 and {row["validation/level"] for row in validated} == {1}
    assert np.isnan(result.test["hole"]) and {row["validation/hole"] for row in validated} == {1}


def test_fit_ends_after_nonfinite_steps(make_run):
    config = make_run(vae={"beta": 3e38}, train={"max_nonfinite_steps": 6})  # whose product with the rate is infinite
    with pytest.raises(FloatingPointError, match="6 steps in a row, up to step 6"):
        fit(config)
    saved = load_sampler(config.workdir)
    assert saved.step == 4
    fresh = parallel.replicate(
        parallel.make_mesh(), lambda: vae.TASK.init(config, keys.for_step(keys.root_key(0), Stream.INIT, 0))
    )
    assert fingerprint.tree_digest(saved.params) == fingerprint.tree_digest(fresh.ema)


def test_fit_gives_no_result_if_it_skipped_all(make_run):
    config = make_run(vae={"beta": 3e38})
    for _ in range(2):  # and again when it is resumed
        with pytest.raises(FloatingPointError, match="not finite in 12 of 12 steps.* Lower --optim.learning-rate"):
            fit(config)
        assert not Path(config.workdir, "result.json").exists()


def test_fit_gives_no_result_if_it_diverged(make_run):
    config = make_run(optim={"learning_rate": 1e30}, train={"max_nonfinite_steps": 1000})  # after a first finite step
    with pytest.raises(FloatingPointError, match="diverged.* not finite in 11 of 12 steps"):
        fit(config)
    assert not Path(config.workdir, "result.json").exists()


def test_fit_counts_skips_anew_after_resuming(make_run, monkeypatch):
    from genjax.vae import objectives

    monkeypatch.setattr(objectives, "beta", lambda vae, step: jax.numpy.where(step == 1, jax.numpy.inf, 1.0))
    loop.fit(vae.TASK, make_run(train={"num_steps": 4, "max_nonfinite_steps": 2}))
    resumed = loop.fit(vae.TASK, make_run(train={"max_nonfinite_steps": 1}))
    assert (resumed.step, int(resumed.state.skipped)) == (12, 1)


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


def test_fit_tolerates_skips_apart(make_run, monkeypatch):
    from genjax.vae import objectives

    monkeypatch.setattr(objectives, "beta", lambda vae, step: jax.numpy.where(step % 3 == 2, 1.0, jax.numpy.inf))
    assert int(loop.fit(vae.TASK, make_run(train={"max_nonfinite_steps": 3})).state.skipped) == 8


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
        ({"data": {"batch_size": 12}}, "batch_size 12 does not divide over 8 devices"),
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


def test_fit_learns_in_bfloat16_too(make_run, tmp_path):
    """After 300 steps the bounds on the test images are within 1% of one another: 0.3 nats of 27."""
    longer = {"num_steps": 300, "eval_every": 300, "checkpoint_every": 300}
    elbo = {}
    for precision in ("float32", "bfloat16"):
        config = make_run(workdir=str(tmp_path / precision), precision=precision, train=longer, data={"batch_size": 64})
        with cheaply_compiled():
            elbo[precision] = loop.fit(vae.TASK, config).test["elbo"]
    assert elbo["float32"] > -30
    np.testing.assert_allclose(elbo["bfloat16"], elbo["float32"], rtol=0.01)
    assert elbo["bfloat16"] != elbo["float32"]


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


def test_check_learned_takes_errors_that_are_not_known(tmp_path):
    """Those of a single test image; a metric that is not finite is none of them."""
    train = SimpleNamespace(best_by="none", num_steps=4)
    run, state = SimpleNamespace(config=SimpleNamespace(train=train), workdir=tmp_path), SimpleNamespace(skipped=0)
    loop._check_learned(vae.TASK, run, state, {"elbo": -3.0, "elbo_image_se": math.nan, "elbo_draw_se": math.nan})
    with pytest.raises(FloatingPointError, match="the training diverged"):
        loop._check_learned(vae.TASK, run, state, {"elbo": math.nan})
