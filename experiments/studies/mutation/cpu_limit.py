"""Pytest plugin that ends all tests once one of them has computed for too long, as an endless loop does."""

import os
import signal


def pytest_runtest_logstart() -> None:
    """Sets the timer anew for each test; its signal, SIGPROF, ends the process."""
    signal.setitimer(signal.ITIMER_PROF, float(os.environ["TEST_CPU_SECONDS"]))
