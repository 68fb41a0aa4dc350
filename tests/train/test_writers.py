import json
import logging
import sys

import pytest

from genjax.train.log import Progress
from genjax.train.rows import read_rows
from genjax.train.writers import Writer


def test_writer_writes_nonfinite_numbers_as_null(tmp_path):
    with Writer(tmp_path, 0, tensorboard=False) as writer:
        writer.write(1, {"elbo": -1.5, "loss": float("nan")})
        writer.write_timing(1, 12.34)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "elbo": -1.5, "loss": null}\n'
    (row,) = read_rows(tmp_path / "timing.jsonl")
    assert row["step"] == 1 and row["images_per_second"] == 12.3 and row["seconds"] >= 0


def test_writer_cuts_off_later_rows(tmp_path):
    with Writer(tmp_path, 0, tensorboard=False) as writer:
        for step in range(5):
            writer.write(step, {"x": step / 3})
    before = (tmp_path / "metrics.jsonl").read_bytes().splitlines()
    with Writer(tmp_path, 2, tensorboard=False):
        pass
    assert (tmp_path / "metrics.jsonl").read_bytes().splitlines() == before[:3]


def large(rows, evaluation):
    """A warning that depends on the latest rows."""
    mean = sum(row["x"] for row in rows) / len(rows)
    return {"large": f"x is {mean:.1f} on average, give less"} if mean > 1 else {}


def test_writer_adds_and_logs_warnings(tmp_path, caplog):
    with Writer(tmp_path / "run", 0, tensorboard=False, monitor=large) as writer:
        for step, x in enumerate((0.0, 4.0, 2.0, -6.0)):
            writer.write(step, {"x": x})
    said = "x is 2.0 on average, give less"
    warnings = [row["warnings"] for row in read_rows(tmp_path / "run" / "metrics.jsonl")]
    assert warnings == [{}, {"large": said}, {"large": said}, {}]
    assert caplog.messages == [f"run, step 1: {said}", "run, step 3: no longer large"]
    caplog.clear()
    with Writer(tmp_path / "run", 2, tensorboard=False, monitor=large) as writer:  # resumed: nothing is new
        writer.write(3, {"x": 2.0})
    assert list(read_rows(tmp_path / "run" / "metrics.jsonl"))[3]["warnings"] == {"large": said} and not caplog.messages
    with Writer(tmp_path / "other", 0, tensorboard=False, active=False, monitor=large) as writer:
        writer.write(1, {"x": 2.0})
    assert not caplog.messages


def test_writer_flushes_on_errors(tmp_path):
    with pytest.raises(RuntimeError), Writer(tmp_path, 0, tensorboard=False) as writer:
        writer.write(1, {"x": 1.0})
        raise RuntimeError
    assert list(read_rows(tmp_path / "metrics.jsonl")) == [{"step": 1, "x": 1.0}]


def test_writer_gives_monitors_the_latest_rows(tmp_path):
    seen = []
    monitor = lambda rows, evaluation: seen.append(([r["step"] for r in rows], evaluation.get("step"))) or {}  # noqa: E731
    rows = [(step, {"validation/x": 1.0} if step in (2, 15) else {"x": 1.0}) for step in range(20)]
    with Writer(tmp_path / "run", 0, tensorboard=False, monitor=monitor) as writer:
        for step, row in rows:
            writer.write(step, row)
    whole = list(seen)
    assert whole[-1] == ([9, 10, 11, 12, 13, 14, 16, 17, 18, 19], 15) and whole[1] == ([0, 1], None)
    with Writer(tmp_path / "run", 16, tensorboard=False, monitor=monitor) as writer:  # resumed: the same rows
        for step, row in rows[17:]:
            writer.write(step, row)
    assert seen[len(whole) :] == whole[17:]


