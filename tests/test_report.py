import json
import re
import shutil
from pathlib import Path

from genjax.report import write_report


def test_write_report_makes_one_whole_page(trained, tmp_path):
    write_report(tmp_path / "report.html", "A <title>", {"Digits & more": trained.workdir})
    page = (tmp_path / "report.html").read_text()
    assert "<h1>A &lt;title&gt;</h1>" in page and "Digits &amp; more" in page
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    assert len(sources) == 3 and all(source.startswith("data:image/png;base64,") for source in sources)
    for fact in ("vae.latent_dim", "packages.jax", "train", "samples, step 12", "test images after step 12", "elbo"):
        assert fact in page


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
