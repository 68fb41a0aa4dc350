import pytest

from genjax.train.rows import read_rows
from genjax.train.writers import Writer


def test_writer_writes_nonfinite_numbers_as_null(tmp_path):
    with Writer(tmp_path, {}) as writer:
        writer.write(1, {"elbo": -1.5, "loss": float("nan")})
        writer.write_timing(1, 12.34)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "elbo": -1.5, "loss": null}\n'
    (row,) = read_rows(tmp_path / "timing.jsonl")
    assert row["step"] == 1 and row["images_per_second"] == 12.3 and row["seconds"] >= 0


def large(rows, evaluation):
    """A warning that depends on the latest rows."""
    mean = sum(row["x"] for row in rows) / len(rows)
    return {"large": f"x is {mean:.1f} on average, give less"} if mean > 1 else {}


def test_writer_adds_and_logs_warnings(tmp_path, caplog):
    with Writer(tmp_path / "run", {}, monitor=large) as writer:
        for step, x in enumerate((0.0, 4.0, 2.0, -6.0)):
            if step == 3:
                covered = writer.covered
            writer.write(step, {"x": x})
    said = "x is 2.0 on average, give less"
    warnings = [row["warnings"] for row in read_rows(tmp_path / "run" / "metrics.jsonl")]
    assert warnings == [{}, {"large": said}, {"large": said}, {}]
    assert caplog.messages == [f"run, step 1: {said}", "run, step 3: no longer large"]
    caplog.clear()
    with Writer(tmp_path / "run", covered, monitor=large) as writer:  # resumed: nothing is new
        writer.write(3, {"x": 2.0})
    assert list(read_rows(tmp_path / "run" / "metrics.jsonl"))[3]["warnings"] == {"large": said} and not caplog.messages
    with Writer(tmp_path / "other", {}, active=False, monitor=large) as writer:
        writer.write(1, {"x": 2.0})
    assert not caplog.messages


def test_writer_flushes_on_errors(tmp_path):
    with pytest.raises(RuntimeError), Writer(tmp_path, {}) as writer:
        writer.write(1, {"x": 1.0})
        raise RuntimeError
    assert list(read_rows(tmp_path / "metrics.jsonl")) == [{"step": 1, "x": 1.0}]


def test_writer_gives_monitors_the_latest_rows(tmp_path):
    seen = []
    monitor = lambda rows, evaluation: seen.append(([r["step"] for r in rows], evaluation.get("step"))) or {}  # noqa: E731
    rows = [(step, {"validation/x": 1.0} if step in (2, 15) else {"x": 1.0}) for step in range(20)]
    with Writer(tmp_path / "run", {}, monitor=monitor) as writer:
        for step, row in rows:
            if step == 17:
                covered = writer.covered
            writer.write(step, row)
    whole = list(seen)
    assert whole[-1] == ([9, 10, 11, 12, 13, 14, 16, 17, 18, 19], 15) and whole[1] == ([0, 1], None)
    with Writer(tmp_path / "run", covered, monitor=monitor) as writer:  # resumed: the same rows
        for step, row in rows[17:]:
            writer.write(step, row)
    assert seen[len(whole) :] == whole[17:]


def test_writer_writes_nothing_if_inactive(tmp_path):
    with Writer(tmp_path, {}, active=False) as writer:
        writer.write(1, {"x": 1.0})
    assert not list(tmp_path.iterdir())


class Recorder:
    """A tracker that remembers what it was given, and fails at a step if told to."""

    def __init__(self, fails_at=None):
        self.given, self.fails_at = [], fails_at

    def scalars(self, step, metrics):
        if step == self.fails_at:
            raise ConnectionError("no network")
        self.given.append((step, metrics))

    def pictures(self, step, pictures):
        self.given.append((step, pictures))

    def close(self):
        self.given.append("closed")


def test_writer_gives_trackers_rows_and_pictures(tmp_path):
    recorder = Recorder()
    with Writer(tmp_path, {}, start_trackers=lambda: [recorder]) as writer:
        writer.write(3, {"elbo": -2.0}, {"state": "0badcafe"})
        writer.write_pictures(3, {"samples": "a grid"})
    assert recorder.given == [(3, {"elbo": -2.0}), (3, {"samples": "a grid"}), "closed"]


def test_writer_starts_trackers_only_if_active(tmp_path):
    with Writer(tmp_path, {}, active=False, start_trackers=lambda: 1 / 0) as writer:
        writer.write(3, {"elbo": -2.0})


def test_writer_goes_on_without_failing_trackers(tmp_path, caplog):
    failing, other = Recorder(fails_at=2), Recorder()
    with Writer(tmp_path, {}, start_trackers=lambda: [failing, other]) as writer:
        for step in (1, 2, 3):
            writer.write(step, {"x": 0.0})
    assert [row["step"] for row in read_rows(tmp_path / "metrics.jsonl")] == [1, 2, 3]
    assert failing.given == [(1, {"x": 0.0})] and len(other.given) == 4
    assert caplog.messages == ["Recorder gets no more rows, training goes on: no network"]


def test_writer_writes_a_table_at_its_end(tmp_path):
    with pytest.raises(RuntimeError), Writer(tmp_path, {}, monitor=lambda *_: {"a": "Less.", "b": "More."}) as writer:
        writer.write(2, {"x": 1.0}, {"state": "0badcafe"})
        writer.write(4, {"x": float("nan")})
        writer.write(4, {"validation/y": 0.5})
        raise RuntimeError
    lines = ["step,x,warnings,validation/y", "2,1.0,Less.; More.,", "4,,Less.; More.,0.5"]
    assert (tmp_path / "metrics.csv").read_text().splitlines() == lines
