"""Study of the likelihoods in table 1 of Burda et al. 2016: networks, a tiny training, the page."""

import jax
import numpy as np
import pytest

import likelihood
from genjax import keys
from genjax.vae.model import from_config
from studies.likelihood import study
from studies.likelihood.study import ROWS, Options

NUMBERS = {1: 425_284, 2: 521_084}
"""Parameters of the paper's networks by the number of stochastic layers."""


def options(tmp_path, *rows, **changes):
    return Options(rows=rows, source=f"npz:{tmp_path / 'digits.npz'}", workdir=str(tmp_path / "runs"), **changes)


@pytest.mark.parametrize("name", ROWS)
def test_run_config_makes_the_networks_of_the_paper(tmp_path, name):
    run = study.run_config(options(tmp_path), name, 3)
    params = jax.eval_shape(from_config(run).init, keys.root_key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == NUMBERS[ROWS[name].layers]
    assert name == "-".join(({"elbo": "vae"}.get(run.vae.objective, "iwae"), str(ROWS[name].layers), str(ROWS[name].k)))
    assert (run.vae.train_draws, run.seed) == (ROWS[name].k, 3) and run.workdir.endswith(f"{name}/seed-3")


def test_options_refuse_other_rows_and_seeds(tmp_path):
    with pytest.raises(ValueError, match="rows are vae-1-1, .*iwae-2-50, got vae-3-1"):
        options(tmp_path, "vae-1-1", "vae-3-1")
    with pytest.raises(ValueError, match="needs different seeds"):
        options(tmp_path, seeds=(1, 1))


@pytest.mark.slow
def test_study_trains_scores_and_writes_the_page_once(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    digits = {f"x_{split}": rng.integers(0, 256, (200, 28, 28), np.uint8) for split in ("train", "test")}
    np.savez(tmp_path / "digits.npz", **digits)
    small = ["--source", f"npz:{tmp_path / 'digits.npz'}", "--workdir", str(tmp_path / "runs"), "--steps", "50"]
    small += ["--batch-size", "16", "--num", "4", "--samples", "6"]
    monkeypatch.setattr("sys.argv", ["study.py", "iwae-2-5", *small])
    results = study.main()
    page = (tmp_path / "runs" / "likelihood.md").read_text()
    (line,) = [line for line in page.splitlines() if line.startswith("| IWAE, 2 layers, k = 5 | 83.89 | ")]
    assert f" | {results['iwae-2-5.nll']:.2f} | " in line and "| 0 | 50 | 16 | 0.0015 | 4, 6 |" in line
    assert results["iwae-2-5.nll"] < results["iwae-2-5.negative_elbo"] and "2 cores" in page or "cores" in page

    def never(*arguments):
        raise AssertionError("done twice")

    monkeypatch.setattr(likelihood, "estimate", never)
    assert study.main() == results
    assert (tmp_path / "runs" / "likelihood.md").read_text() == page
