"""Pages of runs: which figures, pictures and warnings of a training they show, in which words."""

import json
import re
import shutil
from pathlib import Path

import pytest

from genjax import files
from genjax.report import write_report
from parsed_page import Parsed


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


def test_write_report_gives_intervals_of_headline_figures(trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained.workdir, run)
    test = {"elbo": -20.0, "rate": 4.0, "rate_image_se": 0.5, "distortion": 16.0, "distortion_image_se": None}
    files.write_json(run / "result.json", {"step": 12, "test": test})
    write_report(tmp_path / "report.html", "t", {"r": run, "again": run})
    shown = " ".join(Parsed((tmp_path / "report.html").read_text()).texts)
    assert "4 ± 0.98 95% interval over images" in shown and "16 ±" not in shown
    assert shown.count("4 ± 0.98") == 6 and "error from the images" not in shown  # headline, table, and side by side


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
