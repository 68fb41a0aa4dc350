"""Warnings of posterior collapse, from rows and in trainings."""

import jax
import numpy as np
import pytest

from genjax import glossary, keys, parallel, vae
from genjax.data import sources
from genjax.train import loop
from genjax.train.rows import read_rows
from genjax.vae import monitor, usage
from genjax.vae.model import from_config
from genjax.vae.sampler import Sampler
from tiny import tiny_run

WELL = {"step": 100, "validation/rate": 9.0, "validation/active_units": 4.0, "validation/kl_group_1": 5.0,
        "validation/kl_group_2": 3.9, "validation/kl_group_3": 0.11}  # fmt: skip


def find(**changes):
    """Warnings of a tiny run after an evaluation."""
    return monitor.find_warnings(
        tiny_run("unused"), [], WELL | {f"validation/{name}": changes[name] for name in changes}
    )


def test_find_warnings_detects_collapse():
    assert find() == {}
    assert list(find(active_units=0.0)) == list(find(rate=0.09)) == ["collapsed"]
    assert find(rate=None) == find(active_units=None) == {}  # not finite, or of an older run
    at = lambda step: WELL | {"step": step, "validation/active_units": 0.0}  # noqa: E731
    short, long = tiny_run("unused"), tiny_run("unused", train={"num_steps": 2000})
    assert monitor.find_warnings(short, [], {}) == monitor.find_warnings(short, [], at(99)) == {}
    assert monitor.find_warnings(long, [], at(199)) == {} != monitor.find_warnings(long, [], at(200))


def test_find_warnings_names_idle_groups():
    found = find(kl_group_1=0.05)
    assert list(found) == ["idle_groups"] and "group 1 carries less than 0.1 nats of 9.00" in str(found)
    assert "each of the groups 1, 3 carries" in find(kl_group_1=-0.01, kl_group_3=0.0)["idle_groups"]
    assert list(find(kl_group_1=0.0, kl_group_2=0.05, kl_group_3=0.0)) == ["collapsed"]  # all of them


@pytest.mark.parametrize(
    ("changes", "remedies"),
    [
        ({"beta": 20.0}, "a --vae.beta below 20, --vae.beta-warmup 0.3 or --vae.free-bits 2"),
        ({"beta_warmup": 0.1, "free_bits": 4.0}, "Try --vae.free-bits 8, in"),
        ({"objective": "iwae"}, "Try --vae.objective elbo with --vae.free-bits 2, in"),
        ({"likelihood": "gaussian"}, "a smaller --vae.sigma, --vae.beta-warmup 0.3 or --vae.free-bits 2"),
    ],
)
def test_find_warnings_names_what_is_not_in_use_yet(changes, remedies):
    config = tiny_run("unused", vae=changes, data={"binarize": "none"})
    assert remedies in monitor.find_warnings(config, [], WELL | {"validation/active_units": 0.0})["collapsed"]


def train(workdir, **changes):
    """Names of warnings at each evaluation, and the rows, of 200 steps."""
    run = tiny_run(str(workdir), train={"num_steps": 200, "eval_every": 100, "checkpoint_every": 100}, vae=changes)
    loop.fit(vae.TASK, run)
    evaluated = [row for row in read_rows(workdir / "metrics.jsonl") if "validation/elbo" in row]
    return [list(row["warnings"]) for row in evaluated], evaluated


@pytest.mark.slow
def test_training_warns_of_a_forced_collapse(tmp_path, caplog):
    warnings, _ = train(tmp_path / "run", beta=20.0)
    assert warnings[-1] == ["collapsed"]
    foretold, found = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert "expect posterior collapse: 0 of the data's top 4" in foretold and "posterior has collapsed" in found


@pytest.mark.slow
def test_training_does_not_warn_without_a_collapse(tmp_path, caplog):
    warnings, _ = train(tmp_path / "run")
    assert warnings == [[], []] and not [record for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.slow
def test_kl_of_groups_adds_up_to_the_rate(tmp_path):
    run = tiny_run(str(tmp_path / "run"), vae={"architecture": "ladder", "latent_dim": 32, "groups": (2, 4)})
    test = loop.fit(vae.TASK, run).test
    assert test["kl_group_1"] + test["kl_group_2"] == pytest.approx(test["rate"], rel=1e-5)
    assert glossary.title("kl_group_2") == "KL of group 2"


@pytest.mark.slow
def test_active_units_are_those_of_the_posterior_means(make_run):
    config, mesh = make_run(data={"binarize": "none"}), parallel.make_mesh()
    state, splits = vae.TASK.init(config, keys.root_key(0)), sources.load(config.data, 0)
    evaluate = usage.active_units(config, mesh)
    counts = []
    for scale in (0.0, 0.05, 1.0):  # of the encoder, and so of the means' spread
        params = state.ema | {"encoder": jax.tree.map(lambda leaf: scale * leaf, state.ema["encoder"])}  # noqa: B023
        sampler = Sampler(config, from_config(config), params, 0, mesh)
        (count,) = evaluate(state._replace(ema=params), splits, "validation").values()
        assert count == np.sum(sampler.encode(splits.validation[0]).mean.var(axis=0) > 0.01)
        counts.append(count)
    assert counts[0] == 0 < counts[2] == 4
