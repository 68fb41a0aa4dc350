import logging
import sys

import pytest

from genjax.config import TrainConfig
from genjax.train.log import Log, Progress
from genjax.train.writers import Writer


def read_skips(tmp_path, skipped, **config):
    """Lets a log read a dispatch for each of `skipped`, the number of skipped steps so far."""
    config = TrainConfig(**{"num_steps": 100, "log_every": 100, "eval_every": 100, "checkpoint_every": 100} | config)
    with Writer(tmp_path, {}, tensorboard=False) as writer, Progress(0, 100, 8, active=False) as progress:
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
