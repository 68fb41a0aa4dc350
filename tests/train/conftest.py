import pytest

from fitted import outcome


@pytest.fixture
def whole(trained):
    """The outcome of an uninterrupted run."""
    return outcome(trained)
