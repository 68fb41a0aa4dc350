"""Starts from other weights: which weights, recorded how, resumed without their source, and what is refused."""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fitted import fit
from genjax import cyclegan, export, keys, vae
from genjax.config import RunConfig
from genjax.loading import load, load_sampler
from starting import equal, prepared
from tiny import tiny_cyclegan, tiny_run
from untrained import write_checkpoint

pytestmark = pytest.mark.slow


def init(task, config, seed=5):
    """A state of random numbers, without compiling anything."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: task.init(config, keys.root_key(0)))
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), shapes)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Path of a CycleGAN run, and its state, whose averages differ from the generators' parameters."""
    config = tiny_cyclegan(str(tmp_path_factory.mktemp("source") / "run"))
    state = init(cyclegan.TASK, config)
    write_checkpoint(config, state, 1)
    return config.workdir, state


def test_prepared_takes_averages_and_digest_of_a_run_or_its_file(trained, make_run, tmp_path):
    file = export.export(load(trained.workdir), "safetensors", tmp_path / "vae.safetensors")
    result = json.loads(Path(trained.workdir, "result.json").read_text())
    for path, sha256 in ((trained.workdir, result["digest"]), (file, hashlib.sha256(file.read_bytes()).hexdigest())):
        config, parts = prepared(make_run(), path)
        assert config.init_from_sha256 == (sha256,)
        assert equal(parts, {"vae": load_sampler(trained.workdir).params})
    _, parts = prepared(make_run(), trained.workdir, init_which="8")
    assert equal(parts, {"vae": load_sampler(trained.workdir, 8).params})


def test_begin_replaces_parameters_alone(trained, make_run):
    _, parts = prepared(make_run(), trained.workdir)
    before = init(vae.TASK, make_run(), seed=6)
    after = vae.TASK.starts.begin(before, parts)
    assert equal(after.net.params, parts["vae"]) and equal(after.ema, parts["vae"])
    assert equal(after._replace(net=before.net, ema=before.ema), before) and not equal(after, before)
    assert equal(after.net.opt_state, before.net.opt_state)


def test_prepared_takes_all_parts_or_generators_at_any_image_size(source, make_cyclegan, tmp_path):
    workdir, state = source
    larger = make_cyclegan(data={"image_size": (24, 32), "source": "folder:other"})
    names = {"auto": ["a2b", "b2a", "d_a", "d_b"], "all": ["a2b", "b2a", "d_a", "d_b"], "generators": ["a2b", "b2a"]}
    fresh = init(cyclegan.TASK, larger, seed=6)
    for choice, expected in names.items():
        _, parts = prepared(larger, workdir, init_parts=choice)
        assert list(parts) == expected
        after = cyclegan.TASK.starts.begin(fresh, parts)
        assert equal(after.ema, state.ema) and equal(after.g_a2b.params, state.ema["a2b"])
        assert equal(after.g_b2a.params, state.ema["b2a"]) and equal(after.g_b2a.opt_state, fresh.g_b2a.opt_state)
        kept = state if "d_a" in expected else fresh
        assert equal(after.d_a.params, kept.d_a.params) and equal(after.d_b.params, kept.d_b.params)
        assert equal(after.pool_a, fresh.pool_a)
    file = export.export(load(workdir), "safetensors", tmp_path / "gan.safetensors")
    _, parts = prepared(larger, file)
    assert equal(parts, state.ema)
    with pytest.raises(ValueError, match="gan.safetensors: it holds no d_a d_b: give --init-parts generators or auto"):
        prepared(larger, file, init_parts="all")


def test_begin_takes_singular_vectors_with_discriminators(make_cyclegan):
    config = make_cyclegan(cyclegan={"spectral_norm": True})
    state, fresh = init(cyclegan.TASK, config), init(cyclegan.TASK, config, seed=6)
    parts = cyclegan.TASK.starts.parts(state)
    after = cyclegan.TASK.starts.begin(fresh, parts)
    assert equal(after.spectral, state.spectral) and not equal(fresh.spectral, state.spectral)
    assert cyclegan.TASK.starts.choose(
        dataclasses.replace(config, init_from=("x",), init_parts="generators"), tuple(parts)
    ) == ("a2b", "b2a")


def test_prepared_leaves_out_what_a_run_lacks(make_cyclegan, tmp_path):
    config = make_cyclegan(str(tmp_path / "converted"))
    state = init(cyclegan.TASK, config)
    parts = jax.tree.map(lambda leaf: leaf * jnp.nan, cyclegan.TASK.starts.parts(state))
    nothing = {name: parts[name] for name in ("a2b", "b2a")}
    missing = {name: getattr(state, name)._replace(params=parts[name]) for name in ("d_a", "d_b")}
    lacking = state._replace(ema=state.ema | {"b2a": nothing["b2a"]}, **missing)
    write_checkpoint(config, lacking, 1)
    _, parts = prepared(make_cyclegan(), config.workdir)
    assert list(parts) == ["a2b"]
    shutil.rmtree(config.workdir)
    write_checkpoint(config, lacking._replace(ema=nothing), 1)
    with pytest.raises(ValueError, match="holds no weights that are finite numbers"):
        prepared(make_cyclegan(), config.workdir)


