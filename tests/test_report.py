import base64
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from genjax import files
from genjax.report import curves, sections, settings, write_report, write_run


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


def test_write_report_names_the_best_checkpoint_that_there_is(trained, tmp_path):
    """An evaluation between checkpoints may have a better score, and no `--which best` finds it."""
    run = tmp_path / "run"
    shutil.copytree(trained.workdir, run)
    config = files.read_json(run / "config.json")
    config["train"] |= {"eval_every": 1, "checkpoint_every": 4}
    files.write_json(run / "config.json", config)
    scores = {1: 9, 2: 1, 4: 5, 6: 2, 8: 7, 12: 8}  # of the checkpoints 4, 8 and 12, the last and the best are kept
    rows = [json.dumps({"step": step, "validation/negative_elbo": score}) + "\n" for step, score in scores.items()]
    (run / "metrics.jsonl").write_text("".join(rows))

    def said():
        write_report(tmp_path / "report.html", "t", {"r": run})
        return re.search("Best of [^<]*", (tmp_path / "report.html").read_text())[0]

    shutil.rmtree(run / "checkpoints")
    for step in (4, 12):
        (run / "checkpoints" / str(step)).mkdir(parents=True)
    best = "Best of 3 checkpoints on validation images, by negative ELBO: step"
    assert said() == f"{best} 4 with 5, and the last, step 12, has 8."
    (run / "checkpoints" / "4").rename(run / "damaged-4")  # as a resumed training would
    assert said() == f"{best} 12 with 8, which is the last."


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


def test_write_report_gives_intervals_of_headline_figures(trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained.workdir, run)
    test = {"elbo": -20.0, "rate": 4.0, "rate_image_se": 0.5, "distortion": 16.0, "distortion_image_se": None}
    files.write_json(run / "result.json", {"step": 12, "test": test})
    write_report(tmp_path / "report.html", "t", {"r": run, "again": run})
    shown = " ".join(Parsed((tmp_path / "report.html").read_text()).texts)
    assert "4 ± 0.98 95% interval over images" in shown and "16 ±" not in shown
    assert shown.count("4 ± 0.98") == 6 and "error from the images" not in shown  # headline, table, and side by side


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


@pytest.mark.slow
def test_write_report_names_directions_in_words(trained_identity, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained_identity.workdir, run)
    row = {"step": 1, "warnings": {"collapsed_a2b": "It is.", "outplayed_by_d_b": "It is."}}
    with open(run / "metrics.jsonl", "a") as file:
        file.writelines(json.dumps(row | more) + "\n" for more in ({}, {"step": 2, "warnings": {}}))
    write_report(tmp_path / "report.html", "t", {"r": run})
    page = Parsed((tmp_path / "report.html").read_text())
    alts = [tag["alt"] for tag in page.attributes if "alt" in tag]
    assert "A to B: input, translation, cycle, step 4" in alts and "B to A: input, translation, cycle, step 4" in alts
    records = page.texts.index("To repeat it")  # which have flags and names of files
    shown = [*alts, *(tag["aria-label"] for tag in page.attributes if "aria-label" in tag), *page.texts[:records]]
    shown = [text for text in shown if not text.lstrip().startswith(":root")]  # the style
    assert not [text for text in shown if re.search("[a-z]_[a-z]|[ab]2[ab]", text)]
    assert "Earlier: collapsed A to B (steps 1 to 1), outplayed by discriminator B (steps 1 to 1)." in shown


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
    assert '<ul class="warning"><li>Odd.</li></ul><p>Earlier: ill (steps 10 to 20).</p>' in told
    assert "<li>It is &lt; well: rest.</li>" in page({}, {"ill": "It is < well: rest."})


def test_write_report_steps_through_training(trained, tmp_path):
    """Of many grids it holds a dozen, first and last included, and shows the last."""
    shutil.copytree(trained.workdir, tmp_path / "run")
    grid = next(Path(tmp_path, "run", "samples").glob("samples-*.png")).read_bytes()
    for step in range(16, 200, 4):
        Path(tmp_path, "run", "samples", f"samples-{step:08d}.png").write_bytes(grid)
    write_report(tmp_path / "report.html", "t", {"r": tmp_path / "run"})
    page = Parsed((tmp_path / "report.html").read_text())
    shown = [tag for tag in page.attributes if "from the prior, step" in tag.get("alt", "")]
    assert len(shown) == 12 and ["hidden" in tag for tag in shown] == [True] * 11 + [False]
    assert shown[0]["alt"].endswith("prior, step 4") and shown[-1]["alt"].endswith("prior, step 196")


def test_write_report_shows_sets_and_their_intervals(trained, tmp_path):
    shutil.copytree(trained.workdir, tmp_path / "run")
    metrics = {"kid": {"value": 0.01234, "low": 0.01, "high": 0.02}, "mind": {"value": 3.5, "low": None, "high": None}}
    sets = {"samples": {"num_generated": 1234, "num_reference": 500, "metrics": metrics}}
    record = {"step": 12, "split": "test", "features": {"name": "pixels"}, "sets": sets}
    files.write_json(tmp_path / "run" / "evaluation-12.json", [record])
    write_report(tmp_path / "report.html", "t", {"r": tmp_path / "run"})
    page = (tmp_path / "report.html").read_text()
    assert "<span>0.01234<small>(0.01 to 0.02)</small></span>" in page and "<span>3.5<small></small></span>" in page
    assert "samples: 1,234 generated, 500 real" in page
    first = page[: page.index("</dl>")]
    notes = ("95% interval 0.01 to 0.02", "features of pixels", "lower is better")
    assert '<dd class="value">0.01234</dd>' + "".join(f'<dd class="note">{note}</dd>' for note in notes) in first
    of_training = {"train_samples": {"num_generated": 40, "num_reference": 500, "metrics": {"kid": {"value": 0.0021}}}}
    network = record | {"features": {"name": "alexnet"}, "sets": sets | of_training}
    files.write_json(tmp_path / "run" / "evaluation-12.json", [network, record])
    write_report(tmp_path / "report.html", "t", {"r": tmp_path / "run"})
    page = (tmp_path / "report.html").read_text()
    first = page[: page.index("</dl>")]
    assert '>of training images: 0.0021</dd><dd class="note">features of alexnet<' in first and "pixels<" not in first
    files.write_json(tmp_path / "run" / "evaluation-12.json", [record | {"split": "validation"}])
    write_report(tmp_path / "report.html", "t", {"r": tmp_path / "run"})
    page = (tmp_path / "report.html").read_text()
    assert "0.01234" not in page[: page.index("</dl>")] and "0.01234" in page  # the headline is about test images


def test_write_report_puts_runs_side_by_side(trained, trained_identity, tmp_path):
    runs = {"first": trained.workdir, "again": trained.workdir, "other": trained_identity.workdir}
    write_report(tmp_path / "report.html", "t", runs)
    page = (tmp_path / "report.html").read_text()
    assert '<a href="#run-2">again</a>' in page and page.count("<h2") == 3
    table = page[page.index("first: test, step 12") : page.index("<h2")]
    assert table.count("<span>negative ELBO<") == 1 and "cycle" not in table


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
