"""The recipes of genjax/README.md from outside the library: each trains three steps, the last of them resumed."""

import dataclasses
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import cyclegan, vae
from genjax.cyclegan import losses
from genjax.cyclegan.config import CycleGanRun, LossConfig
from genjax.data.splits import Splits
from genjax.gan import generators
from genjax.gan.networks import TwoWay
from genjax.loading import load_sampler, load_translator
from genjax.train.loop import fit
from genjax.train.multi_seed import compile_once
from genjax.train.rows import read_rows
from genjax.vae.model import from_config
from tiny import tiny_cyclegan, tiny_run, write_noise


def rows_of_three_steps(task, config, **train):
    """Trains two steps, resumes for a third, and returns the rows of metrics.jsonl."""
    every = {"log_every": 1, "eval_every": 1, "checkpoint_every": 1, **train}
    make_programs = compile_once()
    for num_steps in (2, 3):
        config = dataclasses.replace(config, train=dataclasses.replace(config.train, num_steps=num_steps, **every))
        result = fit(task, config, make_programs)
    assert (result.resumed_from, result.step) == (2, 3)
    return list(read_rows(f"{config.workdir}/metrics.jsonl")), result


# A loss term: a function, a line in the dict of terms, a weight in the configuration.


@dataclasses.dataclass(frozen=True, kw_only=True)
class MyLoss(LossConfig):
    brightness: float = 2.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class MyRun(CycleGanRun):
    loss: MyLoss


def brightness(n):
    return jnp.abs(jnp.mean(n.fake_b - n.a, axis=(1, 2, 3)))


def noise_run(path):
    for name, num in {"trainA": 6, "trainB": 7, "testA": 2, "testB": 3}.items():
        write_noise(path / "images" / name, num)
    data = {"source": f"folder:{path / 'images'}", "cache_dir": str(path / "cache")}
    return tiny_cyclegan(str(path / "run"), data=data)


@pytest.mark.slow
def test_fit_trains_with_another_loss_term(tmp_path):
    run = noise_run(tmp_path)
    config = MyRun(**vars(run) | {"loss": MyLoss(**vars(run.loss))})
    task = cyclegan.make_task(small_networks, {**losses.TERMS, "brightness": brightness})
    rows, _ = rows_of_three_steps(task, config)
    for row in (row for row in rows if "g_loss" in row):
        terms = {name: value for name, value in row.items() if hasattr(config.loss, name)}
        expected = sum(getattr(config.loss, name) * value for name, value in terms.items())
        assert row["brightness"] > 0 and row["g_loss"] == pytest.approx(expected, rel=1e-5)
    assert load_translator(config.workdir, make_networks=small_networks, config_class=MyRun).step == 3
    with pytest.raises(ValueError, match="extra fields found .brightness.* take config_class=YourRun"):
        load_translator(config.workdir)
    weaker = dataclasses.replace(config, loss=dataclasses.replace(config.loss, brightness=1.0))
    with pytest.raises(ValueError, match="loss.brightness: 2.0 -> 1.0"):
        fit(task, weaker)


# A network: a Linen module, put in the place of the library's.


def small_networks(config):
    generator = generators.Generator(nn.Conv(4, (3, 3)), nn.Conv(1, (3, 3)))
    return TwoWay(generator, generator, nn.Conv(1, (5, 5)), nn.Conv(1, (5, 5)))


@pytest.mark.slow
def test_fit_trains_other_networks_of_a_cyclegan(tmp_path):
    _, result = rows_of_three_steps(cyclegan.make_task(small_networks), noise_run(tmp_path))
    assert result.state.d_a.params["kernel"].shape == (5, 5, 1, 1)


class LinearEncoder(nn.Module):
    latent_dim: int

    @nn.compact
    def __call__(self, images):
        return jnp.split(nn.Dense(2 * self.latent_dim)(images.reshape(len(images), -1)), 2, axis=-1)


def linear_vae(config):
    return dataclasses.replace(from_config(config), encoder=LinearEncoder(config.vae.latent_dim))


@pytest.mark.slow
def test_fit_trains_another_network_of_a_vae(tmp_path):
    rows, result = rows_of_three_steps(vae.make_task(linear_vae), tiny_run(str(tmp_path / "run")))
    assert set(result.state.ema["encoder"]) == {"Dense_0"} and len({row["elbo"] for row in rows if "elbo" in row}) == 3
    sampler = load_sampler(tmp_path / "run", make_model=linear_vae)
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1), np.uint8)
    dense = sampler.params["encoder"]["Dense_0"]
    mean = (images / 255).reshape(2, -1) @ np.asarray(dense["kernel"])[:, :4] + np.asarray(dense["bias"])[:4]
    np.testing.assert_allclose(sampler.encode(images).mean, mean, rtol=1e-4, atol=1e-5)


# A data source: a function from the configuration to arrays, named python:MODULE.FUNCTION.

STRIPES = """
import numpy as np
from genjax.data.splits import Splits

def stripes(config):
    images = np.zeros((20, *config.image_size, 1), np.uint8)
    images[:, ::2] = np.arange(20)[:, None, None, None]
    return Splits(train=(images[:16],), validation=(images[16:18],), test=(images[18:],))
"""


@pytest.mark.slow
def test_fit_trains_on_another_source(tmp_path, monkeypatch):
    (tmp_path / "my_images.py").write_text(STRIPES)
    monkeypatch.syspath_prepend(tmp_path)
    run = tiny_run(str(tmp_path / "run"), data={"source": "python:my_images.stripes"})
    rows_of_three_steps(vae.TASK, run)
    sys.modules.pop("my_images")


# A metric of a whole set: a function that compiles what it needs once, and returns a function of the state.


def brightest(config, mesh):
    model = from_config(config)
    decode = jax.jit(lambda params, e: model.decode(params, model.generate(params, e)).mean())

    def evaluate(state, splits: Splits, split):
        noise = np.random.default_rng(0).normal(size=(16, config.vae.latent_dim)).astype(np.float32)
        return {"brightest": float(decode(state.ema, jax.device_put(noise)).max())}

    return evaluate


def test_fit_evaluates_another_metric(tmp_path):
    scores = {**vae.TASK.scores, "brightest": ("brightest",)}  # it may choose the best checkpoint
    task = vae.TASK._replace(evaluators=(*vae.TASK.evaluators, brightest), scores=scores)
    rows, result = rows_of_three_steps(task, tiny_run(str(tmp_path / "run")), best_by="brightest")
    evaluated = [row["validation/brightest"] for row in rows if "validation/elbo" in row]
    assert len(evaluated) == 3 and 0 < result.test["brightest"] < 1


def test_evaluators_must_not_share_a_name(tmp_path):
    task = vae.TASK._replace(evaluators=(*vae.TASK.evaluators, brightest, brightest))
    with pytest.raises(ValueError, match="two evaluators give the metric brightest: rename one"):
        rows_of_three_steps(task, tiny_run(str(tmp_path / "run")))
