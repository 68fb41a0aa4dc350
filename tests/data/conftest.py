"""Picture files and sources that tests of several modules read."""

import pytest

from genjax.data import pictures


@pytest.fixture
def read(tmp_path):
    """Reads the bytes of a file."""

    def read_bytes(encoded, name="image.png"):
        (tmp_path / name).write_bytes(encoded)
        return pictures.read(tmp_path / name)

    return read_bytes
