import pytest

from genjax import files
from genjax.train.profiling import profiled


@pytest.fixture
def calls(monkeypatch):
    """Starts and stops of JAX's profiler, in order."""
    made = []
    monkeypatch.setattr("jax.profiler.start_trace", lambda directory: made.append("start"))
    monkeypatch.setattr("jax.profiler.stop_trace", lambda: made.append("stop"))
    return made


@pytest.mark.parametrize(
    ("steps", "seen", "expected"),
    [
        ((2, 4), range(6), [0, 1, 2, "start", 3, 4, "stop", 5]),
        ((0, 1), range(3), [0, "start", 1, "stop", 2]),
        ((2, 5), range(0, 9, 3), [0, 3, "start", 6, "stop"]),  # three steps per call
        ((2, 5), range(4, 7), [4, "start", 5, "stop", 6]),  # resumed within
        ((2, 5), range(5, 7), [5, 6]),  # resumed after it
        ((7, 8), range(0, 11, 5), [0, 5, 10]),  # five steps per call, and none begins there
        ((2, 5), range(4), [0, 1, 2, "start", 3, "stop"]),  # stopped by a signal
        (None, range(3), [0, 1, 2]),
    ],
)
def test_profiled_traces_the_steps_between(tmp_path, calls, caplog, steps, seen, expected):
    with profiled(files.resolve(tmp_path), steps) as after_step:
        for step in seen:
            calls.append(step)
            after_step(step, None)
    assert calls == expected
    assert ("no trace is written" in caplog.text) == (steps is not None and "start" not in expected)


@pytest.mark.slow
def test_profiled_leaves_a_trace(tmp_path):
    with profiled(files.resolve(tmp_path), (0, 1)) as after_step:
        after_step(0, None)
    names = sorted(path.name.partition(".")[2] for path in tmp_path.glob("plugins/profile/*/*"))
    assert names == ["trace.json.gz", "xplane.pb"]
