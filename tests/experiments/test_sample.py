"""sample.py: pictures of each kind, still and moving, samples from fitted priors, and what it refuses."""

import dataclasses
import io
import types

import numpy as np
import pytest
from PIL import Image

import sample
from genjax import keys
from genjax.data import image_arrays
from genjax.loading import load_sampler
from genjax.vae.aggregated import FitConfig

pytestmark = pytest.mark.slow


def test_animation_goes_there_and_back_without_loss():
    """Of two rows of four pictures: six frames, each of both rows side by side."""
    pictures = np.random.default_rng(0).integers(0, 256, (8, 5, 6, 1), np.uint8)
    with Image.open(io.BytesIO(sample.animation(pictures, 4))) as found:
        frames = []
        for i in range(found.n_frames):
            found.seek(i)
            frames.append(np.asarray(found.convert("RGB"))[..., :1])
    shown = [image_arrays.grid(pictures[[step, 4 + step]], 2) for step in (0, 1, 2, 3, 2, 1)]
    np.testing.assert_array_equal(frames, shown)


def test_prior_writes_a_file_of_each_image(trained, tmp_path):
    sample.prior(trained.workdir, str(tmp_path / "drawn"), num=3)
    files = sorted((tmp_path / "drawn").iterdir())
    drawn = load_sampler(trained.workdir).prior(keys.root_key(0), np.arange(3))
    assert [path.name for path in files] == ["000000.png", "000001.png", "000002.png"]
    for path, image in zip(files, drawn, strict=True):
        with Image.open(path) as written:
            np.testing.assert_array_equal(np.asarray(written), image_arrays.to_uint8(image)[..., 0])
    with pytest.raises(ValueError, match="drawn exists already"):
        sample.prior(trained.workdir, str(tmp_path / "drawn"), num=3)
    with pytest.raises(ValueError, match=r"must end in .png or nothing \(a folder\)"):
        sample.prior(trained.workdir, str(tmp_path / "drawn.gif"), num=3)


def test_prior_draws_from_the_prior_that_was_asked_for(trained, tmp_path):
    def drawn(out, **options):
        return sample.prior(trained.workdir, str(tmp_path / out), num=4, **options)["digest"]

    normal, mixture = drawn("a.png"), drawn("b.png", prior="gaussian-mixture", fit=FitConfig(components=2))
    assert drawn("c.png", prior="gaussian-mixture", fit=FitConfig(components=2)) == mixture != normal
    assert drawn("d.png", prior="gaussian-mixture") != mixture and drawn("e.png") == normal
    with pytest.raises(ValueError, match="--fit.components 2 has no effect here"):
        drawn("f.png", fit=FitConfig(components=2))
    assert not (tmp_path / "f.png").exists()


def test_prior_is_a_prefix_of_more(trained, tmp_path):
    few = sample.prior(trained.workdir, tmp_path / "few.png", seed=3, num=8)
    sample.prior(trained.workdir, tmp_path / "many.png", seed=3, num=32)
    other = sample.prior(trained.workdir, tmp_path / "other.png", seed=4, num=8)
    with Image.open(tmp_path / "few.png") as first, Image.open(tmp_path / "many.png") as all_rows:
        np.testing.assert_array_equal(np.asarray(all_rows)[: first.height], np.asarray(first))
    assert few["digest"] != other["digest"]


@pytest.mark.parametrize("verb", ["reconstruct", "interpolate", "traverse"])
def test_takes_own_or_given_images(trained, tmp_path, verb):
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(tmp_path / "in" / f"{i}.png")
    own = sample.VERBS[verb](trained.workdir, tmp_path / "own.png")
    given = sample.VERBS[verb](trained.workdir, tmp_path / "given.png", images=(str(tmp_path / "in"),))
    assert own["digest"] != given["digest"]
    assert given["images"] == {"reconstruct": 3, "interpolate": 2 * 12, "traverse": 4 * 11}[verb]


def test_interpolate_begins_and_ends_with_the_images(trained, tmp_path):
    names = []
    for i in range(2):
        image = np.random.default_rng(i).integers(0, 256, (8, 8), np.uint8)
        names.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(image).save(names[-1])
    sample.interpolate(trained.workdir, tmp_path / "out.png", steps=3, images=tuple(names))  # several --images
    with Image.open(tmp_path / "out.png") as grid:
        shown = np.asarray(grid)
    assert shown.shape == (68, 5 * 66 + 2)  # each pixel is repeated 8 times
    for name, left in zip(names, (2, 4 * 66 + 2), strict=True):
        with Image.open(name) as image:
            np.testing.assert_array_equal(shown[2:66:8, left : left + 64 : 8], np.asarray(image))


def test_interpolate_shows_16_bits(trained, tmp_path, monkeypatch):
    config = dataclasses.replace(trained, data=dataclasses.replace(trained.data, bits=16))
    black = lambda start, end, num: np.zeros((num, *start.shape))  # noqa: E731
    between = types.SimpleNamespace(config=config, step=12, interpolate=black)
    monkeypatch.setattr(sample, "load_sampler", lambda *arguments: between)
    names = [str(tmp_path / f"{level}.png") for level in (100, 30)]
    for name, level in zip(names, (100, 30), strict=True):
        Image.fromarray(np.full((8, 8), level, np.uint8)).save(name)
    sample.interpolate("", tmp_path / "out.png", steps=1, images=tuple(names))
    with Image.open(tmp_path / "out.png") as grid:
        assert np.asarray(grid)[30, [30, 96, 162]].tolist() == [100, 0, 30]


def test_overwrites_nothing(trained, tmp_path):
    (tmp_path / "out.png").write_text("mine")
    for verb in sample.VERBS.values():
        with pytest.raises(ValueError, match="exists already"):
            verb(trained.workdir, tmp_path / "out.png")
    assert (tmp_path / "out.png").read_text() == "mine"


def test_refuses_wrong_counts_with_the_number(trained, tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "in" / "one.png")
    for verb, options, said in [
        (sample.prior, {"num": 0}, "--num must be at least 1, got 0"),
        (sample.interpolate, {"steps": -1}, "--steps must be at least 1, got -1"),
        (sample.traverse, {"dimensions": 0}, "--dimensions must be at least 1, got 0"),
        (sample.interpolate, {"images": (str(tmp_path / "in"),)}, "at least 2 images, and --images .*in holds 1"),
        (sample.prior, {"temperature": (float("nan"),)}, r"--temperature must lie in \[0, 1e6\], got nan"),
        (sample.prior, {"seed": 2**32}, "a seed must lie in .*, got 4294967296"),
        (sample.prior, {"out": tmp_path / "x.jpg"}, "x.jpg must end in .png"),
    ]:
        with pytest.raises(ValueError, match=said):
            verb(trained.workdir, **{"out": tmp_path / "out.png"} | options)


@pytest.mark.parametrize("verb", ["reconstruct", "interpolate", "traverse"])
def test_takes_no_larger_images_than_asked(trained, tmp_path, verb):
    Image.fromarray(np.zeros((1000, 1100), np.uint8)).save(tmp_path / "large.png")
    with pytest.raises(ValueError, match="large.png: its 1.1 megapixels exceed --max-megapixels 1 "):
        sample.VERBS[verb](trained.workdir, tmp_path / "out.png", images=(tmp_path / "large.png",), max_megapixels=1)


def test_reads_only_the_images_needed(trained, tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.png").write_text("no image")
    assert (
        sample.reconstruct(trained.workdir, tmp_path / "out.png", num=1, images=(str(tmp_path / "in"),))["images"] == 1
    )
