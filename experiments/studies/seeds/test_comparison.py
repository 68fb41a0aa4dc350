"""compare_studies.py on written studies, whose runs are known numbers."""

import csv
import sys

import numpy as np
import pytest
from scipy import stats

import compare_studies
from genjax import files
from genjax.families import FAMILIES
from studies import latex
from studies.seeds import comparison, tables

OLD, NEW = {0: -22.8, 1: -22.4, 2: -23.1, 3: -22.62}, {0: -22.6, 1: -22.3, 2: -22.8, 3: -22.3}


def test_every_family_has_metrics_to_show():
    assert tables.SHOWN.keys() == FAMILIES.keys()


def write(workdir, elbo, images="digits", **changes):
    runs = {f"seed-{seed}": {"test": {"elbo": value, "rate": 4.0 + seed}} for seed, value in elbo.items()}
    record = {"study": "vae:digits", "design": "together", "vary": ["init", "data", "noise"], "runs": runs}
    files.write_json(workdir / "study.json", record | changes)
    files.write_json(workdir / next(iter(runs)) / "data.json", {"test": [images]})
    return str(workdir)


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Compares OLD and NEW, and returns the printed table and the results."""
    old, new = write(tmp_path / "old", OLD), write(tmp_path / "new_2", NEW)

    def compare(*flags, studies=(old, new)):
        monkeypatch.setattr(sys, "argv", ["compare_studies.py", *studies, *flags])
        results = compare_studies.main()
        return capsys.readouterr().out, results

    return compare


def test_main_prints_overlapping_intervals_and_small_p(call):
    printed, results = call("--metric", "elbo")
    _, _, old, new = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines()[:4]]
    assert old == ["elbo", "old", "-22.73 ± 0.47 (4)", *[""] * 6]
    assert new[:5] == ["elbo", "new_2", "-22.50 ± 0.39 (4)", "0.23 ± 0.16 (4)", "0.020"]
    assert results["high.elbo.old"] > results["low.elbo.new_2"]  # they overlap
    expected = stats.ttest_rel(list(NEW.values()), list(OLD.values()))
    np.testing.assert_allclose(results["paired_p.elbo.new_2"], expected.pvalue, rtol=1e-9)
    assert results["welch_p.elbo.new_2"] > 0.2


@pytest.mark.parametrize(
    ("form", "cell"), [("markdown", r"a\|b ~^_"), ("latex", r"a|b \textasciitilde{}\textasciicircum{}\_")]
)
def test_table_takes_any_name(form, cell):
    found = {
        ("elbo", "a|b ~^_"): comparison.numbers(
            comparison.Study("vae", [], {0: {"elbo": 1.0}, 1: {"elbo": 2.0}}, None), "elbo"
        )
    }
    assert cell in comparison.table(found, form)


def test_main_pairs_by_seed_not_by_order(call, tmp_path):
    old = write(tmp_path / "a", OLD)
    new = write(tmp_path / "b", {7: 0.0} | dict(reversed(NEW.items())))
    _, results = call(studies=(old, new))
    _, expected = call()
    assert results["paired_seeds.elbo.b"] == 4 and results["seeds.elbo.b"] == 5
    np.testing.assert_allclose(results["paired_p.elbo.b"], expected["paired_p.elbo.new_2"], rtol=1e-12)


def test_main_compares_other_seeds_without_pairing(call, tmp_path):
    new = write(tmp_path / "b", {seed + 9: value for seed, value in NEW.items()})
    printed, results = call(studies=(str(tmp_path / "old"), new))
    assert "paired_p.elbo.b" not in results and results["welch_p.elbo.b"] > 0.1
    assert "| -22.50 ± 0.39 (4) |  |  | 0.23 ± 0.47 |" in printed


def test_main_writes_csv_in_full(call, tmp_path):
    _, results = call("--format", "csv", "--out", str(tmp_path / "table.csv"))
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert [(row["metric"], row["study"]) for row in rows] == [
        (m, s) for m in ("elbo", "rate") for s in ("old", "new_2")
    ]
    for row in rows:
        for name, value in list(row.items())[2:]:
            expected = results.get(f"{name}.{row['metric']}.{row['study']}")
            assert value == "" if expected is None else float(value) == expected
    with pytest.raises(ValueError, match="table.csv exists already: give another --out"):
        call("--out", str(tmp_path / "table.csv"))


def test_main_writes_latex_tables(call):
    lines = call("--format", "latex")[0].splitlines()
    assert lines[:2] == [r"\begin{tabular}{lllllllll}", r"\toprule"] and lines[-1] == r"\end{tabular}"
    rows = [line for line in lines if line.endswith(r"\\")]
    assert len(rows) == 5 and {line.count(" & ") for line in rows} == {8}
    assert rows[2].startswith(r"elbo & new\_2 & $-22.50 \pm 0.39$ ($4$) & $0.23 \pm 0.16$ ($4$) & $0.020$ & ")


def test_table_of_latex_escapes_names_and_powers():
    table = latex.table(["a_b", "c%"], [["beta-4", "1.2e-05"]])
    assert r"a\_b & c\%" in table and r"beta-4 & $1.2 \times 10^{-5}$" in table


@pytest.mark.parametrize(
    ("mean", "high", "shown"),
    [(-22.725, -22.2525, "-22.73 ± 0.47"), (1234.5, 1364.5, "1234 ± 130"), (0.5, 0.5, "0.50000 ± 0.00000")],
)
def test_with_interval_shows_two_digits(mean, high, shown):
    assert comparison.with_interval(mean, high) == shown


def test_main_takes_metrics_that_are_not_finite(call, tmp_path):
    printed, results = call(studies=(str(tmp_path / "old"), write(tmp_path / "b", NEW | {1: None})))
    assert "| nan ± nan (4) | nan ± nan (4) | nan |" in printed and results["paired_p.elbo.b"] is None


def test_read_warns_of_other_test_images(call, tmp_path, caplog):
    call(studies=(str(tmp_path / "old"), write(tmp_path / "b", NEW, images="faces")))
    assert "b was tested on other images than old" in caplog.text


def test_main_refuses_what_cannot_be_compared(call, tmp_path):
    old, empty = str(tmp_path / "old"), str(tmp_path)
    crossed = write(tmp_path / "crossed", NEW, design="crossed")
    gan = write(tmp_path / "gan", NEW, study="cyclegan:icons")
    data = write(tmp_path / "data", NEW, vary=["data"])
    other = write(tmp_path / "other", NEW, study="mine")
    for studies, message in (
        ((old,), "give two or more different studies"),
        ((old, old), "give two or more different studies"),
        ((old, empty), "holds no study.json: give a --workdir of seed_study.py that has finished"),
        ((old, other), "is not a study's"),
        ((old, crossed), "is a crossed study, whose runs share seeds"),
        ((old, gan), "old is of the family vae, gan of cyclegan"),
        ((old, data), "old and data have --vary init,data,noise and data: compare studies with the same --vary"),
    ):
        with pytest.raises(ValueError, match=message):
            call(studies=studies)
    with pytest.raises(ValueError, match="--metric l1: the test metrics of all these runs are elbo, rate"):
        call("--metric", "l1")
