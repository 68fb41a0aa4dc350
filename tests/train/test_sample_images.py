"""Grids of a training's progress."""

from types import SimpleNamespace

import numpy as np
import pytest
from etils import epath
from PIL import Image

from genjax import parallel
from genjax.data import image_arrays
from genjax.data.splits import Splits
from genjax.train import sample_images


def show(config, state, batch, key):
    """The images themselves."""
    return {"images": image_arrays.to_unit(batch.images[0])}


@pytest.mark.parametrize("num", [9, 36])
def test_write_grids_shows_no_image_twice(make_run, tmp_path, num):
    config = make_run(train={"num_sample_images": num})
    images = np.arange(30, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 1), np.uint8)
    write = sample_images.compile_grids(SimpleNamespace(visualize=show), config, parallel.make_mesh())
    write(epath.Path(tmp_path), 3, np.zeros(1), Splits((images,), (images,), (images,)), 0)
    with Image.open(tmp_path / "samples" / "images-00000003.png") as grid:
        cells = np.asarray(grid)[6::10, 6::10].ravel()
    shown = cells[cells != 160]  # the level of cells without an image
    assert len(shown) == len(set(shown)) == min(num, 30)
