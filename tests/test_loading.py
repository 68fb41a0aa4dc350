"""What loading imports, and samplers of trained VAEs."""

import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from genjax import keys, parallel
from genjax.data import sources
from genjax.keys import Stream
from genjax.loading import Sampler, Translator, load_sampler, load_translator
from genjax.train import checkpoint
from genjax.train.rows import read_rows
from genjax.vae import masks
from genjax.vae.inference import InferenceConfig
from genjax.vae.operators import Mask

pytestmark = pytest.mark.slow

NOT_IMPORTED = ("tyro", "matplotlib", "google.cloud", "orbax", "tensorflow", "clu", "tensorflow_datasets", "torch")


def test_import_brings_no_more_than_needed():
    """Rich is not among them: Flax itself imports it."""
    code = f"import sys, genjax.loading; print([name for name in {NOT_IMPORTED} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("family", [Sampler, Translator])
def test_methods_have_signatures_and_docstrings(family):
    for name, method in inspect.getmembers(family, inspect.isfunction):
        if not name.startswith("_"):
            assert method.__doc__ and "return" in method.__annotations__, name


@pytest.fixture(scope="module")
def sampler(trained):
    return load_sampler(trained.workdir)


@pytest.fixture(scope="module")
def test_images(trained):
    return sources.load(trained.data, trained.seed).test[0]


@pytest.mark.parametrize("num", [1, 8])
def test_prior_is_a_prefix_on_any_devices(trained, sampler, num):
    key = keys.root_key(5)
    whole = sampler.prior(key, np.arange(128))
    other = load_sampler(trained.workdir, mesh=parallel.make_mesh(jax.devices()[:num]))
    np.testing.assert_array_equal(other.prior(key, np.arange(64)), whole[:64])
    pieces = [other.prior(key, np.arange(start, stop)) for start, stop in [(0, 3), (3, 70), (70, 128)]]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    assert len(np.unique(whole.reshape(128, -1), axis=0)) == 128


def test_sampler_takes_seeds_and_numbers_of_images(sampler, test_images):
    key, position = keys.root_key(5), np.arange(4)
    np.testing.assert_array_equal(sampler.prior(5, 4), sampler.prior(key, position))
    np.testing.assert_array_equal(sampler.prior(np.int64(5), [1, 3]), sampler.prior(key, position)[[1, 3]])
    np.testing.assert_array_equal(
        sampler.reconstruct(5, 4, test_images[:4]), sampler.reconstruct(key, position, test_images[:4])
    )


def test_repr_is_a_short_line(trained, sampler, trained_identity):
    translator = load_translator(trained_identity.workdir)
    assert repr(sampler) == f"Sampler({trained.workdir!r}, step 12: mlp VAE of 8x8x1 images, 2,344 parameters)"
    assert f"{translator}".startswith("Translator('") and len(f"{translator}") < 300
    assert re.search(r"run', step 4: resnet cyclegan of 3 and 3 channels, 2,\d+ parameters\)$", f"{translator}")


def test_prior_at_temperature_0_draws_one_image(sampler):
    cold, warm = (sampler.prior(keys.root_key(0), np.arange(8), temperature) for temperature in (0.0, 1.0))
    assert np.ptp(cold, axis=0).max() == 0 < np.ptp(warm, axis=0).max()


def test_sampler_draws_the_same_in_float64(trained, test_images):
    sampler = load_sampler(trained.workdir)
    key, position, inference = keys.root_key(0), np.arange(3), InferenceConfig(num_warmup=2, thinning=1, num_chains=2)

    def draws():
        yield sampler.prior(key, position, 0.8)
        yield sampler.reconstruct(key, position, test_images[:3])
        for name in ("random-0.5", "rectangles"):
            yield masks.named(name, key, position, (8, 8))
        half = masks.named("half-left", key, position, (8, 8))
        for method in ("pseudo_gibbs", "importance"):
            yield sampler.restore(Mask(half), test_images[:3], key, method, 2, inference).images

    with jax.enable_x64(True):
        wide = list(draws())
    for narrow, other in zip(draws(), wide, strict=True):
        np.testing.assert_allclose(other, narrow, atol=1e-4)


def test_reconstruct_treats_each_image_alone(sampler, test_images):
    whole = sampler.reconstruct(keys.root_key(0), np.arange(100), test_images[:100])
    part = sampler.reconstruct(keys.root_key(0), np.arange(40, 50), test_images[40:50])
    np.testing.assert_array_equal(part, whole[40:50])


def test_sampler_noise_is_that_of_no_training(trained, sampler, test_images, monkeypatch):
    """The keys of the rows that each function draws from, of the first steps and positions."""
    root = keys.root_key(0)
    drawn = {"init": [keys.for_step(root, Stream.INIT, 0)]}
    for stream in (Stream.TRAIN, Stream.VALIDATION, Stream.TEST, Stream.SAMPLE, Stream.PRIOR, Stream.RECONSTRUCT):
        parts = [jax.random.split(keys.for_step(root, stream, step)) for step in range(4)]
        drawn[stream] = [keys.per_example(part, np.arange(8)) for pair in parts for part in pair] + parts
    seen = [tuple(row) for found in drawn.values() for key in found for row in np.atleast_2d(jax.random.key_data(key))]
    assert len(set(seen)) == len(seen)

    used = []
    monkeypatch.setattr(keys, "for_step", lambda key, stream, step: used.append((stream, step)) or key)
    fresh = load_sampler(trained.workdir)
    fresh.prior(keys.root_key(0), np.arange(2))
    fresh.reconstruct(keys.root_key(0), np.arange(2), test_images[:2])
    assert used == [(Stream.PRIOR, 0), (Stream.RECONSTRUCT, 0)]


