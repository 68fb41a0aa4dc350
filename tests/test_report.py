"""Pages of runs: whole, safe, of any run, and with an error that names a damaged record."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from genjax import files
from genjax.report import curves, sections, settings, write_report, write_run
from parsed_page import Parsed


def test_write_report_makes_one_whole_page(trained, tmp_path):
    write_report(tmp_path / "report.html", "A <title>", {"Digits & more": trained.workdir})
    page = (tmp_path / "report.html").read_text()
    assert "<h1>A &lt;title&gt;</h1>" in page and "Digits &amp; more" in page
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    assert len(sources) == 6 and all(source.startswith("data:image/png;base64,") for source in sources)
    facts = ("--vae.latent-dim", "packages.jax", "new images from the prior, step 12", "test images after step 12",
             "negative ELBO", "seed 0", "Best of 3 checkpoints on validation images, by negative ELBO: step ",
             "Peak learning rate")  # fmt: skip
    for fact in facts:
        assert fact in page


def test_devices_are_in_words():
    assert sections._devices({"devices": 1, "device": "cpu", "threads": 2}) == "a CPU with 2 threads"
    assert sections._devices({"devices": 8, "device": "NVIDIA H100", "threads": 2}) == "8 x NVIDIA H100"


def test_write_report_escapes_all_it_shows(trained, tmp_path):
    run, markup = Path(tmp_path, "run"), '<script>alert("&lt;1")<img src=x>'
    shutil.copytree(trained.workdir, run)
    for name in ("config.json", "data.json", "environment.json"):
        files.write_json(run / name, files.read_json(run / name) | {f"{markup}{name}": f"{markup}in {name}"})
    result = {"step": f"{markup}step", "test": {f"{markup}metric": f"{markup}value"}}
    files.write_json(run / "result.json", result)
    next(run.glob("samples/samples-*.png")).rename(run / "samples" / f"{markup}_{markup}kind-7.png")
    for warnings in ({f"{markup}old": ""}, {"now": f"{markup}sentence"}):
        with open(run / "metrics.jsonl", "a") as file:
            file.write(json.dumps({"step": 12, "warnings": warnings}) + "\n")
    write_report(tmp_path / "report.html", f"{markup}title", {f"{markup}heading": run})
    page = Parsed((tmp_path / "report.html").read_text())
    assert page.tags.count("script") == 1 and not any("&lt;1" in text for text in page.texts if "querySelector" in text)
    assert all(tag.get("src", "data:").startswith("data:") for tag in page.attributes)
    shown = " ".join(page.texts)
    wheres = "title heading step metric value kind old sentence config.json data.json environment.json"
    for where in wheres.split():
        assert f"{markup}{where}" in shown, where
    for name in ("config.json", "data.json", "environment.json"):
        assert f"{markup}in {name}" in shown


def test_write_report_forbids_all_but_its_own(trained, tmp_path):
    write_report(tmp_path / "report.html", "t", {"r": trained.workdir})
    text = (tmp_path / "report.html").read_text()
    page = Parsed(text)
    (policy,) = (tag["content"] for tag in page.attributes if tag.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    style = re.search("<style>(.*?)</style>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    script = re.search("<script>(.*?)</script>", text, re.DOTALL)[1]
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert rules["default-src"] == "'none'" and rules["script-src"] == f"'sha256-{allowed}'"
    assert rules["style-src"] == f"'sha256-{digest}'" and rules["img-src"] == "data:"
    assert page.tags.index("meta") < page.tags.index("style") and text.startswith("<!doctype html>")


def test_write_report_takes_unfinished_runs(trained, tmp_path):
    shutil.copytree(trained.workdir, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    write_report(tmp_path / "half.html", "t", {"r": tmp_path / "run"})
    assert "validation images after step 12" in (tmp_path / "half.html").read_text()
    rows = '{"step": 4, "validation/elbo": null, "warnings": {"ill": "It is ill."}}\n'
    Path(tmp_path, "run", "metrics.jsonl").write_text(rows)
    write_report(tmp_path / "bad.html", "t", {"r": tmp_path / "run"})
    page = (tmp_path / "bad.html").read_text()
    assert "not finite" in page and "<li>It is ill.</li>" in page
    for name in ("metrics.jsonl", "timing.jsonl", "samples"):
        shutil.rmtree(tmp_path / "run" / name, ignore_errors=True)
        Path(tmp_path, "run", name).unlink(missing_ok=True)
    write_report(tmp_path / "early.html", "t", {"r": tmp_path / "run"})
    assert "Not evaluated yet" in (tmp_path / "early.html").read_text()


def test_write_report_passes_over_other_pictures(trained, tmp_path):
    shutil.copytree(trained.workdir, tmp_path / "run")
    pages = []
    for _ in range(2):
        write_report(tmp_path / "report.html", "t", {"r": tmp_path / "run"})
        pages.append((tmp_path / "report.html").read_text())
        shutil.copy(next(Path(tmp_path, "run", "samples").glob("*-*.png")), tmp_path / "run" / "samples" / "mine.png")
    assert pages[0] == pages[1]


def test_write_report_names_a_damaged_file(trained, tmp_path):
    shutil.copytree(trained.workdir, tmp_path / "run")
    (tmp_path / "run" / "timing.jsonl").write_text("no JSON\n")
    with pytest.raises(ValueError, match="timing.jsonl is damaged"):
        write_report(tmp_path / "report.html", "t", {"r": tmp_path / "run"})


@pytest.mark.parametrize("record", ["[]", '{"step": 3}', '{"step": 3, "test": [1]}'])
def test_write_report_names_a_run_with_other_records(trained, tmp_path, record):
    shutil.copytree(trained.workdir, tmp_path / "run")
    (tmp_path / "run" / "result.json").write_text(record)
    with pytest.raises(ValueError, match=f"a record of the run in {tmp_path}/run is damaged .*backup"):
        write_report(tmp_path / "report.html", "Report", {"Training": str(tmp_path / "run")})
    with pytest.raises(ValueError, match=f"a record of the run in {tmp_path}/run is damaged .*backup"):
        write_report(tmp_path / "report.html", "Report", {"whole": trained.workdir, "damaged": tmp_path / "run"})
    assert not (tmp_path / "report.html").exists()


def test_write_report_shows_commands_in_any_encoding(trained, tmp_path):
    shutil.copytree(trained.workdir, tmp_path / "run")
    (tmp_path / "run" / "commands.txt").write_bytes(b"python train_vae.py --workdir Gr\xfc\xdfe\n")
    write_report(tmp_path / "report.html", "t", {"r": tmp_path / "run"})
    assert r"--workdir Gr\xfc\xdfe" in (tmp_path / "report.html").read_text()


def test_write_report_draws_metrics_of_any_name(trained, tmp_path):
    shutil.copytree(trained.workdir, tmp_path / "run")
    rows = (tmp_path / "run" / "metrics.jsonl").read_text()
    (tmp_path / "run" / "metrics.jsonl").write_text(rows.replace('"loss"', '"lo\\u001b[31m$\\\\frac$ss"'))
    write_report(tmp_path / "report.html", "Report", {"Training": str(tmp_path / "run")})  # warnings are errors here
    assert (tmp_path / "report.html").exists()
    (tmp_path / "run" / "metrics.jsonl").write_text(rows + '{"step": 99, "loss": "much"}\n')
    with pytest.raises(ValueError, match="is damaged .TypeError"):
        write_report(tmp_path / "report.html", "Report", {"Training": str(tmp_path / "run")})


def test_curves_smooth_and_thin_without_bias():
    points = [(step, 2.0) for step in range(1, 1001)]
    assert len(curves._thinned(points)) == 250 and {value for _, value in curves._thinned(points)} == {2.0}
    assert all(abs(value - 2) < 1e-12 for _, value in curves._smoothed(points))
    assert curves._thinned([(1, 0.0), (2, 1.0)]) == [(1, 0.0), (2, 1.0)]


def test_settings_explain_every_flag(trained):
    rows = settings.explained(files.read_json(Path(trained.workdir, "config.json")))
    without = [name for name, _, meaning in rows if not meaning]
    assert without == ["genjax", "family"] and len(rows) > 40


@pytest.mark.process
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs the browser chromium")
def test_page_runs_in_a_browser_without_errors(trained, tmp_path):
    """Its script adds a slider to each kind of picture; the console, where a broken policy would show, is empty."""
    write_report(tmp_path / "report.html", "t", {"r": trained.workdir})
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'browser'}"]
    shown = ["--enable-logging=stderr", "--window-size=400,800", "--dump-dom", f"file://{tmp_path / 'report.html'}"]
    done = subprocess.run(["chromium", *options, *shown], capture_output=True, text=True, timeout=60)
    assert done.stdout.count('<input type="range"') == 2 and "CONSOLE" not in done.stderr


def test_write_run_heads_a_page_once(trained, tmp_path):
    shutil.copytree(trained.workdir, tmp_path / "run")
    page = write_run(tmp_path / "run").read_text()
    assert "<h1>VAE on " in page and "<h2" not in page and (tmp_path / "run" / "report.html").read_text() == page
    Path(tmp_path, "run", "config.json").write_text('{"family": "vae"}')
    with pytest.raises(ValueError, match="a record of the run in .* is damaged .KeyError"):
        write_run(tmp_path / "run")
