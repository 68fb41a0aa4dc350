"""State, steps and pictures: what is shared, what is drawn, and what is promised of reproducibility."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from genjax import keys, report, unit
from genjax.gan import translation
from genjax.loading import load_translator
from genjax.train import loop, multi_seed, starts
from genjax.train.rows import read_rows
from genjax.unit import nets, sampling, steps
from tiny import tiny_unit, write_domains
from translating import run
from two_domains import assert_step_agrees_on_devices

pytestmark = pytest.mark.slow


@pytest.mark.usefixtures("x64")
def test_steps_agree_on_one_and_eight_devices():
    metrics = assert_step_agrees_on_devices(unit.TASK, tiny_unit("unused"), ("coders", "d_a", "d_b"))
    assert {"g_loss", "d_a_loss", "d_b_loss", "kl_a", "cycle_kl_b", "cycle_a", "correlation_a2b"} <= metrics.keys()


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A tiny run between folders of colour noise."""
    root = tmp_path_factory.mktemp("unit")
    data = write_domains(root, (10, 12, 3, 4)) | {"channels": (3, 1)}
    train = {"num_steps": 2, "log_every": 1, "eval_every": 1, "checkpoint_every": 1}
    return tiny_unit(str(root / "run"), data=data, train=train)


@pytest.fixture(scope="module")
def fit():
    """Trains runs that differ in directory and length alone, and share compiled functions."""
    make_programs = multi_seed.compile_once()
    return lambda run: loop.fit(unit.TASK, run, make_programs)


@pytest.fixture(scope="module")
def trained(config, fit):
    return fit(config)


def test_fit_has_equal_digests_when_resumed(config, fit, trained, tmp_path):
    """R1, R2: the run again, in two parts."""
    for num in (1, 2):
        train = dataclasses.replace(config.train, num_steps=num)
        result = fit(dataclasses.replace(config, workdir=str(tmp_path / "parts"), train=train))
    assert result.digest == trained.digest


def test_averages_hold_what_is_shared_twice_and_equal(config, trained):
    params = load_translator(config.workdir).params
    for part in ("encoder", "decoder"):
        a2b, b2a = (params[way][part] for way in ("a2b", "b2a"))
        assert all(jax.tree.leaves(jax.tree.map(np.array_equal, a2b["shared"], b2a["shared"])))
        assert not all(jax.tree.leaves(jax.tree.map(lambda x, y: np.array_equal(x, y), *map(_first, (a2b, b2a)))))
    joined = nets.joined(params)
    again = nets.by_direction(joined)
    assert jax.tree.structure(again) == jax.tree.structure(params)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, again, params)))


def _first(coder):
    return coder["own"]["Conv_0"] if "Conv_0" in coder["own"] else coder["own"]["ConvTranspose_0"]


def test_pictures_come_from_the_shared_latent(config, trained):
    """The mean's decoding is the translation; paths begin and end at images; draws follow their keys alone."""
    params, rng = load_translator(config.workdir).params, np.random.default_rng(0)
    a, b = (jnp.array(rng.random((2, 16, 16, c)), jnp.float32) for c in (3, 1))

    @functools.partial(jax.jit, static_argnums=(0, 1))
    def draw(source, target, images, temperature=1.0, position=(0, 1)):
        example_keys = keys.per_example(keys.root_key(0), jnp.array(position, jnp.int32))
        return sampling.draw(config, params, source, target, images, example_keys, temperature)

    close = dict(atol=1e-5)
    a2b = jax.jit(lambda a: translation.translate(config, params, "a2b", a, nets.make_networks))(a)
    np.testing.assert_allclose(draw("a", "b", a, 0.0), a2b, **close)
    path = jax.jit(lambda a, b: sampling.interpolate(config, params, "a", a, b, 3))(a, b)
    assert path.shape == (2, 3, 16, 16, 3)
    np.testing.assert_allclose(path[:, 0], draw("a", "a", a, 0.0), **close)
    np.testing.assert_allclose(path[:, 2], draw("b", "a", b, 0.0), **close)
    drawn = draw("a", "a", a)
    assert np.abs(drawn - path[:, 0]).max() > 1e-3
    np.testing.assert_allclose(draw("a", "a", a[::-1], position=(1, 0)), drawn[::-1], **close)


def test_run_translates_reports_and_starts_another(config, trained, monkeypatch, tmp_path):
    images = config.data.source.removeprefix("folder:") + "/testB"
    assert run(monkeypatch, config.workdir, images, tmp_path / "out", "b2a")["images"] == 4
    with Image.open(tmp_path / "out" / "0.png") as translated:
        assert translated.mode == "RGB"
    assert "paths: from an image of A (left) to one of B, shown as" in report.write_run(config.workdir).read_text()
    metrics = {name for row in read_rows(f"{config.workdir}/metrics.jsonl") for name in row}
    assert {"kl_a", "cycle_kl_b", "validation/cycle_a2b", "validation/diversity_b2a"} <= metrics
    # Another training begins with the averages of this one.
    other = dataclasses.replace(config, workdir=str(tmp_path / "other"), init_from=(config.workdir,))
    other, parts = starts.prepared(unit.TASK, other)
    begun = unit.TASK.starts.begin(jax.jit(lambda: steps.init(other, keys.root_key(1)))(), parts)
    params = load_translator(config.workdir).params
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, begun.ema, params)))
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, nets.by_direction(begun.coders.params), params)))