def test_fit_resumes_without_the_source_to_the_same_bytes(trained, tmp_path):
    copy = shutil.copytree(trained.workdir, tmp_path / "copy")
    config = tiny_run(str(tmp_path / "whole"), init_from=(str(copy),), train={"num_steps": 8}, seed=7)
    whole = fit(config)
    assert json.loads((tmp_path / "whole" / "config.json").read_text())["init_from"] == [str(copy)]
    resumed = dataclasses.replace(
        config, workdir=str(tmp_path / "resumed"), train=dataclasses.replace(config.train, num_steps=4)
    )
    fit(resumed)
    shutil.rmtree(copy)
    after = fit(dataclasses.replace(config, workdir=resumed.workdir))
    assert (after.resumed_from, after.digest) == (4, whole.digest)
    for name in ("metrics.jsonl", "config.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "resumed" / name).read_bytes()
    alone = dataclasses.replace(config, workdir=resumed.workdir, init_from=())
    with pytest.raises(ValueError, match=r"another configuration:[\s\S]*init_from_sha256: \('\w+',\) -> \(\)"):
        fit(alone)
    shutil.rmtree(tmp_path / "resumed" / "checkpoints")
    with pytest.raises(FileNotFoundError, match="there is no file .*copy"):
        fit(dataclasses.replace(config, workdir=resumed.workdir))


def test_fit_refuses_to_begin_a_finished_run_from_elsewhere(trained):
    with pytest.raises(ValueError, match=r"another configuration:[\s\S]*init_from_sha256: \(\) -> \('"):
        fit(dataclasses.replace(trained, init_from=(trained.workdir,)))


def test_prepared_refuses_another_source_under_the_same_name(trained, make_run):
    config, _ = prepared(make_run(), trained.workdir)
    with pytest.raises(ValueError, match="is not what this run began from: its SHA-256 is .*, not .*Restore it"):
        prepared(config, trained.workdir, init_which="8", init_from_sha256=config.init_from_sha256)


# Runs that do not fit.


def test_prepared_refuses_runs_that_do_not_fit(trained, source, make_run, make_cyclegan, tmp_path):
    wider, other = make_run(vae={"hidden_sizes": (16, 16)}), make_run(vae={"activation": "tanh"})
    (tmp_path / "pointer.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    (tmp_path / "x.pth").write_text("x")
    for config, path, changes, said in [
        (wider, trained.workdir, {}, r"vae/decoder/Dense_1/\w+ is .*\): give --vae.hidden-sizes 16$"),
        (other, trained.workdir, {}, "trained with --vae.activation gelu, and this run has --vae.activation tanh"),
        (make_run(), source[0], {}, "holds a cyclegan run, and a vae run is needed"),
        (make_run(), trained.workdir, {"init_which": "3"}, "no such checkpoint is kept: give last, or a step of"),
        (make_run(), tmp_path / "pointer.safetensors", {}, "pointer.safetensors is a Git LFS pointer"),
        (make_run(), tmp_path / "none.safetensors", {}, "there is no file"),
        (make_run(), tmp_path / "none", {}, "there is no file"),
        (make_run(), tmp_path / "x.pth", {}, "a VAE begins from a run directory or a file of weights"),
        (make_run(), tmp_path / "x.pth", {"init_which": "best"}, "is no run directory"),
        (make_run(), tmp_path, {}, "holds no run"),
        (make_run(), trained.workdir, {"init_key": ("a",)}, "holds all the weights"),
        (make_cyclegan(cyclegan={"discriminator": "pixel"}), source[0], {}, "--cyclegan.discriminator patch, and this"),
        (
            make_cyclegan(cyclegan={"discriminator_channels": 3}),
            source[0],
            {},
            r"d_a/\w+/\w+ is .*discriminator-channels 2",
        ),
    ]:
        with pytest.raises((ValueError, FileNotFoundError), match=said):
            prepared(config, path, **changes)
    apart = make_cyclegan(cyclegan={"discriminator": "pixel"})
    assert prepared(apart, source[0], init_parts="generators")[1].keys() == {"a2b", "b2a"}


def test_configurations_refuse_settings_without_effect(make_run, make_cyclegan):
    for make, changes, said in [
        (make_run, {"init_which": "best"}, "--init-which has no effect without --init-from"),
        (make_run, {"init_key": ("a",)}, "--init-key has no effect"),
        (make_run, {"init_from": ("a",), "init_which": "first"}, "must be last, best or a step, got first"),
        (make_run, {"init_from": ("a",), "init_from_sha256": ("a", "b")}, "one for each of --init-from a"),
        (make_cyclegan, {"init_parts": "all"}, "--init-parts has no effect"),
    ]:
        with pytest.raises(ValueError, match=said):
            make(**changes)
    assert RunConfig.init_from == ()