def test_writer_appends_and_never_rewrites(tmp_path):
    """A long run must not write quadratically."""
    with Writer(tmp_path, 0, tensorboard=False) as writer:
        writer.write(1, {"x": 1.0})
        writer.flush()
        inode = (tmp_path / "metrics.jsonl").stat().st_ino
        (tmp_path / "metrics.jsonl").write_bytes(b"")  # were the file written again, the row would come back
        writer.write(2, {"x": 2.0})
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 2, "x": 2.0}\n'
    assert (tmp_path / "metrics.jsonl").stat().st_ino == inode


def test_writer_mends_a_flush_that_failed(tmp_path, monkeypatch):
    """A full disk takes a part of what is written."""
    writer = Writer(tmp_path, 0, tensorboard=False)
    writer.write(1, {"x": 1.0})
    writer.flush()
    writer.write(2, {"x": 2.0})
    with monkeypatch.context() as patch:
        patch.setattr("genjax.train.rows.os.fsync", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            writer.flush()
    with open(tmp_path / "metrics.jsonl", "ab") as file:
        file.truncate(30)  # within the second row
    writer.write(3, {"x": 3.0})
    writer.flush()
    assert [row["step"] for row in read_rows(tmp_path / "metrics.jsonl")] == [1, 2, 3]


def test_read_rows_leaves_out_torn_lines(tmp_path):
    whole = b'{"step": 1, "x": 1.0}\n{"step": 2, "x": 2.0}\n'
    for cut in range(1, len(whole)):
        (tmp_path / "metrics.jsonl").write_bytes(whole[:cut])
        assert [row["step"] for row in read_rows(tmp_path / "metrics.jsonl")] == [1, 2][: whole[:cut].count(b"\n")]
    with Writer(tmp_path, 1, tensorboard=False) as writer:
        writer.write(2, {"x": 2.0})
    assert (tmp_path / "metrics.jsonl").read_bytes() == whole


def test_writer_writes_nothing_if_inactive(tmp_path):
    with Writer(tmp_path, 0, tensorboard=False, active=False) as writer:
        writer.write(1, {"x": 1.0})
    assert not list(tmp_path.iterdir())


def test_import_tensorboard_names_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "clu.metric_writers", None)
    with pytest.raises(ValueError, match=r"pip install 'genjax-images\[tensorboard\]'"):
        Writer(tmp_path, 0, tensorboard=True)


def test_writer_gives_tensorboard_the_same_numbers(tmp_path, monkeypatch):
    written = []

    class FakeSummaryWriter:
        def __init__(self, directory):
            assert directory == str(tmp_path / "tensorboard")

        def write_scalars(self, step, scalars):
            written.append({"step": step, **scalars})

        def flush(self): ...

        def close(self):
            written.append("closed")

    module = type(sys)("clu.metric_writers")
    module.SummaryWriter = FakeSummaryWriter
    monkeypatch.setitem(sys.modules, "clu.metric_writers", module)
    with Writer(tmp_path, 0, tensorboard=True) as writer:
        writer.write(3, {"elbo": -2.0})
    assert written == [json.loads((tmp_path / "metrics.jsonl").read_text()), "closed"]


def test_progress_logs_lines_without_a_terminal(caplog, capsys, monkeypatch):
    clock = iter([0.0, 2.0])
    monkeypatch.setattr("genjax.train.log.time.perf_counter", lambda: next(clock))
    with caplog.at_level(logging.INFO), Progress(0, 100, images_per_step=8) as progress:
        for _ in range(10):
            progress.advance(1)
        assert progress.images_per_second(10) == 40
        progress.report(10, {"elbo": -1.25})
    assert "step 10/100  40 img/s  18 s left  elbo -1.25" in caplog.text
    assert capsys.readouterr().err == ""


def test_progress_shows_a_bar_on_terminals(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Progress(0, 4, images_per_step=8) as progress:
        for _ in range(4):
            progress.advance(1)
    assert "32.0/32.0" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["3", "[]", "{}", "{"])
def test_read_rows_names_damaged_files(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 1}}\n{line}\n')
    with pytest.raises(ValueError, match=f"{tmp_path}/metrics.jsonl is damaged, it holds a line"):
        list(read_rows(tmp_path / "metrics.jsonl"))
