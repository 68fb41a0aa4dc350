"""report.py: which page it writes, and what it refuses."""

import shutil
import sys

import pytest

import report

pytestmark = pytest.mark.slow


@pytest.fixture
def copied(trained, tmp_path):
    shutil.copytree(trained.workdir, tmp_path / "run")
    return tmp_path / "run"


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["report.py", *map(str, arguments)])
    return report.main()


def test_main_writes_the_page_of_a_run(copied, monkeypatch):
    for _ in range(2):  # its own page is written anew
        assert run(monkeypatch, copied) == {"out": str(copied / "report.html"), "runs": 1}
    assert "<h1>VAE on " in (copied / "report.html").read_text()


def test_main_puts_runs_side_by_side(copied, trained, monkeypatch, tmp_path):
    out = tmp_path / "both.html"
    assert run(monkeypatch, copied, trained.workdir, "--out", out)["runs"] == 2
    assert out.read_text().count("<h2") == 2 and not (copied / "report.html").exists()
    with pytest.raises(ValueError, match="both.html exists already: give another --out"):
        run(monkeypatch, copied, trained.workdir, "--out", out)


def test_main_refuses_what_makes_no_page(copied, trained, monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="2 runs needs a file: give --out"):
        run(monkeypatch, copied, trained.workdir)
    with pytest.raises(ValueError, match="--out .*page.txt must end in .html"):
        run(monkeypatch, copied, "--out", tmp_path / "page.txt")
    with pytest.raises(FileNotFoundError, match="holds no run"):
        run(monkeypatch, tmp_path / "none")
