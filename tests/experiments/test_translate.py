"""translate.py on files and folders, with a network whose translations are its images: what went in comes back."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from etils import epath
from PIL import Image

import translate
from genjax.data import folders, pictures
from genjax.data.config import DataConfig
from genjax.data.pictures import Picture
from genjax.loading import with_limit
from random_pictures import pixels
from translating import run

pytestmark = pytest.mark.slow

FILES = {
    "colour.png": Picture(pixels(33, 20, 3)),
    "below/grey.png": Picture(pixels(16, 16, 1)),
    "below/deep.tiff": Picture(pixels(9, 31, 1, np.uint16)),
    "below/again/deep colour.png": Picture(pixels(12, 8, 3, np.uint16)),
    "alpha.png": Picture(pixels(8, 13, 3), pixels(8, 13, 1)[..., 0]),
    "alpha.webp": Picture(pixels(21, 40, 3), pixels(21, 40, 1)[..., 0]),
    "tiny.tif": Picture(pixels(1, 2, 3)),
    "PHOTO.JPG": Picture(np.repeat(np.repeat(pixels(4, 6, 3), 8, 0), 8, 1)),
}


def test_main_keeps_names_sizes_and_depths(trained_identity, tmp_path, monkeypatch, caplog):
    pytest.importorskip("imagecodecs", reason="16-bit colour needs the extra deep")
    for name, image in FILES.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        pictures.write(tmp_path / "in" / name, image)
    (tmp_path / "in" / "broken.png").write_bytes(b"no image")
    (tmp_path / "in" / "notes.txt").write_text("mine")
    results = run(monkeypatch, trained_identity.workdir, tmp_path / "in", tmp_path / "out")
    assert (results["images"], results["failed"]) == (len(FILES), 1)
    assert [message for message in caplog.messages if "passed over" in message and "broken.png" in message]
    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert written == set(FILES)
    for name in FILES:
        before, after = (pictures.read(tmp_path / folder / name) for folder in ("in", "out"))
        assert after.pixels.dtype == before.pixels.dtype
        share = 1 if before.alpha is None else before.alpha[..., None] / np.iinfo(before.alpha.dtype).max
        laid = before.pixels * share + 255 * (1 - share)  # on white
        expected = np.broadcast_to(laid, after.pixels.shape)
        assert after.pixels.shape == (*before.pixels.shape[:2], 3)  # a colour network makes colour of grey
        tolerance = {"PHOTO.JPG": 6}.get(name, 1 if before.pixels.dtype == np.uint8 else 40)
        assert np.abs(after.pixels - expected).max() <= tolerance
        assert after.alpha is None


def test_main_gives_alpha_back_when_asked(trained_identity, tmp_path, monkeypatch, caplog):
    clear = Picture(pixels(8, 12, 3), pixels(8, 12, 1)[..., 0])
    pictures.write(tmp_path / "in" / "clear.png", clear)
    (tmp_path / "in" / "called.jpg").write_bytes((tmp_path / "in" / "clear.png").read_bytes())
    caplog.set_level("INFO")
    for _ in range(2):  # the second call finds both, under the names that they got
        run(monkeypatch, trained_identity.workdir, tmp_path / "in", tmp_path / "out", "a2b",
            "--alpha", "keep", "--skip-existing")  # fmt: skip
    assert "called.jpg.png, as .jpg cannot hold it" in caplog.text
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["called.jpg.png", "clear.png"]
    for name in ("called.jpg.png", "clear.png"):
        np.testing.assert_array_equal(pictures.read(tmp_path / "out" / name).alpha, clear.alpha)


def test_main_writes_one_image_to_file_or_folder(trained_identity, tmp_path, monkeypatch):
    pictures.write(tmp_path / "in.png", Picture(pixels(10, 12, 3)))
    for out, written in ((tmp_path / "x.tiff", tmp_path / "x.tiff"), (tmp_path / "to", tmp_path / "to" / "in.png")):
        run(monkeypatch, trained_identity.workdir, tmp_path / "in.png", out, "b2a")
        assert pictures.read(written).pixels.shape == (10, 12, 3)


def test_main_overwrites_nothing_and_skips_when_asked(trained_identity, tmp_path, monkeypatch):
    for name in ("a.png", "b.png"):
        (tmp_path / "in").mkdir(exist_ok=True)
        pictures.write(tmp_path / "in" / name, Picture(pixels(8, 8, 3)))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.png").write_text("mine")
    with pytest.raises(ValueError, match=r"out/b.png exists already \(1 of 2 do\): give another --out"):
        run(monkeypatch, trained_identity.workdir, tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out" / "a.png").exists() and (tmp_path / "out" / "b.png").read_text() == "mine"
    results = run(monkeypatch, trained_identity.workdir, tmp_path / "in", tmp_path / "out", "a2b", "--skip-existing")
    assert results["images"] == 1 and (tmp_path / "out" / "b.png").read_text() == "mine"
    for out in ("in", "in/out"):  # whose translations a later call would translate
        with pytest.raises(ValueError, match="lies in --images .*, and the next call would translate translations"):
            run(monkeypatch, trained_identity.workdir, tmp_path / "in", tmp_path / out)


def test_main_refuses_folders_without_images(trained_identity, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    with pytest.raises(ValueError, match="holds no images"):
        run(monkeypatch, trained_identity.workdir, tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "broken.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="none of the 1 images could be translated"):
        run(monkeypatch, trained_identity.workdir, tmp_path / "in", tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        run(monkeypatch, trained_identity.workdir, tmp_path / "none", tmp_path / "out")
    with pytest.raises(ValueError, match="has a validation score"):  # without pairs there is no best checkpoint
        Image.fromarray(pixels(8, 8, 3)).save(tmp_path / "in" / "a.png")
        run(monkeypatch, trained_identity.workdir, tmp_path / "in", tmp_path / "out", "a2b", "--which", "best")


def test_main_puts_checkpoints_side_by_side(trained_identity, tmp_path, monkeypatch):
    image = pixels(8, 12, 3)
    (tmp_path / "in").mkdir()
    pictures.write(tmp_path / "in" / "a.png", Picture(image))
    which = ("a2b", "--which", "2", "last")
    results = run(monkeypatch, trained_identity.workdir, tmp_path / "in", tmp_path / "out", *which)
    assert results["step"] == "2 4"
    written = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    np.testing.assert_array_equal(written, np.concatenate([image, image], axis=1))
    with pytest.raises(ValueError, match="--alpha keep needs one --which"):
        run(monkeypatch, trained_identity.workdir, tmp_path / "in", tmp_path / "more", *which, "--alpha", "keep")


def test_main_writes_formats_only_read_as_png(trained_identity, tmp_path, monkeypatch, caplog):
    (tmp_path / "in").mkdir()
    deep = pixels(8, 12, 1, np.uint16)
    for name in ("b.ppm", "c.gif"):
        Image.fromarray(pixels(8, 8, 3)).save(tmp_path / "in" / name)
    (tmp_path / "in" / "d.pgm").write_bytes(b"P5 12 8 65535\n" + deep.astype(">u2").tobytes())
    caplog.set_level("INFO")
    results = run(monkeypatch, trained_identity.workdir, tmp_path / "in", tmp_path / "out")
    assert results["images"] == 3 and "3 translations are written as PNG, such as" in caplog.text
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["b.ppm.png", "c.gif.png", "d.pgm.png"]
    after = pictures.read(tmp_path / "out" / "d.pgm.png").pixels  # 16-bit grey through a colour network
    assert after.dtype == np.uint16 and np.abs(after.astype(int) - deep).max() <= 40
    run(monkeypatch, trained_identity.workdir, tmp_path / "in" / "b.ppm", tmp_path / "b.png")
    assert pictures.read(tmp_path / "b.png").pixels.shape == (8, 8, 3)
    with pytest.raises(ValueError, match=r"b.ppm has a suffix that cannot be written: give FILE.png"):
        run(monkeypatch, trained_identity.workdir, tmp_path / "in" / "b.ppm", tmp_path / "b.ppm")


def test_main_names_the_flag_for_large_images(trained_identity, tmp_path, monkeypatch, caplog):
    pictures.write(tmp_path / "large.png", Picture(np.zeros((1000, 1100, 3), np.uint8)))
    with pytest.raises(ValueError, match="none of the 1 images could be translated"):
        run(monkeypatch, trained_identity.workdir, tmp_path / "large.png", tmp_path / "out", "a2b",
            "--max-megapixels", "1")  # fmt: skip
    assert "its 1.1 megapixels exceed --max-megapixels 1" in caplog.text


@pytest.mark.parametrize("given, limit", [(None, 1), (2, 2)])
def test_files_of_take_as_large_images_as_training(tmp_path, given, limit):
    pictures.write(tmp_path / "large.png", Picture(np.zeros((1500, 1500, 3), np.uint8)))
    data = DataConfig(source="unused", image_size=(8, 8), channels=(3, 3), batch_size=1, max_megapixels=1)
    options = translate.Translate(workdir="", direction="a2b", images=(), out="")
    files = translate.files_of(with_limit(data, given), options)
    for fn in (files.size, files.read):
        with pytest.raises(ValueError, match=f"its 2.2 megapixels exceed --max-megapixels {limit} "):
            fn(folders.Page(epath.Path(tmp_path / "large.png"), None))


def test_main_writes_png_when_asked(trained_identity, tmp_path, monkeypatch):
    pictures.write(tmp_path / "in" / "a.jpg", Picture(pixels(8, 8, 3)))
    Image.fromarray(pixels(9, 8, 3)).save(tmp_path / "in" / "b.ppm")
    flags = (tmp_path / "in", tmp_path / "out", "a2b", "--format", "png")
    assert run(monkeypatch, trained_identity.workdir, *flags)["images"] == 2
    for name, size in (("a.jpg", (8, 8)), ("b.ppm", (9, 8))):
        found, original = pictures.read(tmp_path / "out" / f"{name}.png"), tmp_path / "in" / name
        assert found.pixels.shape == (*size, 3)
        assert np.abs(found.pixels.astype(int) - pictures.read(original).pixels).max() <= 1


def test_main_passes_over_one_picture_of_a_batch(trained_identity, tmp_path, monkeypatch, caplog):
    for name in "abcd":
        pictures.write(tmp_path / "in" / f"{name}.png", Picture(pixels(16, 16, 3)))
    whole = (tmp_path / "in" / "b.png").read_bytes()
    (tmp_path / "in" / "b.png").write_bytes(whole[: len(whole) // 2])  # its header is good
    results = run(monkeypatch, trained_identity.workdir, tmp_path / "in", tmp_path / "out")
    assert (results["images"], results["failed"]) == (3, 1)
    assert len([message for message in caplog.messages if "passed over" in message and "b.png" in message]) == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "c.png", "d.png"]
    for name in "acd":
        before, after = (pictures.read(tmp_path / folder / f"{name}.png").pixels for folder in ("in", "out"))
        assert np.abs(after.astype(int) - before).max() <= 1


def test_main_ends_on_a_full_disk_and_goes_on(trained_identity, disk, tmp_path, monkeypatch, caplog):
    for i in range(12):
        pictures.write(tmp_path / "in" / f"{i:02}.png", Picture(pixels(64, 64, 3)))
    disk.fill()
    disk.filler.write_bytes(disk.filler.read_bytes()[: -100 * 1024])  # room for a few of them, of 12 KB
    with pytest.raises(OSError, match=r"No space left .*what is written is whole, and --skip-existing passes over it"):
        run(monkeypatch, trained_identity.workdir, tmp_path / "in", disk.path / "out")
    written = list((disk.path / "out").iterdir())
    assert 0 < len(written) < 12 and not caplog.messages
    for path in written:  # under final names alone, and whole
        assert pictures.read(path).pixels.shape == (64, 64, 3)
    disk.filler.unlink()
    results = run(monkeypatch, trained_identity.workdir, tmp_path / "in", disk.path / "out", "a2b", "--skip-existing")
    assert results["images"] == 12 - len(written) and len(list((disk.path / "out").iterdir())) == 12


def test_main_refuses_runs_of_another_family(trained, tmp_path, monkeypatch):
    pictures.write(tmp_path / "in.png", Picture(pixels(8, 8, 3)))
    with pytest.raises(ValueError, match="holds a vae run, and a cyclegan or cut or unit run is needed"):
        run(monkeypatch, trained.workdir, tmp_path / "in.png", tmp_path / "out")


def test_main_takes_several_images(trained_identity, tmp_path, monkeypatch):
    for name in ("in/below/a.png", "in/b.png", "other/c.png", "other/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name)
    chosen = [tmp_path / "in", tmp_path / "other" / "c.png"]
    assert run(monkeypatch, trained_identity.workdir, chosen, tmp_path / "out")["images"] == 3
    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png")}
    assert written == {"below/a.png", "b.png", "c.png"}
    with pytest.raises(ValueError, match="two images of --images .* would be written as .*b.png: rename one of them"):
        run(monkeypatch, trained_identity.workdir, [tmp_path / "in", tmp_path / "other"], tmp_path / "two")
    assert not (tmp_path / "two").exists()


def test_script_translates_sixty_images_and_prints_json(trained_identity, tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(60):
        pictures.write(tmp_path / "in" / f"{i}.png", Picture(pixels(8, 8, 3)))
    flags = ["--workdir", trained_identity.workdir, "--direction", "b2a"]
    flags += ["--images", tmp_path / "in", "--out", tmp_path / "out"]
    script = Path(translate.__file__)
    done = subprocess.run([sys.executable, script, *map(str, flags)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"] == 60 == len(list((tmp_path / "out").iterdir()))
