"""Configurations of optimisers and trainings refuse what cannot work, with the numbers and the remedy."""

import dataclasses
import re

import pytest

from genjax.checks import flag
from genjax.config import OptimConfig, TrainConfig, seed_of, with_num_steps
from good_configs import build, cyclegan_run, linear, run
from refused import refusal


@pytest.mark.parametrize(
    "kind, changes, message",
    [
        (OptimConfig, {"learning_rate": 0.0}, "--optim.learning-rate must be positive, got 0.0"),
        (OptimConfig, {"learning_rate": float("nan")}, "--optim.learning-rate must be finite, got nan"),
        (OptimConfig, {"eps": float("inf")}, "--optim.eps must be finite, got inf"),
        (OptimConfig, {"warmup": -0.1}, "--optim.warmup must be a share in [0, 1), got -0.1: give --optim.warmup 0.05"),
        (OptimConfig, {"warmup": 100.0}, "--optim.warmup must be a share in [0, 1), got 100.0"),
        (OptimConfig, {"eps": 0.0}, "--optim.eps must be positive, got 0.0"),
        (OptimConfig, {"b1": 1.0}, "--optim.b1 must lie in [0, 1), got 1.0"),
        (OptimConfig, {"b2": -0.1}, "--optim.b2 must lie in [0, 1), got -0.1"),
        (OptimConfig, {"ema_decay": 1.0}, "--optim.ema-decay must lie in [0, 1), got 1.0"),
        (OptimConfig, linear(0.0), "--optim.decay must be a share in (0, 1], got 0.0: give --optim.decay 0.5"),
        (OptimConfig, linear(100.0), "--optim.decay must be a share in (0, 1], got 100.0"),
        *(
            (
                OptimConfig,
                {name: value, "schedule": schedule},
                f"{flag('optim', name)} {value} has no effect with schedule {schedule}: give "
                f"{remedy}, or --optim.schedule linear",
            )
            for schedule in ("constant", "cosine")
            for name, value, remedy in (
                ("decay", 0.25, "--optim.decay 0.5"),
                ("steps_per_epoch", 7, "--optim.steps-per-epoch 1"),
                ("linear_decay", "lua", "--optim.linear-decay epoch_end"),
            )
        ),
        (OptimConfig, linear(warmup=0.1), "schedule linear has no warm-up: give --optim.warmup 0, got 0.1"),
        (OptimConfig, linear(steps_per_epoch=0), "--optim.steps-per-epoch must be at least 1, got 0"),
        (OptimConfig, {"weight_decay": -0.1}, "--optim.weight-decay must not be negative, got -0.1"),
        (TrainConfig, {"num_sample_images": 0}, "--train.num-sample-images must be at least 1, got 0"),
        (TrainConfig, {"num_steps": 0}, "--train.num-steps must be at least 1, got 0"),
        (TrainConfig, {"log_every": 0}, "--train.log-every must be at least 1, got 0"),
        (TrainConfig, {"eval_every": 0}, "--train.eval-every must be at least 1, got 0"),
        (TrainConfig, {"checkpoint_every": 0}, "--train.checkpoint-every must be at least 1, got 0"),
        (TrainConfig, {"steps_per_dispatch": 0}, "--train.steps-per-dispatch must be at least 1, got 0"),
        (
            TrainConfig,
            {"steps_per_dispatch": 20},
            "--train.log-every 50 must be a multiple of --train.steps-per-dispatch 20",
        ),
        (TrainConfig, {"max_nonfinite_steps": 0}, "--train.max-nonfinite-steps must be at least 1, got 0"),
        (
            TrainConfig,
            {"checkpoint_every": 70, "eval_every": 20},
            "--train.checkpoint-every 70 must be a multiple of --train.eval-every 20",
        ),
        (
            TrainConfig,
            {"checkpoint_every": 20, "eval_every": 20, "keep_period": 30},
            "--train.keep-period 30 must be 0 or a multiple of --train.checkpoint-every 20",
        ),
        (
            TrainConfig,
            {"keep_period": -500},
            "--train.keep-period -500 must be 0 or a multiple of --train.checkpoint-every",
        ),
        *(
            (TrainConfig, {"profile": given}, f"START:STOP with START below STOP, such as 10:15, got {given}")
            for given in ("3", "5:5", "a:b", "3:4:5", "-1:2")
        ),
        (TrainConfig, {"profile": "99:101"}, "--train.profile 99:101 ends after --train.num-steps 100: give earlier"),
        (TrainConfig, {"track": ("wandb", "wandb")}, "--train.track needs different trackers, got wandb wandb"),
        (TrainConfig, {"accumulate": 0}, "--train.accumulate must be at least 1, got 0"),
        (TrainConfig, {"epochs": -1.0}, "--train.epochs must not be negative, got -1.0"),
    ],
)
def test_configs_refuse_values_out_of_range(kind, changes, message):
    assert message in refusal(ValueError, build, kind, **changes)


@pytest.mark.parametrize(("epochs", "several", "expected"), [(0.0, 1, 100), (2.0, 1, 51), (0.5, 1, 13), (2.0, 4, 52)])
def test_with_num_steps_covers_the_epochs(epochs, several, expected):
    train = {"epochs": epochs, "steps_per_dispatch": several}
    every = dict.fromkeys(("log_every", "eval_every", "checkpoint_every"), 20)
    assert with_num_steps(run(train=train | every), num_examples=101).train.num_steps == expected


def test_configurations_are_frozen_at_every_level():
    vae, cyclegan = run(), cyclegan_run()
    parts = [vae, vae.data, vae.optim, vae.train, vae.vae, cyclegan, cyclegan.cyclegan, cyclegan.loss]
    for part in parts:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, dataclasses.fields(part)[0].name, None)


def test_seed_of_prefers_a_streams_own_seed(make_run):
    run = make_run(seed=3, seeds={"data": 0})
    assert [seed_of(run, stream) for stream in ("init", "data", "noise")] == [3, 0, 3]
    with pytest.raises(ValueError, match=re.escape("seeds.noise must lie in [0, 2**31), got -1")):
        make_run(seeds={"noise": -1})
