"""Losses that are not finite: what fit skips, when it ends, and what it gives as a result."""

import math
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from fitted import fit
from genjax import keys, parallel, vae
from genjax.evaluation.per_image import per_image_means
from genjax.keys import Stream
from genjax.loading import load_sampler
from genjax.train import fingerprint, loop
from genjax.train.rows import read_rows
from genjax.vae import objectives

pytestmark = pytest.mark.slow


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
    monkeypatch.setattr(objectives, "beta", lambda vae, step: jax.numpy.where(step == 1, jax.numpy.inf, 1.0))
    loop.fit(vae.TASK, make_run(train={"num_steps": 4, "max_nonfinite_steps": 2}))
    resumed = loop.fit(vae.TASK, make_run(train={"max_nonfinite_steps": 1}))
    assert (resumed.step, int(resumed.state.skipped)) == (12, 1)


def test_fit_tolerates_skips_apart(make_run, monkeypatch):
    monkeypatch.setattr(objectives, "beta", lambda vae, step: jax.numpy.where(step % 3 == 2, 1.0, jax.numpy.inf))
    assert int(loop.fit(vae.TASK, make_run(train={"max_nonfinite_steps": 3})).state.skipped) == 8


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


def test_check_learned_takes_errors_that_are_not_known(tmp_path):
    """Those of a single test image; a metric that is not finite is none of them."""
    train = SimpleNamespace(best_by="none", num_steps=4)
    run, state = SimpleNamespace(config=SimpleNamespace(train=train), workdir=tmp_path), SimpleNamespace(skipped=0)
    loop._check_learned(vae.TASK, run, state, {"elbo": -3.0, "elbo_image_se": math.nan, "elbo_draw_se": math.nan})
    with pytest.raises(FloatingPointError, match="the training diverged"):
        loop._check_learned(vae.TASK, run, state, {"elbo": math.nan})