def test_encode_and_decode_are_inverse_at_the_mean(trained, sampler, test_images):
    posterior = sampler.encode(test_images[:70])
    assert posterior.mean.shape == posterior.log_sigma.shape == (70, 4)
    ends = sampler.interpolate(test_images[0], test_images[69], 2)
    # start + (end - start) is not always end, by a rounding.
    np.testing.assert_allclose(sampler.decode(posterior.mean)[[0, 69]], ends, rtol=1e-5)
    np.testing.assert_array_equal(sampler.encode(test_images[3:5]).mean, posterior.mean[3:5])


def test_interpolate_includes_both_ends_and_is_symmetric(sampler, test_images):
    there = sampler.interpolate(test_images[0], test_images[1], 5)
    back = sampler.interpolate(test_images[1], test_images[0], 5)
    np.testing.assert_allclose(there, back[::-1], rtol=1e-5)
    assert np.abs(there[0] - there[-1]).max() > 1e-3


def test_traverse_passes_through_the_reconstruction(trained, sampler, test_images):
    ends = sampler.interpolate(test_images[0], test_images[0], 1)[0]
    rows = sampler.traverse(test_images[0], 2, np.linspace(-3, 3, 601))
    assert np.abs(rows - ends).max(axis=(1, 2, 3)).min() < 0.01 < np.abs(rows - ends).max()


def test_load_sampler_finds_best_last_and_steps(trained):
    rows = read_rows(Path(trained.workdir, "metrics.jsonl"))
    elbo = {row["step"]: row["validation/elbo"] for row in rows if "validation/elbo" in row}
    assert load_sampler(trained.workdir, "best").step == max(elbo, key=elbo.get)
    assert load_sampler(trained.workdir).step == 12
    assert load_sampler(trained.workdir, 8).step == 8
    with pytest.raises(ValueError, match="no such checkpoint is kept: give last, or a step of .*8 "):
        load_sampler(trained.workdir, 250)


def test_load_sampler_changes_nothing(trained):
    listing = lambda: {path: path.stat().st_mtime_ns for path in Path(trained.workdir).rglob("*")}  # noqa: E731
    before = listing()
    load_sampler(trained.workdir, "best")
    assert listing() == before


def test_sampler_refuses_what_does_not_fit(sampler, test_images):
    with pytest.raises(ValueError, match=r"uint16 images \[n, 8, 8, 1\], got uint8 \[1, 4, 8, 1\]"):
        sampler.reconstruct(keys.root_key(0), np.arange(1), test_images[:1, ::2])
    with pytest.raises(ValueError, match=r"got uint8 \[8, 8, 1\]: a single one is image\[None\]"):
        sampler.encode(test_images[0])
    with pytest.raises(ValueError, match="expected an array of images, got list: give np.stack"):
        sampler.encode(list(test_images[:2]))
    with pytest.raises(ValueError, match=r"expected one image \[h, w, c\], got \[2, 8, 8, 1\]: choose one"):
        sampler.traverse(test_images[:2], 0, np.zeros(1))
    for temperature in (-0.5, float("nan"), float("inf"), [[1.0]]):
        with pytest.raises(ValueError, match="a temperature must be finite and not negative, got"):
            sampler.prior(0, 1, temperature)
    with pytest.raises(ValueError, match="got float64"):
        sampler.interpolate(test_images[0] / 255, test_images[1], 3)
    with pytest.raises(ValueError, match="dimension 4 does not exist: latent dimensions are 0 to 3"):
        sampler.traverse(test_images[0], 4, np.zeros(1))
    with pytest.raises(ValueError, match=r"expected latents \[n, 4\], got \[2, 5\]"):
        sampler.decode(np.zeros((2, 5)))


def test_load_sampler_refuses_what_is_no_run(tmp_path, trained):
    with pytest.raises(FileNotFoundError, match="holds no run"):
        load_sampler(tmp_path)
    config = Path(trained.workdir, "config.json").read_text()
    Path(tmp_path, "config.json").write_text(config)
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        load_sampler(tmp_path)
    Path(tmp_path, "config.json").write_text(config.replace('"vae"', '"cyclegan"', 1))
    with pytest.raises(ValueError, match="cyclegan"):
        load_sampler(tmp_path)


@pytest.mark.parametrize("which", ["last", "best"])
def test_load_sampler_takes_another_checkpoint_if_one_is_removed(trained, tmp_path, monkeypatch, which):
    """By a training that goes on meanwhile: steps 4 and 8 give way to 12."""
    shutil.copytree(trained.workdir, tmp_path / "run")
    directory, hidden = tmp_path / "run" / "checkpoints", tmp_path / "12"
    (directory / "12").rename(hidden)
    usual = checkpoint.restore

    def restore(*args):
        if hidden.exists():
            for path in list(directory.iterdir()):
                shutil.rmtree(path)
            hidden.rename(directory / "12")
        return usual(*args)

    monkeypatch.setattr(checkpoint, "restore", restore)
    monkeypatch.setattr("genjax.train.checkpoint.REMOVAL_SECONDS", 0)
    assert load_sampler(tmp_path / "run", which).step == 12
