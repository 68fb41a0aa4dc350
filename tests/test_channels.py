"""Images of other channels and depths than 8-bit grey and colour, from their files through a training and back."""

import numpy as np
import pytest
from etils import epath
from PIL import Image

import translate
from genjax import cyclegan, vae
from genjax.data import folders, pictures
from genjax.data.pictures import Picture
from genjax.gan.translated_files import translate_files
from genjax.loading import load_sampler, load_translator
from genjax.train import loop
from genjax.train.rows import read_rows

pytestmark = pytest.mark.slow
RNG = np.random.default_rng(0)
SHORT = {"num_steps": 2, "log_every": 1, "eval_every": 2, "checkpoint_every": 2, "num_sample_images": 4}


def noise(*shape, dtype=np.uint8):
    return RNG.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def test_fit_trains_a_vae_of_other_channels(make_run, tmp_path):
    channels, bits = 5, 16
    images = noise(40, 8, 8, channels, dtype=np.uint16)
    np.savez(tmp_path / "images.npz", x_train=images)
    data = {"source": f"npz:{tmp_path}/images.npz", "channels": (channels,), "bits": bits}
    data |= {"binarize": "none", "dequantize": True}
    run = make_run(data=data, train=SHORT, vae={"likelihood": "gaussian"})
    loop.fit(vae.TASK, run)
    rebuilt = load_sampler(run.workdir).encode(images[:3])
    assert np.isfinite(rebuilt.mean).all()
    (row,) = [row for row in read_rows(epath.Path(run.workdir) / "metrics.jsonl") if "validation/elbo" in row]
    dims = 64 * channels * np.log(2)
    assert row["validation/bits_per_dim"] == pytest.approx(-row["validation/elbo"] / dims + bits, rel=1e-5)
    with Image.open(epath.Path(run.workdir) / "samples" / "samples-00000002.png") as grid:
        assert grid.mode == "RGB"


def test_fit_translates_between_other_channels(make_cyclegan, tmp_path):
    pytest.importorskip("tifffile")
    for name, channels in (("A", 2), ("B", 5)):
        for split, number in (("train", 8), ("val", 2), ("test", 2)):
            for i in range(number):
                image = Picture(noise(16, 16, channels, dtype=np.uint16 if channels == 5 else np.uint8))
                pictures.write(tmp_path / f"{split}{name}" / f"{i}.tif", image)
    data = {"source": f"folder:{tmp_path}", "channels": (2, 5), "bits": 16, "batch_size": 8}
    loss = {"identity_a": 0.0, "identity_b": 0.0}
    run = make_cyclegan(data=data | {"cache_dir": str(tmp_path / "cache")}, train=SHORT, loss=loss)
    loop.fit(cyclegan.TASK, run)
    translator, out = load_translator(run.workdir), epath.Path(tmp_path / "out")
    for direction, name, channels in (("a2b", "A", 5), ("b2a", "B", 2)):
        options = translate.Translate(workdir=run.workdir, direction=direction, images=("",), out="")
        page = folders.Page(epath.Path(tmp_path / f"test{name}" / "0.tif"), None)
        files = translate.files_of(run.data, options)
        translate_files(translator, direction, {page: out / f"{name}.tif"}, files)
        (path,) = [path for path in out.iterdir() if path.name.startswith(name)]
        found = pictures.to_planes(pictures.read(path))
        assert found.shape == (16, 16, channels)
        assert found.dtype == (np.uint8 if name == "A" else np.uint16)  # the depth of the image
    grids = list((epath.Path(run.workdir) / "samples").iterdir())
    assert len(grids) == 2
    for path in grids:
        with Image.open(path) as grid:
            assert grid.mode == "RGB"
