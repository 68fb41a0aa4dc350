"""Choice of the best checkpoint by --train.best-by."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from genjax import cyclegan, parallel, vae
from genjax.data import sources
from genjax.evaluation import best, features
from genjax.task import Generated
from genjax.train import checkpoint, loop
from genjax.train.rows import read_rows
from tiny import tiny_cyclegan, tiny_run


def by(config, best_by):
    return dataclasses.replace(config, train=dataclasses.replace(config.train, best_by=best_by))


def test_resolve_finds_the_loss_of_the_family(monkeypatch):
    paired = by(tiny_cyclegan("unused", data={"paired": True}), "auto")
    assert best.resolve(vae.TASK, tiny_run("unused"), "auto") == "elbo"
    assert best.resolve(cyclegan.TASK, paired, "auto") == "l1"
    for there, channels, chosen in ((True, 3, "kid:alexnet"), (True, 4, "none"), (False, 3, "none")):
        monkeypatch.setattr(features, "installed", lambda there=there: there)
        unpaired = tiny_cyclegan("unused", data={"channels": (channels, channels)})
        assert best.resolve(cyclegan.TASK, unpaired, "auto") == chosen


@pytest.mark.parametrize("name", ["l1", "ELBO", "kid", "kid:", "coverage:pixels", ":pixels", ""])
def test_resolve_refuses_what_is_no_loss(name):
    with pytest.raises(ValueError, match=rf"--train.best-by {name} is no .*: give auto, none, elbo, or kid:NETWORK, "):
        best.resolve(vae.TASK, tiny_run("unused"), name)
    with pytest.raises(ValueError, match="there are no features 'none'"):
        best.resolve(vae.TASK, tiny_run("unused"), "kid:none")


def test_score_is_the_mean_of_both_directions():
    metrics = {"l1_a2b": 1.0, "l1_b2a": 3.0, "l1_copy": 9.0, "kid_a2b": 5.0, "kid_b2a": 6.0}
    assert best.score(cyclegan.TASK, "l1", metrics) == 2.0
    assert best.score(cyclegan.TASK, "kid:pixels", metrics) == 5.5
    assert best.score(cyclegan.TASK, "none", metrics) is None


def test_score_title_is_in_words():
    assert best.score_title(vae.TASK, "elbo") == "negative ELBO"  # lower is better, as for every score
    assert best.score_title(cyclegan.TASK, "l1") == "L1 to the truth"
    assert best.score_title(cyclegan.TASK, "kid:alexnet") == "KID (alexnet)"


@pytest.fixture(scope="module")
def by_kid(tmp_path_factory):
    """A finished VAE whose best checkpoint has the least KID of pixels."""
    run = tiny_run(str(tmp_path_factory.mktemp("kid") / "run"), train={"best_by": "kid:pixels"})
    loop.fit(vae.TASK, run)
    return run


def test_distance_selects_the_best_checkpoint(by_kid):
    rows = [row for row in read_rows(Path(by_kid.workdir, "metrics.jsonl")) if "validation/kid_samples" in row]
    found = {row["step"]: row["validation/kid_samples"] for row in rows}
    assert len(set(found.values())) == 3
    scores = checkpoint.scores(Path(by_kid.workdir, "checkpoints"))
    assert scores == {step: found[step] for step in scores} and min(found.values()) in scores.values()
    assert "kid_samples" in json.loads(Path(by_kid.workdir, "result.json").read_text())["test"]


def test_auto_resumes_with_the_loss_of_the_run(by_kid):
    longer = dataclasses.replace(by_kid.train, num_steps=16, best_by="auto")
    assert loop.fit(vae.TASK, dataclasses.replace(by_kid, train=longer)).test.keys() >= {"kid_samples"}
    with pytest.raises(ValueError, match="train.best_by: kid:pixels -> elbo"):
        loop.fit(vae.TASK, by(by_kid, "elbo"))


def test_distance_of_pictures_not_finite_is_nan():
    config = by(tiny_run("unused"), "frechet:pixels")
    lost = {"samples": Generated(np.full((3, 8, 8, 1), np.nan), 0)}
    task = vae.TASK._replace(generate=lambda config, mesh: lambda *arguments: lost)
    evaluate = best.compile_distance(task, config, parallel.make_mesh())
    assert np.isnan(evaluate(None, sources.load(config.data, 0), "validation")["frechet_samples"])


def test_distance_of_too_few_images_is_no_score(caplog):
    config = by(tiny_run("unused"), "kid:pixels")
    made = {"samples": Generated(np.zeros((3, 8, 8, 1)), 0)}
    task = vae.TASK._replace(generate=lambda config, mesh: lambda *arguments: made)
    one = sources.load(config.data, 0)._replace(validation=(np.zeros((1, 8, 8, 1), np.uint8),))
    found = best.compile_distance(task, config, parallel.make_mesh())(None, one, "validation")
    assert found == {} and best.score(task, "kid:pixels", found) is None
    assert "no kid_samples: it needs at least 2 validation images, and there is 1" in caplog.text


@pytest.mark.skipif(not features.installed(), reason="needs the extra features")
def test_resolve_refuses_images_that_a_network_cannot_take():
    config = tiny_cyclegan("unused", data={"channels": (4, 4)})
    with pytest.raises(ValueError, match="these features see images of 3 .* and these have 4"):
        best.resolve(cyclegan.TASK, config, "kid:alexnet")
