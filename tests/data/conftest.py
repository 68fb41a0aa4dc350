"""Pictures, folders, .npz files and configurations of them, for the tests of several modules."""

import numpy as np
import pytest

from genjax.data import pictures, sources
from genjax.data.config import DataConfig
from image_folders import encode, flat


@pytest.fixture
def read(tmp_path):
    """Reads the bytes of a picture file."""

    def read_bytes(encoded, name="image.png"):
        (tmp_path / name).write_bytes(encoded)
        return pictures.read(tmp_path / name)

    return read_bytes


@pytest.fixture
def image_size():
    return 8, 8


@pytest.fixture
def config(tmp_path, image_size):
    """Colour images of `image_size`, which a module may override, with a cache of the test's own."""
    cache_dir = str(tmp_path / "cache" / "below")
    return DataConfig(source="unused", image_size=image_size, channels=(3,), batch_size=2, cache_dir=cache_dir)


@pytest.fixture
def folder(tmp_path):
    """Writes files, given as their bytes or as the grey level of an image, and returns their folder."""

    def write(files):
        for name, content in files.items():
            path = tmp_path / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else encode(flat(content)))
        return tmp_path / "images"

    return write


@pytest.fixture
def load(tmp_path):
    """Splits of a source; `shape` is height, width and the channels of each domain."""

    def load_source(source, shape=(4, 4, 1), seed=0, **options):
        options |= {"image_size": shape[:2], "channels": shape[2:], "cache_dir": str(tmp_path / "cache")}
        return sources.load(DataConfig(source=str(source), batch_size=2, **options), seed)

    return load_source


@pytest.fixture
def npz(tmp_path):
    """Writes arrays into a file, and returns its source."""

    def write(**contents):
        np.savez_compressed(tmp_path / "images.npz", **contents)
        return f"npz:{tmp_path / 'images.npz'}"

    return write
