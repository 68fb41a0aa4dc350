"""Exported weights in place of a run: the same bytes of samples and translations, or one clear error."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from genjax import export, keys, parallel, vae
from genjax.data import sources
from genjax.loading import load, load_sampler, load_translator, restore
from genjax.train import config_file, weights_file

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(trained, trained_identity, tmp_path_factory):
    """The files of both families."""
    folder = tmp_path_factory.mktemp("exported")
    for run, name in ((trained, "vae"), (trained_identity, "cyclegan")):
        export.export(load(run.workdir), "safetensors", folder / f"{name}.safetensors")
    return folder


def test_load_sampler_takes_a_file_and_draws_the_same_bytes(trained, exported):
    run, file = load_sampler(trained.workdir), load_sampler(exported / "vae.safetensors")
    assert file.step == run.step == 12 and isinstance(load(exported / "vae.safetensors"), type(run))
    images = sources.load(trained.data, trained.seed).test[0][:5]
    for draw in (lambda s: s.prior(keys.root_key(3), np.arange(9)), lambda s: s.encode(images).mean):
        assert draw(file).tobytes() == draw(run).tobytes()
    one_device = load_sampler(exported / "vae.safetensors", mesh=parallel.make_mesh(jax.devices()[:1]))
    assert (
        one_device.prior(keys.root_key(3), np.arange(9)).tobytes()
        == run.prior(keys.root_key(3), np.arange(9)).tobytes()
    )


def test_load_translator_takes_a_file_and_translates_to_the_same_bytes(trained_identity, exported):
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 20, 3), np.uint8)
    run, file = load_translator(trained_identity.workdir), load_translator(exported / "cyclegan.safetensors")
    for direction in ("a2b", "b2a"):
        assert file.translate(direction, images).tobytes() == run.translate(direction, images).tobytes()


def test_export_records_provenance_and_repeats(trained, exported, tmp_path):
    found = weights_file.read(exported / "vae.safetensors")
    assert found.config == json.loads(Path(trained.workdir, "config.json").read_text())
    result = json.loads(Path(trained.workdir, "result.json").read_text())
    assert found.provenance["digest"] == result["digest"] and found.step == result["step"]
    assert found.provenance["images"] == json.loads(Path(trained.workdir, "data.json").read_text())
    assert found.provenance["environment"]["packages"]["jax"] and "git" in found.provenance["environment"]
    for source in (trained.workdir, exported / "vae.safetensors"):  # a file exports to itself
        again = export.export(load(source), "safetensors", tmp_path / f"{Path(source).stem}.safetensors")
        assert again.read_bytes() == (exported / "vae.safetensors").read_bytes()


def test_restore_gives_a_files_averages_to_evaluations(trained, exported):
    config, mesh = config_file.load(exported / "vae.safetensors"), parallel.make_mesh()
    step, state = restore(vae.TASK, config, mesh, "last")
    splits = sources.load(trained.data, trained.seed)
    found = vae.TASK.generate(config, mesh)(state, splits, "test", 4, 0)["samples"].pictures
    assert step == 12
    np.testing.assert_array_equal(found, load_sampler(trained.workdir).prior(keys.root_key(0), np.arange(4)))


def test_load_refuses_files_that_do_not_fit(trained, exported, tmp_path):
    file = exported / "vae.safetensors"
    with pytest.raises(ValueError, match="vae.safetensors holds a vae run, and a cyclegan or cut or unit run"):
        load_translator(file)
    with pytest.raises(ValueError, match="cyclegan.safetensors holds a cyclegan run"):
        load_sampler(exported / "cyclegan.safetensors")
    with pytest.raises(ValueError, match="holds the weights of step 12 alone, not 'best': leave out --which"):
        load_sampler(file, "best")
    assert load_sampler(file, 12).step == 12
    found = weights_file.read(file)
    wider = found.config | {"vae": found.config["vae"] | {"hidden_sizes": [17]}}
    params = load_sampler(file).params
    weights_file.write(tmp_path / "wider.safetensors", wider, 12, {}, params)
    with pytest.raises(
        ValueError, match=r"wider.safetensors does not hold .*: decoder/Dense_0/bias is \[16\], not \[17\]"
    ):
        load_sampler(tmp_path / "wider.safetensors")
    for changes, said in (({"family": "gan"}, "holds a gan run"), ({"genjax": "0.9"}, "made by genjax 0.9"),
                          ({"seed": -1}, "seed must lie"), ({"more": 1}, "extra fields")):  # fmt: skip
        weights_file.write(tmp_path / "odd.safetensors", found.config | changes, 12, {}, params)
        with pytest.raises(ValueError, match=f"odd.safetensors.*{said}"):
            load_sampler(tmp_path / "odd.safetensors")
