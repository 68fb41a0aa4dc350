"""The command that estimates likelihoods: what it writes, keeps and refuses."""

import dataclasses
import json
import shutil
import sys

import numpy as np
import pytest

import likelihood
from genjax import files
from genjax.data import sources
from genjax.loading import load_sampler
from tiny import tiny_run

pytestmark = pytest.mark.slow

QUICK = ("--num", "10", "--samples", "20", "--annealing.num-chains", "2", "--annealing.num-steps", "2")


@pytest.fixture
def command(trained, tmp_path, monkeypatch):
    """A function that runs the command in a copy of a finished run, and returns its results and those in the file."""
    workdir = tmp_path / "copy"
    shutil.copytree(trained.workdir, workdir)

    def run(*flags):
        monkeypatch.setattr(sys, "argv", ["likelihood.py", "--workdir", str(workdir), *QUICK, *flags])
        printed = likelihood.main()
        written = json.loads((workdir / "likelihood-12.json").read_text())
        assert printed["step"] == written["step"] == 12 and printed["out"] == str(workdir / "likelihood-12.json")
        return printed, written["results"]

    return run


def test_likelihood_keeps_results_of_other_protocols(command):
    _, first = command()
    _, again = command()
    assert again == first and [one["method"] for one in first] == ["iwae"]
    printed, results = command("--method", "all", "--seed", "1")
    assert results[0] == first[0]
    assert [one["method"] for one in results] == ["iwae", "iwae", "ais", "bdmc"]
    assert [one["protocol"]["seed"] for one in results] == [0, 1, 1, 1]
    assert printed["iwae.nll"] == results[1]["nll"] != first[0]["nll"]
    assert printed["bdmc.sandwich_gap"] == pytest.approx(printed["bdmc.nll"] - printed["bdmc.nll_below"])
    assert len(results[1]["kl_per_dimension"][0]) == 4 and results[1]["kl_per_group"] == [printed["iwae.rate"]]


def test_likelihood_tells_its_results_in_words(command, capsys):
    printed, _ = command()
    assert f"| iwae | negative log-likelihood | {printed['iwae.nll']:.4f} | nats per image |" in capsys.readouterr().err
    page = files.resolve(printed["out"]).with_name("report.html").read_text()
    assert "Likelihood, step 12" in page and "iwae: 10 images, 20 samples" in page and "kl_per_dimension" not in page


def test_likelihood_of_some_images_is_theirs_among_all(command, trained):
    sampler = load_sampler(trained.workdir)
    (test,) = sources.load(trained.data, 0).test
    rows = np.linspace(0, len(test) - 1, 10).astype(int)
    found = sampler.estimate_likelihood(test, 20)
    printed, _ = command()
    assert printed["iwae.nll"] == pytest.approx(-found.log_prob[rows].mean(), rel=1e-6)
    assert printed["iwae.nll"] < printed["iwae.negative_elbo"]


def test_likelihood_refuses_before_work(command, tmp_path, monkeypatch, capsys):
    for flags, said in (
        (("--num", "1"), "--num must be at least 2"),
        (("--samples", "0"), "--samples must be at least 1, got 0"),
        (("--annealing.num-steps", "0"), "--annealing.num-steps must be at least 1, got 0"),
        (("--seed", "-1"), "--seed must lie in"),
    ):
        with pytest.raises(SystemExit, match="2"):
            command(*flags)
        assert said in capsys.readouterr().err
    (tmp_path / "copy" / "likelihood-12.json").write_text("[]")
    with pytest.raises(ValueError, match="likelihood-12.json is damaged, it holds no results: move it away"):
        command()
    sampler = load_sampler(tmp_path / "copy")
    grey = dataclasses.replace(sampler, config=tiny_run("unused", data={"binarize": "none"}))
    monkeypatch.setattr(likelihood, "load_sampler", lambda *_: grey)
    with pytest.raises(ValueError, match="scores grey levels .* train with --data.binarize stochastic or fixed"):
        command()
