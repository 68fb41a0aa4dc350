"""restore.py, whose first argument is a verb, on files and folders, with the tiny VAE of 8x8 digits."""

import sys

import numpy as np
import pytest
from PIL import Image

import restore
from genjax.data import pictures
from linear_vae import linear_vae
from random_pictures import pixels
from restoring import QUICK, saved, write_all

pytestmark = pytest.mark.slow


def run_verb(monkeypatch, verb, workdir, out, *more):
    arguments = ["--workdir", workdir, "--out", out, *more, *QUICK]
    monkeypatch.setattr(sys, "argv", ["restore.py", verb, *map(str, arguments)])
    return restore.main()


@pytest.mark.parametrize("verb, flags", [("noise", ("--sigma", 0.2)), ("blur", ("--width", 1, "--sigma", 0.05))])
def test_restore_simulates_and_compares(trained, tmp_path, monkeypatch, verb, flags):
    images = write_all(tmp_path / "in")
    results = run_verb(monkeypatch, verb, trained.workdir, tmp_path / "out", "--images", images, "--simulate", *flags)
    assert results["images"] == 5 and 5 < results["psnr_copy"] < 20 and results["psnr_samples"] > 5
    written = {path.name for path in (tmp_path / "out" / "sample-3").rglob("*.*")}
    assert written == {"grey.png", "deep.tif", "alpha.webp", "grey as colour.bmp", "photo.jpg.png"}
    with Image.open(tmp_path / "out" / "grid.png") as grid:
        assert grid.size == (6 * 66 + 2, 5 * 66 + 2)
    # Given what it showed as observed, the same command without --simulate restores it as it is.
    results = run_verb(monkeypatch, verb, trained.workdir, tmp_path / "two", "--images", images / "grey.png", *flags)
    assert "psnr_samples" not in results and (tmp_path / "two" / "mean" / "grey.png").exists()


def test_restore_reconstructs_the_same_from_images_and_from_their_measurements(trained, tmp_path, monkeypatch):
    image = saved(tmp_path, pixels(8, 8, 1))
    run_verb(monkeypatch, "measurements", trained.workdir, tmp_path / "one", "--images", image, "--num", 12)
    with np.load(tmp_path / "one" / "measured.npz") as measured:
        assert measured["matrix"].shape == (12, 64) and measured["y"].shape == (1, 12)
    file = tmp_path / "one" / "measured.npz"
    run_verb(monkeypatch, "measurements", trained.workdir, tmp_path / "two", "--measured", file)
    first, second = (
        pictures.read(tmp_path / folder / name).pixels.astype(int)
        for folder, name in (("one/sample-2", "picture.png"), ("two/sample-2", "0.png"))
    )
    np.testing.assert_allclose(first, second, atol=1)


def test_restore_colours_grey_images_of_the_same_grey(tmp_path, monkeypatch):
    monkeypatch.setattr(restore, "load_sampler", lambda *_: linear_vae(channels=3)[0])
    grey = (pixels(4, 4, 1) // 4 + 96).astype(np.uint8)  # near the images that this VAE draws
    image = saved(tmp_path, grey)
    results = run_verb(monkeypatch, "gray", "unused", tmp_path / "out", "--images", image)
    assert "psnr_samples" not in results
    colour = pictures.read(tmp_path / "out" / "sample-1" / "picture.png").pixels.astype(float)
    assert colour.shape == (4, 4, 3) and np.ptp(colour, axis=-1).max() > 5
    np.testing.assert_allclose(colour @ [0.299, 0.587, 0.114], grey[..., 0], atol=1)
    with pytest.raises(ValueError, match="picture.png is in colour: give grey images, or --simulate"):
        run_verb(monkeypatch, "gray", "unused", tmp_path / "two", "--images", saved(tmp_path, pixels(4, 4, 3)))


def test_restore_refuses_before_anything_is_written(trained, tmp_path, monkeypatch):
    images, out = write_all(tmp_path / "in"), tmp_path / "out"
    (tmp_path / "y.npz").write_bytes(b"nothing")
    with_images = ("--images", images)
    large = saved(tmp_path, np.zeros((1000, 1100, 1), np.uint8))
    with_large = ("--images", large, "--max-megapixels", 1)
    for verb, flags, said in [
        ("noise", ("--sigma", 0.1), "--images is missing"),
        ("noise", (*with_images, "--sigma", 0), "the sigma of the noise must be positive, got 0.0"),
        ("blur", (*with_images, "--sigma", 0.1, "--width", -1), "the width of a blur must be positive, got -1.0"),
        ("gray", with_images, "colour has 3 channels, and this VAE was trained on images with 1"),
        ("measurements", with_images, "give --images and --num to measure images, or --measured alone"),
        ("measurements", ("--num", 3), "give --images and --num to measure images, or --measured alone"),
        ("measurements", (*with_images, "--num", 0), "number of measurements must be at least 1, got 0"),
        ("measurements", ("--measured", tmp_path / "y.npz"), "y.npz must be an .npz file with the arrays matrix and y"),
        ("noise", ("--images", saved(tmp_path, pixels(9, 9, 1)), "--sigma", 0.1), "9x9 pixels, and this VAE"),
        ("noise", (*with_large, "--sigma", 0.1), "its 1.1 megapixels exceed --max-megapixels 1 "),
        ("measurements", (*with_large, "--num", 3), "its 1.1 megapixels exceed --max-megapixels 1 "),
        ("blur", (*with_images, "--sigma", 1, "--width", 1, "--method", "metropolis"), "Gibbs sampling cannot impute"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=said):
            arguments = ["--workdir", trained.workdir, "--out", out, *QUICK, *flags]
            monkeypatch.setattr(sys, "argv", ["restore.py", verb, *map(str, arguments)])
            restore.main()
    assert not out.exists()


def test_restore_warns_of_a_vae_that_takes_noise_for_a_part_of_images(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(restore, "load_sampler", lambda *_: linear_vae()[0])
    image = saved(tmp_path, pixels(4, 4, 1))
    run_verb(monkeypatch, "noise", "unused", tmp_path / "out", "--images", image, "--sigma", 0.01)
    assert "trained with --vae.sigma 0.05, so that much noise belongs to its images, and noise of 0.01" in caplog.text
