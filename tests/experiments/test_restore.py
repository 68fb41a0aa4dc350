"""inpaint.py, super_resolve.py and restore.py on files and folders, with the tiny VAE of 8x8 digits."""

import dataclasses
import sys

import numpy as np
import pytest
from etils import epath
from PIL import Image

import inpaint
import restore
import super_resolve
from genjax.data import conversion, pictures
from genjax.data.config import DataConfig
from genjax.data.pictures import Picture
from genjax.vae import restored_files
from genjax.vae.operators import Downsample
from linear_vae import linear_vae

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)
GREY = DataConfig(source="unused", image_size=(8, 8), channels=(1,), batch_size=1)
QUICK = ("--method", "importance", "--inference.num-proposals", "10", "--num-samples", "3")


def pixels(channels=1, dtype=np.uint8, size=8):
    return RNG.integers(0, np.iinfo(dtype).max, (size, size, channels), dtype, endpoint=True)


FILES = {
    "grey.png": Picture(pixels()),
    "below/deep.tif": Picture(pixels(dtype=np.uint16)),
    "below/alpha.webp": Picture(np.repeat(pixels(), 3, -1), pixels()[..., 0]),
    "grey as colour.bmp": Picture(np.repeat(pixels(), 3, -1)),
}


def write_all(folder):
    for name, image in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pictures.write(folder / name, image)
    Image.fromarray(pixels()[..., 0]).save(folder / "photo.jpg")
    return folder


def run(monkeypatch, script, workdir, images, out, *more):
    images = images if isinstance(images, list) else [images]
    arguments = ["--workdir", workdir, "--images", *images, "--out", out, *more, *QUICK]
    monkeypatch.setattr(sys, "argv", [f"{script.__name__}.py", *map(str, arguments)])
    return script.main()


@pytest.mark.parametrize("by_name", [True, False])
def test_inpaint_keeps_names_depth_and_observed_pixels(trained, tmp_path, monkeypatch, by_name):
    images, mask = write_all(tmp_path / "in"), "half-top"
    if not by_name:  # an image that is not only black and white
        mask = tmp_path / "mask.png"
        Image.fromarray(np.repeat(np.array([[200], [128], [255], [130], [127], [0], [90], [3]], np.uint8), 8, 1)).save(
            mask
        )
    results = run(monkeypatch, inpaint, trained.workdir, images, tmp_path / "out", "--mask", mask)
    assert (results["images"], results["method"], results["step"]) == (5, "importance", 12)
    assert "health" in results and "r_hat" not in results  # no chains
    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    folders = ("sample-1", "sample-2", "sample-3", "mean")
    assert written == {f"{folder}/{name}" for folder in folders for name in (*FILES, "photo.jpg.png")} | {"grid.png"}
    different = 0
    for name, before in {**FILES, "photo.jpg.png": pictures.read(images / "photo.jpg")}.items():
        samples = [pictures.read(tmp_path / "out" / folder / name) for folder in folders]
        seen = before.pixels if before.alpha is None else conversion.opaque(before, GREY).pixels  # on white
        for after in samples:
            assert after.pixels.dtype == before.pixels.dtype and after.pixels.shape == before.pixels.shape
            np.testing.assert_array_equal(after.pixels[4:], seen[4:])
            assert (after.pixels[:4] != seen[:4]).mean() > 0.9
            assert after.alpha is None
        different += len({after.pixels.tobytes() for after in samples[:3]}) > 1
    assert different >= 4  # alternatives
    columns = 1 + 3 + 1 + by_name
    with Image.open(tmp_path / "out" / "grid.png") as grid:
        assert grid.size == (columns * 66 + 2, 5 * 66 + 2)  # of 8 pixels, each repeated 8 times


def test_restored_files_makes_colour_of_grey_files(tmp_path):
    given, colour = Picture(pixels(), icc=b"a profile of grey"), dataclasses.replace(GREY, channels=(3,))
    pictures.write(tmp_path / "grey.png", given._replace(icc=None))
    found = restored_files.read([str(tmp_path / "grey.png")], (8, 8), colour)
    np.testing.assert_array_equal(found.pixels, (given.pixels / 255).repeat(3, -1)[None].astype(np.float32))
    missing = np.arange(64).reshape(8, 8) % 2 == 0
    restored_files.write(epath.Path(tmp_path), "out.png", RNG.random((2, 8, 8, 3)), found.files[0], missing, colour)
    after = pictures.read(tmp_path / "sample-1" / "out.png")
    np.testing.assert_array_equal(after.pixels[~missing], given.pixels.repeat(3, -1)[~missing])
    assert (after.pixels[missing] != given.pixels[missing]).any(-1).all()
    assert restored_files._in_colour(given).icc is None


