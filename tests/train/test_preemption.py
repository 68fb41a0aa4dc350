import os
import signal

import pytest

from genjax.train import preemption


@pytest.fixture
def usual():
    """The signals that handlers from before have caught."""
    caught: list[int] = []
    before = {number: signal.signal(number, lambda number, _: caught.append(number)) for number in preemption.SIGNALS}
    yield caught
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", preemption.SIGNALS)
def test_requests_leaves_second_signals_their_effect(usual, number):
    """The first asks for a save; whoever cannot wait for it repeats the signal."""
    with preemption.requests() as requested:
        assert requested() == 0
        os.kill(os.getpid(), number)
        assert requested() == number and not usual
        os.kill(os.getpid(), number)
        assert usual == [number]
    os.kill(os.getpid(), number)
    assert usual == [number, number]


def test_requests_waits_through_signals_of_both_kinds(usual):
    with preemption.requests() as requested:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert requested() == signal.SIGTERM and not usual
