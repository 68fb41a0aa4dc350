"""sample.py: pictures that move, and samples from priors other than N(0, I)."""

import io

import numpy as np
import pytest
from PIL import Image

import sample
from genjax import keys
from genjax.data import image_arrays
from genjax.loading import load_sampler
from genjax.vae.aggregated import FitConfig


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_prior_draws_from_the_prior_that_was_asked_for(trained, tmp_path):
    def drawn(out, **options):
        return sample.prior(trained.workdir, str(tmp_path / out), num=4, **options)["digest"]

    normal, mixture = drawn("a.png"), drawn("b.png", prior="gaussian-mixture", fit=FitConfig(components=2))
    assert drawn("c.png", prior="gaussian-mixture", fit=FitConfig(components=2)) == mixture != normal
    assert drawn("d.png", prior="gaussian-mixture") != mixture and drawn("e.png") == normal
    with pytest.raises(ValueError, match="--fit.components 2 has no effect here"):
        drawn("f.png", fit=FitConfig(components=2))
    assert not (tmp_path / "f.png").exists()