def test_inpaint_prints_diagnostics_of_chains(trained, tmp_path, monkeypatch):
    for i in range(2):
        pictures.write(tmp_path / "in" / f"{i}.png", Picture(pixels()))
    chains = ("--method", "metropolis", "--num-samples", "4", "--inference.thinning", "20")
    monkeypatch.setattr(f"{__name__}.QUICK", chains)
    results = run(monkeypatch, inpaint, trained.workdir, tmp_path / "in", tmp_path / "out", "--mask", "half-top")
    assert 1 < results["r_hat"] <= results["r_hat_worst"]
    assert 1 <= results["effective_sample_size_worst"] <= results["effective_sample_size"] < 240
    assert 0 < results["acceptance_rate_worst"] <= results["acceptance_rate"] < 1


def test_super_resolve_agrees_with_given_files(trained, tmp_path, monkeypatch):
    small = pixels(size=2)
    (tmp_path / "in").mkdir()
    pictures.write(tmp_path / "in" / "small.png", Picture(small))
    results = run(monkeypatch, super_resolve, trained.workdir, tmp_path / "in", tmp_path / "out", "--factor", 4)
    assert results["least_consistency_db"] > 50
    for folder in ("sample-1", "sample-2", "sample-3", "mean"):
        large = pictures.read(tmp_path / "out" / folder / "small.png").pixels
        np.testing.assert_allclose(Downsample(4).apply(large / 255), small / 255, atol=0.5 / 255)
    with Image.open(tmp_path / "out" / "grid.png") as grid:
        assert grid.size == (5 * 66 + 2, 66 + 2)


def test_commands_refuse_before_anything_is_written(trained, trained_identity, tmp_path, monkeypatch):
    images, workdir, out = write_all(tmp_path / "in"), trained.workdir, tmp_path / "out"

    def saved(name, array):
        Image.fromarray(array).save(tmp_path / name)
        return tmp_path / name

    black, white = (saved(f"{level}.png", np.full((8, 8), level, np.uint8)) for level in (0, 255))
    large, limit = saved("large.png", np.zeros((1000, 1100), np.uint8)), ("--max-megapixels", 1)
    wide, colour = saved("wide.png", np.zeros((8, 9), np.uint8)), saved("colour.png", pixels(3))
    for script, where, more, said in [
        (inpaint, images, ("--mask", black), "0.png hides no pixel of .*: white, or transparent, is missing"),
        (inpaint, images, ("--mask", white), "255.png hides every pixel of .*: white, or transparent, is missing"),
        (inpaint, images, ("--mask", "alpha"), "mask alpha needs images with an alpha channel, and .* has none"),
        (inpaint, images, ("--mask", "halves"), "no mask or file is called 'halves': give half-left"),
        (inpaint, images, ("--mask", images), "no mask or file is called '.*in': give half-left"),
        (super_resolve, wide, ("--factor", 2), "wide.png has 8x9 pixels, and this VAE enlarges 4x4 by 2"),
        (inpaint, colour, ("--mask", "square"), "colour.png is in colour, and the VAE was trained on grey"),
        (super_resolve, images, ("--factor", 3), "factor 3 cannot lead to this VAE's 8x8 images; it enlarges: 4x4 by"),
        (inpaint, large, ("--mask", "square", *limit), "large.png: its 1.1 megapixels exceed --max-megapixels 1 "),
        (inpaint, black, ("--mask", large, *limit), "large.png: its 1.1 megapixels exceed --max-megapixels 1 "),
        (super_resolve, large, ("--factor", 2, *limit), "large.png: its 1.1 megapixels exceed --max-megapixels 1 "),
        (inpaint, images, ("--mask", "square", "--max-megapixels", 0), "--max-megapixels must be at least 1, got 0"),
        (super_resolve, images, ("--factor", 2), "8x8 pixels, and this VAE enlarges 4x4 by 2 to the 8x8 .*--scale-"),
    ]:
        with pytest.raises(ValueError, match=said):
            run(monkeypatch, script, workdir, where, out, *more)
    saved("in/photo.jpg.png", pixels()[..., 0])
    with pytest.raises(ValueError, match="two images below .*in would be written as photo.jpg.png: rename one"):
        run(monkeypatch, inpaint, workdir, images, out, "--mask", "square")
    with pytest.raises(ValueError, match="holds a cyclegan run"):
        run(monkeypatch, inpaint, trained_identity.workdir, images, out, "--mask", "square")
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        run(monkeypatch, super_resolve, workdir, tmp_path / "nothing", out, "--factor", 2)
    assert not out.exists()
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    for script, more in ((inpaint, ("--mask", "square")), (super_resolve, ("--factor", 2))):
        with pytest.raises(ValueError, match="out exists already: give another --out"):
            run(monkeypatch, script, workdir, images, out, *more)


