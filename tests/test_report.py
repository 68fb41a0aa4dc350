import base64
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from genjax import files
from genjax.report import write_report


def test_write_report_makes_one_whole_page(trained, tmp_path):
    write_report(tmp_path / "report.html", "A <title>", {"Digits & more": trained.workdir})
    page = (tmp_path / "report.html").read_text()
    assert "<h1>A &lt;title&gt;</h1>" in page and "Digits &amp; more" in page
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    assert len(sources) == 3 and all(source.startswith("data:image/png;base64,") for source in sources)
    for fact in ("vae.latent_dim", "packages.jax", "train", "samples, step 12", "test images after step 12", "elbo"):
        assert fact in page


class Parsed(HTMLParser):
    """The tags, texts and attributes of a page, as a browser finds them."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts, self.attributes = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append(dict(attrs))

    def handle_data(self, data):
        self.texts.append(data)


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
    assert "script" not in page.tags
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
    assert rules["default-src"] == "'none'" and "script-src" not in rules
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
    assert not (tmp_path / "report.html").exists()


def test_write_report_draws_metrics_of_any_name(trained, tmp_path):
    shutil.copytree(trained.workdir, tmp_path / "run")
    rows = (tmp_path / "run" / "metrics.jsonl").read_text()
    (tmp_path / "run" / "metrics.jsonl").write_text(rows.replace('"loss"', '"lo\\u001b[31m$\\\\frac$ss"'))
    write_report(tmp_path / "report.html", "Report", {"Training": str(tmp_path / "run")})  # warnings are errors here
    assert (tmp_path / "report.html").exists()
    (tmp_path / "run" / "metrics.jsonl").write_text(rows + '{"step": 99, "loss": "much"}\n')
    with pytest.raises(ValueError, match="is damaged .TypeError"):
        write_report(tmp_path / "report.html", "Report", {"Training": str(tmp_path / "run")})


def test_write_report_shows_warnings_of_a_monitor(trained, tmp_path):
    def page(*warnings):
        shutil.copytree(trained.workdir, tmp_path / "run", dirs_exist_ok=True)
        rows = [{"step": 10 * i, "elbo": 1.0} | ({} if w is None else {"warnings": w}) for i, w in enumerate(warnings)]
        Path(tmp_path, "run", "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        write_report(tmp_path / "report.html", "t", {"r": tmp_path / "run"})
        return (tmp_path / "report.html").read_text()

    assert "Warnings" not in page(None, None)
    assert "<h3>Warnings</h3><p>No warning at step 20.</p>" in page({}, {}, {}) and "Earlier" not in page({})
    told = page(
        {}, {"ill": "It is < well: rest."}, {"ill": "It is < well: rest.", "odd": "It is odd."}, {"odd": "Odd."}
    )
    assert "<ul><li>Odd.</li></ul><p>Earlier: ill (steps 10 to 20).</p>" in told
    assert "<li>It is &lt; well: rest.</li>" in page({}, {"ill": "It is < well: rest."})
