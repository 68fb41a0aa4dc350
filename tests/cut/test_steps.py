"""State and steps: what is drawn, what learns, and what is promised of reproducibility."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import cut, keys
from genjax.cut import nets, steps
from genjax.loading import load_translator
from genjax.train import fingerprint, loop, multi_seed
from genjax.train.rows import read_rows
from studies.reproducibility.stepping import mesh_of, walk
from tiny import tiny_cut, write_domains
from translating import run
from two_domains import assert_step_agrees_on_devices, noise

pytestmark = pytest.mark.slow

ALL = {"mirror": True, "diff_augment": 0.5, "instance_noise": 0.1, "spectral_norm": True, "discriminator_norm": "none"}


def moved(before, after, name):
    old, new = (jax.tree.leaves(getattr(state, name).params) for state in (before, after))
    return [not np.array_equal(a, b) for a, b in zip(old, new, strict=True)]


def test_places_are_drawn_without_replacement():
    maps = {"pixels": jnp.zeros((2, 6, 5, 1)), "down_1": jnp.zeros((2, 3, 3, 4))}
    places = nets.draw_places(keys.root_key(0), maps, 12)
    assert {name: len(set(found.tolist())) for name, found in places.items()} == {"pixels": 12, "down_1": 9}
    assert set(places["down_1"].tolist()) == set(range(9)) and max(places["pixels"].tolist()) < 30
    assert set(nets.draw_places(keys.root_key(0), maps, 30)["pixels"].tolist()) == set(range(30))
    other = nets.draw_places(keys.root_key(1), maps, 12)
    assert not np.array_equal(places["pixels"], other["pixels"])
    numbered = {"pixels": jnp.arange(60.0).reshape(2, 6, 5, 1)}
    np.testing.assert_array_equal(nets.patches(numbered, places)["pixels"][1, :, 0], 30 + places["pixels"])


def test_heads_give_unit_vectors_and_finite_gradients():
    heads = nets.Heads(("pixels",), 64)
    patches = {"pixels": jnp.array(np.random.default_rng(0).normal(size=(2, 5, 3))).at[0, 0].set(0)}
    params = jax.jit(heads.init)(keys.root_key(0), patches)["params"]
    found = nets.project(heads, params, patches)["pixels"]
    norms = np.linalg.norm(found, axis=-1)
    assert norms[0, 0] == 0  # a patch of zeros has no direction
    np.testing.assert_allclose(norms.ravel()[1:], 1, rtol=1e-5)
    grads = jax.grad(lambda params: jnp.sum(nets.project(heads, params, patches)["pixels"] ** 3))(params)
    assert fingerprint.tree_digest(grads) and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


@pytest.mark.usefixtures("x64")
def test_steps_agree_on_one_and_eight_devices():
    metrics = assert_step_agrees_on_devices(cut.TASK, tiny_cut("unused", cut=ALL), ("g_a2b", "heads", "d_b"))
    assert {"g_loss", "d_b_loss", "nce_a", "nce_b", "correlation_a2b", "accuracy_d_b"} <= metrics.keys()


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A tiny run between folders of colour noise."""
    root = tmp_path_factory.mktemp("cut")
    data = write_domains(root, (10, 12, 3, 4)) | {"channels": (3, 3)}
    train = {"num_steps": 4, "eval_every": 2, "checkpoint_every": 2}
    return tiny_cut(str(root / "run"), data=data, train=train)


@pytest.fixture(scope="module")
def fit():
    """Trains runs that differ in directory and length alone, and share compiled functions."""
    make_programs = multi_seed.compile_once()
    return lambda run: loop.fit(cut.TASK, run, make_programs)


@pytest.fixture(scope="module")
def trained(config, fit):
    return fit(config)


def test_fit_has_equal_digests_twice_and_resumed(config, fit, trained, tmp_path):
    """R1, R2: the whole run again, and in two parts."""
    rows = []
    for name, parts in (("again", (4,)), ("parts", (2, 4))):
        for num in parts:
            run = dataclasses.replace(config, workdir=str(tmp_path / name), train=_until(config, num))
            result = fit(run)
        assert result.digest == trained.digest, name
        rows.append((tmp_path / name / "metrics.jsonl").read_bytes())
    assert rows[0] == rows[1]


def _until(config, num):
    return dataclasses.replace(config.train, num_steps=num)


def test_steps_skip_what_is_not_finite():
    config = tiny_cut("unused")
    init = jax.jit(lambda: steps.init(config, keys.root_key(0)))()
    broken = init._replace(heads=jax.tree.map(lambda x: x * jnp.nan, init.heads))
    task = cut.TASK._replace(init=lambda config, key: broken)
    ((after, metrics),) = walk(task, config, noise(), mesh_of(1), 1)
    assert (int(after.step), int(after.skipped)) == (1, 1) and not np.isfinite(metrics["g_loss"])
    assert not any(moved(init, after, "d_b") + moved(init, after, "g_a2b"))  # the discriminator waits too


def test_translate_refuses_the_way_back(config, trained, monkeypatch, tmp_path):
    images = config.data.source.removeprefix("folder:") + "/testB"
    with pytest.raises(ValueError, match="run translates a2b alone, not 'b2a': a cut run has one generator$"):
        run(monkeypatch, config.workdir, images, tmp_path / "out", "b2a")
    assert not (tmp_path / "out").exists()


def test_translator_refuses_the_way_back(config, trained):
    translator = load_translator(config.workdir)
    images = np.zeros((1, 9, 12, 3), np.uint8)
    assert translator.a2b(images).shape == (1, 9, 12, 3)
    with pytest.raises(ValueError, match="run translates a2b alone, not 'b2a': a cut run has one generator"):
        translator.b2a(images)
    assert "resnet cut of 3 and 3 channels" in repr(translator)
    metrics = {name for row in read_rows(config.workdir + "/metrics.jsonl") for name in row}
    assert {"validation/change_a2b", "validation/diversity_a2b"} <= metrics
    assert not [name for name in metrics if "b2a" in name or "cycle" in name]
