"""translate.py on the frames of a video, with a network whose translations are its images."""

import numpy as np
import pytest
from PIL import Image

from genjax.data import pictures
from genjax.data.pictures import Picture
from random_pictures import pixels
from translating import run

pytestmark = pytest.mark.slow


def write_video(folder, num=11, size=32):
    """Frames that a camera moving to the right sees: frame1.png to frame11.png."""
    coarse = np.random.default_rng(0).integers(0, 256, (size // 4, (size + num) // 4 + 1, 3), np.uint8)
    scene = np.asarray(Image.fromarray(coarse).resize((size + num, size)))
    for i in range(num):
        pictures.write(folder / f"frame{i + 1}.png", Picture(scene[:, i : i + size].copy()))


@pytest.mark.parametrize("smooth", ["none", "dihedral", "temporal"])
def test_main_measures_the_flicker_of_a_video(trained_identity, tmp_path, monkeypatch, smooth):
    write_video(tmp_path / "in")
    whole = (tmp_path / "in" / "frame5.png").read_bytes()
    (tmp_path / "in" / "frame5.png").write_bytes(whole[: len(whole) // 2])
    flags = ("a2b", "--video", "--smooth", smooth)
    results = run(monkeypatch, trained_identity.workdir, tmp_path / "in", tmp_path / "out", *flags)
    assert (results["images"], results["failed"]) == (10, 1)
    # In the order frame1, frame10, frame11, frame2 the camera would jump.
    assert results["flicker_inputs"] < 0.01 and results["flicker"] < 0.01
    for i in (1, 4, 6, 11):
        before, after = (pictures.read(tmp_path / folder / f"frame{i}.png").pixels for folder in ("in", "out"))
        assert np.abs(after[4:-4, 4:-4].astype(int) - before[4:-4, 4:-4]).max() <= 8


def test_main_refuses_what_is_no_video(trained_identity, tmp_path, monkeypatch):
    for name, size in (("frame2.png", 8), ("frame10.png", 12)):
        pictures.write(tmp_path / "in" / name, Picture(pixels(size, 8, 3)))
    where = (trained_identity.workdir, tmp_path / "in", tmp_path / "out", "a2b")
    refused = {
        ("--video",): "one size: .*frame2.png has 8x8 pixels, and .*frame10.png 12x8: give those of one video",
        ("--video", "--which", "2", "last"): "--video needs one --which",
        ("--smooth", "temporal"): "--smooth temporal needs the frames of a video: add --video",
        ("--video", "--smooth", "temporal", "--skip-existing"): "needs each frame's neighbours: give another --out",
    }
    for flags, error in refused.items():
        with pytest.raises(ValueError, match=error):
            run(monkeypatch, *where, *flags)
    assert not (tmp_path / "out").exists()
