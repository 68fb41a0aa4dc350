"""A loss term and networks from outside the library."""

import dataclasses

import jax.numpy as jnp
import pytest

from genjax import cyclegan
from genjax.cyclegan import losses
from genjax.cyclegan.config import CycleGanRun, LossConfig
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


TASK = cyclegan.make_task(terms={**losses.TERMS, "brightness": brightness})


def test_fit_trains_and_resumes_with_a_term_from_outside(tmp_path):
    for name, num in {"trainA": 6, "trainB": 7, "testA": 2, "testB": 3}.items():
        write_noise(tmp_path / "images" / name, num)
    data = {"source": f"folder:{tmp_path / 'images'}", "cache_dir": str(tmp_path / "cache")}
    sizes = {"num_blocks": 0, "pool_size": 8}
    run = tiny_cyclegan(str(tmp_path / "run"), data=data, cyclegan=sizes, loss=dataclasses.asdict(losses.MISSION))
    fields = {field.name: getattr(run, field.name) for field in dataclasses.fields(run)}
    config = MyRun(**fields | {"loss": MyLoss(**dataclasses.asdict(run.loss))})

    def fit(num_steps, loss=config.loss):
        train = dataclasses.replace(run.train, num_steps=num_steps, log_every=1, eval_every=1, checkpoint_every=1)
        return loop.fit(TASK, dataclasses.replace(config, train=train, loss=loss))

    with cheaply_compiled():
        assert fit(2).resumed_from == 0
        assert fit(3).resumed_from == 2
    rows = [row for row in read_rows(tmp_path / "run" / "metrics.jsonl") if "g_loss" in row]
    assert len(rows) == 3
    for row in rows:
        terms = {name: row[name] for name in losses.TERMS | {"brightness": 0} if name in row}
        assert row["brightness"] > 0 and len(terms) == 7
        expected = sum(getattr(config.loss, name) * value for name, value in terms.items())
        assert row["g_loss"] == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="loss.brightness: 2.0 -> 1.0"):
        fit(4, dataclasses.replace(config.loss, brightness=1.0))