def saved(tmp_path, pixels, alpha=None):
    """A picture file in a new folder."""
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}" / "picture.png"
    path.parent.mkdir()
    pictures.write(path, Picture(pixels, alpha))
    return path


def test_inpaint_returns_images_at_their_own_size(trained, tmp_path, monkeypatch):
    given = pixels(dtype=np.uint16, size=40)[:24]
    path, mask = saved(tmp_path, given), np.zeros((12, 20, 1), np.uint8)  # half the size, another file
    mask[4:8, 6:8] = 255
    run(monkeypatch, inpaint, trained.workdir, path, tmp_path / "out", "--mask", saved(tmp_path, mask))
    after = pictures.read(tmp_path / "out" / "sample-1" / "picture.png").pixels
    assert after.shape == given.shape and after.dtype == given.dtype
    changed = (after != given)[..., 0]
    # The VAE has seen the middle 24 columns as 8, and none of its pixels ends where the hole does.
    hole = np.zeros((24, 40), bool)
    hole[8:16, 12:16] = True
    assert changed[hole].mean() > 0.99 and not changed[~hole].any()


def test_inpaint_fills_what_is_erased(trained, tmp_path, monkeypatch, caplog):
    given, alpha = pixels().repeat(3, -1), np.full((8, 8), 255, np.uint8)
    alpha[:, :3] = 0
    other, erased = saved(tmp_path, pixels()), saved(tmp_path, given, alpha)
    with caplog.at_level("INFO"):
        results = run(monkeypatch, inpaint, trained.workdir, erased, tmp_path / "out", "--mask", "alpha")
    assert results["missing"] == 0.375 and "37.5% of the pixels are missing" in caplog.text
    after = pictures.read(tmp_path / "out" / "mean" / "picture.png")
    np.testing.assert_array_equal(after.pixels[:, 3:], given[:, 3:])
    assert after.alpha is None and (after.pixels != given)[:, :3].mean() > 0.9
    # As a mask for another image, it hides the same part.
    assert run(monkeypatch, inpaint, trained.workdir, other, tmp_path / "two", "--mask", erased)["missing"] == 0.375


def test_inpaint_warns_of_a_mask_the_wrong_way_round(trained, tmp_path, monkeypatch, caplog):
    mask = np.full((8, 8, 1), 255, np.uint8)
    mask[4, 4] = 0
    image, mask = saved(tmp_path, pixels()), saved(tmp_path, mask)
    run(monkeypatch, inpaint, trained.workdir, image, tmp_path / "out", "--mask", mask)
    assert "hides 98.4% of picture.png: white, or transparent, is missing. Is it the wrong way" in caplog.text


def test_restore_takes_several_images(trained, tmp_path, monkeypatch):
    images = write_all(tmp_path / "in")
    chosen = [images / "grey.png", images / "below"]
    assert run(monkeypatch, inpaint, trained.workdir, chosen, tmp_path / "out", "--mask", "square")["images"] == 3
    assert (tmp_path / "out" / "mean" / "deep.tif").exists()  # by its path below the folder that was given
    same = [saved(tmp_path, pixels(size=2)), saved(tmp_path, pixels(size=2))]
    with pytest.raises(ValueError, match="two images below .* would be written as picture.png: rename one"):
        run(monkeypatch, super_resolve, trained.workdir, same, tmp_path / "large", "--factor", 4)


# restore.py, whose first argument is a verb.


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
    image = saved(tmp_path, pixels())
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
    grey = (pixels(size=4) // 4 + 96).astype(np.uint8)  # near the images that this VAE draws
    image = saved(tmp_path, grey)
    results = run_verb(monkeypatch, "gray", "unused", tmp_path / "out", "--images", image)
    assert "psnr_samples" not in results
    colour = pictures.read(tmp_path / "out" / "sample-1" / "picture.png").pixels.astype(float)
    assert colour.shape == (4, 4, 3) and np.ptp(colour, axis=-1).max() > 5
    np.testing.assert_allclose(colour @ [0.299, 0.587, 0.114], grey[..., 0], atol=1)
    with pytest.raises(ValueError, match="picture.png is in colour: give grey images, or --simulate"):
        run_verb(monkeypatch, "gray", "unused", tmp_path / "two", "--images", saved(tmp_path, pixels(3, size=4)))


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
        ("noise", ("--images", saved(tmp_path, pixels(size=9)), "--sigma", 0.1), "9x9 pixels, and this VAE"),
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
    image = saved(tmp_path, pixels(size=4))
    run_verb(monkeypatch, "noise", "unused", tmp_path / "out", "--images", image, "--sigma", 0.01)
    assert "trained with --vae.sigma 0.05, so that much noise belongs to its images, and noise of 0.01" in caplog.text
