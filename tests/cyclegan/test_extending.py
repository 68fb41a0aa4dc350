"""Loss terms and networks from outside the library."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
import pytest

from genjax import cyclegan
from genjax.cyclegan import losses, nets
from genjax.cyclegan.config import CycleGanRun, LossConfig
from genjax.gan import generators
from genjax.train import loop
from genjax.train.writers import read_rows
from tiny import cheaply_compiled, tiny_cyclegan, write_noise


@dataclasses.dataclass(frozen=True, kw_only=True)
class MyLoss(LossConfig):
    brightness: float = 2.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class MyRun(CycleGanRun):
    loss: MyLoss


def brightness(n):
    return jnp.abs(jnp.mean(n.fake_b - n.a, axis=(1, 2, 3)))


def small_networks(config):
    generator = generators.Generator(nn.Conv(4, (3, 3)), nn.Conv(1, (3, 3)))
    return nets.Networks(generator, generator, nn.Conv(1, (5, 5)), nn.Conv(1, (5, 5)))


TASK = cyclegan.make_task(small_networks, {**losses.TERMS, "brightness": brightness})


def test_fit_resumes_with_terms_and_networks_from_outside(tmp_path):
    for name, num in {"trainA": 6, "trainB": 7, "testA": 2, "testB": 3}.items():
        write_noise(tmp_path / "images" / name, num)
    data = {"source": f"folder:{tmp_path / 'images'}", "cache_dir": str(tmp_path / "cache")}
    run = tiny_cyclegan(str(tmp_path / "run"), data=data, loss=dataclasses.asdict(losses.MISSION))
    fields = {field.name: getattr(run, field.name) for field in dataclasses.fields(run)}
    config = MyRun(**fields | {"loss": MyLoss(**dataclasses.asdict(run.loss))})

    def fit(num_steps, loss=config.loss):
        train = dataclasses.replace(run.train, num_steps=num_steps, log_every=1, eval_every=1, checkpoint_every=1)
        return loop.fit(TASK, dataclasses.replace(config, train=train, loss=loss))

    with cheaply_compiled():
        assert fit(2).resumed_from == 0
        resumed = fit(3)
    assert resumed.resumed_from == 2 and resumed.state.d_a.params["kernel"].shape == (5, 5, 1, 1)
    rows = [row for row in read_rows(tmp_path / "run" / "metrics.jsonl") if "g_loss" in row]
    assert len(rows) == 3
    for row in rows:
        terms = {name: row[name] for name in losses.TERMS | {"brightness": 0} if name in row}
        assert row["brightness"] > 0 and len(terms) == 7
        expected = sum(getattr(config.loss, name) * value for name, value in terms.items())
        assert row["g_loss"] == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="loss.brightness: 2.0 -> 1.0"):
        fit(4, dataclasses.replace(config.loss, brightness=1.0))
