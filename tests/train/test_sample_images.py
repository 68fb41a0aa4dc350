"""Grids of a training's progress."""

from types import SimpleNamespace

import numpy as np
import pytest
from etils import epath
from PIL import Image, ImageSequence

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


def test_write_growth_shows_the_steps_in_order(tmp_path):
    for step, size in ((4, 6), (8, 9), (16, 9), (120, 9)):  # the first one shows fewer images
        path = tmp_path / "samples" / f"images-{step:08d}.png"
        image_arrays.write_png(epath.Path(path), np.full((size, 7, 1), step, np.uint8))
    image_arrays.write_png(tmp_path / "samples" / "other-00000004.png", np.zeros((9, 7, 1), np.uint8))
    sample_images.write_growth(epath.Path(tmp_path), ["images", "other"])
    (written,) = tmp_path.glob("samples/*.webp")  # none of a single grid
    with Image.open(written) as moving:
        assert written.name == "images.webp" and moving.size == (7 * 29, 9 * 29)
        levels = [int(np.asarray(ImageSequence.Iterator(moving)[i].convert("L"))[0, 0]) for i in range(moving.n_frames)]
    assert levels == [8, 16, 120]  # equal frames at the end are one that stays for longer
