import contextlib
import logging
import math
import os
import re
import sys
import termios

import pytest

from genjax.config import TrainConfig
from genjax.train.log import Log, Progress
from genjax.train.rows import read_rows
from genjax.train.writers import Writer


def read_skips(tmp_path, skipped, **config):
    """Lets a log read a dispatch for each of `skipped`, the number of skipped steps so far."""
    config = TrainConfig(**{"num_steps": 100, "log_every": 100, "eval_every": 100, "checkpoint_every": 100} | config)
    with Writer(tmp_path, {}) as writer, Progress(0, 100, 8, active=False) as progress:
        log = Log(writer, progress, config, 0)
        for i, number in enumerate(skipped):
            log.after_step((i + 1) * config.steps_per_dispatch, {"skipped": number}, {}, 0)
        log.catch_up()


def test_log_counts_skips_in_whole_dispatches(tmp_path):
    """A dispatch with one good step begins the count anew; the steps of a bad one all count."""
    fours = {"steps_per_dispatch": 4, "max_nonfinite_steps": 8}
    read_skips(tmp_path, [4, 7, 11, 14], **fours)
    with pytest.raises(FloatingPointError, match="not finite in 8 steps in a row, up to step 12;"):
        read_skips(tmp_path, [3, 7, 11, 15], **fours)


def test_log_counts_skips_of_single_steps(tmp_path):
    read_skips(tmp_path, [1, 2, 2, 3, 4], max_nonfinite_steps=3)
    with pytest.raises(FloatingPointError, match="not finite in 3 steps in a row, up to step 5;"):
        read_skips(tmp_path, [1, 1, 2, 3, 4], max_nonfinite_steps=3)


@pytest.fixture
def clock(monkeypatch):
    """A clock that ticks two seconds at each step of a `train` below."""
    now = [0.0]
    monkeypatch.setattr("genjax.train.log.time.perf_counter", lambda: now[0])
    return now


def train(clock, num_steps=20, headline=("elbo", "rate")):
    """A training with a row after every tenth of 8 images' steps, and an evaluation at its end."""
    with Progress(0, num_steps, 8, headline, score_title="negative ELBO") as progress:
        for step in range(1, num_steps + 1):
            clock[0] += 100 if step == 1 else 2
            progress.after_step(step)
            if step % 10 == 0:
                progress.images_per_second(step)
                progress.report(step, {"beta": 1.0, "elbo": -1.25, "rate": 3.0})
        progress.evaluating(num_steps)
        progress.evaluated(num_steps, {"elbo": -1.5, "l1": 0.1}, 1.5, best=True)


LINES = [
    "compiling ...",
    "step 10 of 20  4.0 img/s  00:20 left  elbo -1.25  rate 3",
    "step 20 of 20  4.0 img/s  00:00 left  elbo -1.25  rate 3",
    "step 20 of 20  validation  elbo -1.5  negative ELBO 1.5, the best so far",
]


def test_progress_logs_lines_without_a_terminal(caplog, capsys, clock):
    caplog.set_level(logging.INFO)
    train(clock)
    assert caplog.messages == LINES and capsys.readouterr().err == ""


def test_progress_shows_the_first_metrics_without_a_headline(caplog, clock):
    caplog.set_level(logging.INFO)
    train(clock, num_steps=10, headline=("g_loss",))
    assert "step 10 of 10  4.0 img/s  00:00 left  beta 1  elbo -1.25  rate 3" in caplog.messages


def test_progress_is_silent_if_inactive(caplog):
    caplog.set_level(logging.INFO)
    with Progress(0, 10, 8, active=False) as progress:
        progress.after_step(1)
        progress.report(1, {"x": 1.0})
        progress.evaluated(1, {"x": 1.0}, None, best=False)
    assert not caplog.messages


def on_terminal(monkeypatch, columns, act):
    """What a terminal of `columns` columns is sent on stderr, and by logging, while `act` runs."""
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (24, columns))
    root, stream = logging.getLogger(), os.fdopen(slave, "w")
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(root, "handlers", [logging.StreamHandler(stream)])
    monkeypatch.setattr(root, "level", logging.INFO)
    act()
    stream.close()
    sent = b""
    with contextlib.suppress(OSError):  # which Linux raises at the end
        while part := os.read(master, 4096):
            sent += part
    os.close(master)
    return sent.decode()


def test_progress_keeps_one_line_on_terminals(monkeypatch, clock):
    sent = on_terminal(monkeypatch, 50, lambda: train(clock))
    above, below = sent.split("\r\n")  # the evaluation is the one line that stays
    assert above.endswith("\r" + LINES[-1])
    shown = [line.rstrip() for line in above.split("\r")]
    assert (
        shown[2] == LINES[0] and LINES[2].removesuffix("  rate 3") in shown and "step 20 of 20  evaluating ..." in shown
    )
    assert max(map(len, above.removesuffix(LINES[-1]).split("\r"))) < 50
    assert below.endswith("\r") and not below.split("\r")[-2].strip()  # wiped at the end


def test_progress_logs_lines_on_terminals_without_columns(monkeypatch, clock):
    """As some editors and batch systems have."""
    assert on_terminal(monkeypatch, 0, lambda: train(clock)).splitlines() == LINES


def test_log_marks_the_best_evaluation(tmp_path, caplog):
    """Better than any so far, and than those before it was resumed, and saved: others cannot be loaded."""
    caplog.set_level(logging.INFO)
    config = TrainConfig(num_steps=100)
    with Writer(tmp_path, {}) as writer, Progress(0, 100, 8) as progress:
        log = Log(writer, progress, config, 0, best_score=3.0)
        for step, score in enumerate((4.0, 2.0, math.nan, 2.5, 1.0, None, 0.5, 0.7)):
            log.after_evaluation(step, {"x": 0.0}, score, saved=step != 6)
    marked = [re.search(r"step (\d)", line)[1] for line in caplog.messages if line.endswith("the best so far")]
    assert marked == ["1", "4", "7"]


def test_log_writes_rows_at_once(tmp_path):
    config = TrainConfig(num_steps=100, log_every=1)
    with Writer(tmp_path, {}) as writer, Progress(0, 100, 8, active=False) as progress:
        log = Log(writer, progress, config, 0)
        for step in (1, 2, 3):
            log.after_step(step, {"skipped": 0}, {}, 0)
        found = [[row["step"] for row in read_rows(tmp_path / name)] for name in ("metrics.jsonl", "timing.jsonl")]
    assert found == [[1, 2], [1, 2]]
