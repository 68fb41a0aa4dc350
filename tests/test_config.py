"""Configurations refuse what cannot work, with the numbers and the remedy."""

import dataclasses

import pytest

from genjax.config import DataConfig, OptimConfig, TrainConfig, VaeConfig, VaeRun

GOOD = {
    DataConfig: {"source": "digits", "image_shape": (8, 8, 1), "batch_size": 4},
    OptimConfig: {"learning_rate": 1e-3},
    TrainConfig: {"num_steps": 100},
    VaeConfig: {},
}


def build(kind, **changes):
    return kind(**GOOD[kind] | changes)


def run(*, seed=0, **parts):
    names = {DataConfig: "data", OptimConfig: "optim", TrainConfig: "train", VaeConfig: "vae"}
    return VaeRun(
        workdir="unused", seed=seed, **{name: build(kind, **parts.get(name, {})) for kind, name in names.items()}
    )


@pytest.mark.parametrize(
    "kind, changes, message",
    [
        (DataConfig, {"image_shape": (0, 8, 1)}, "image_shape needs a positive height and width, got (0, 8, 1)"),
        (DataConfig, {"image_shape": (8, -1, 1)}, "image_shape needs a positive height and width, got (8, -1, 1)"),
        (DataConfig, {"image_shape": (8, 8, 4)}, "1 (grey) or 3 (colour) channels, got (8, 8, 4)"),
        (DataConfig, {"batch_size": 0}, "batch_size must be at least 1, got 0"),
        (DataConfig, {"holdout": 0.0}, "holdout must lie between 0 and 0.5, got 0.0"),
        (DataConfig, {"holdout": 0.5}, "holdout must lie between 0 and 0.5, got 0.5"),
        (DataConfig, {"dequantize": True, "binarize": "fixed"}, "dequantize and binarize exclude each other"),
        (DataConfig, {"dequantize": True, "binarize": "stochastic"}, "dequantize and binarize exclude each other"),
        (DataConfig, {"decode_threads": 0}, "decode_threads must be at least 1, got 0"),
        (DataConfig, {"prefetch": 0}, "prefetch must be at least 1, got 0"),
        (OptimConfig, {"learning_rate": 0.0}, "learning_rate must be positive, got 0.0"),
        (OptimConfig, {"learning_rate": float("nan")}, "learning_rate must be positive, got nan"),
        (OptimConfig, {"warmup_steps": -1}, "warmup_steps must not be negative, got -1"),
        (OptimConfig, {"eps": 0.0}, "eps must be positive, got 0.0"),
        (OptimConfig, {"b1": 1.0}, "b1 must lie in [0, 1), got 1.0"),
        (OptimConfig, {"b2": -0.1}, "b2 must lie in [0, 1), got -0.1"),
        (OptimConfig, {"ema_decay": 1.0}, "ema_decay must lie in [0, 1), got 1.0"),
        (TrainConfig, {"num_steps": 0}, "num_steps must be at least 1, got 0"),
        (TrainConfig, {"log_every": 0}, "log_every must be at least 1, got 0"),
        (TrainConfig, {"eval_every": 0}, "eval_every must be at least 1, got 0"),
        (TrainConfig, {"checkpoint_every": 0}, "checkpoint_every must be at least 1, got 0"),
        (TrainConfig, {"max_skips": 0}, "max_skips must be at least 1, got 0"),
        (
            TrainConfig,
            {"checkpoint_every": 70, "eval_every": 20},
            "checkpoint_every (70) must be a multiple of eval_every (20)",
        ),
        (
            TrainConfig,
            {"checkpoint_every": 20, "eval_every": 20, "keep_every": 30},
            "keep_every (30) must be 0 or a multiple of checkpoint_every (20)",
        ),
        (TrainConfig, {"keep_every": -500}, "keep_every (-500) must be 0 or a multiple of checkpoint_every (500)"),
        (VaeConfig, {"hidden": ()}, "hidden needs positive widths, got ()"),
        (VaeConfig, {"hidden": (8, 0)}, "hidden needs positive widths, got (8, 0)"),
        (VaeConfig, {"latent_size": 0}, "latent_size must be at least 1, got 0"),
        (VaeConfig, {"sigma": 0.0}, "sigma must be positive, got 0.0"),
        (VaeConfig, {"beta": -1.0}, "beta must not be negative, got -1.0"),
        (VaeConfig, {"beta_warmup_steps": -1}, "beta_warmup_steps must not be negative, got -1"),
    ],
)
def test_a_field_out_of_range_is_refused_with_its_value(kind, changes, message):
    with pytest.raises(ValueError) as refusal:
        build(kind, **changes)
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"seed": -1}, "seed must lie in [0, 2**31), got -1"),
        ({"seed": 2**31}, f"seed must lie in [0, 2**31), got {2**31}"),
        ({"optim": {"warmup_steps": 100}}, "warmup_steps (100) must be below num_steps (100)"),
        (
            {"data": {"image_shape": (16, 7, 1)}, "vae": {"architecture": "conv", "hidden": (4, 4, 4)}},
            "16x7 images are too small for 3 stride-2 layers, which need at least 8x8",
        ),
        ({"data": {"dequantize": True}}, "a bernoulli likelihood cannot score: choose a gaussian one"),
        (
            {"data": {"binarize": "stochastic"}, "vae": {"likelihood": "gaussian"}},
            "binarize stochastic makes pixels 0 or 1, which calls for --vae.likelihood bernoulli",
        ),
        (
            {"data": {"binarize": "fixed"}, "vae": {"likelihood": "gaussian_learned"}},
            "binarize fixed makes pixels 0 or 1, which calls for --vae.likelihood bernoulli",
        ),
    ],
)
def test_parts_that_do_not_go_together_are_refused(changes, message):
    with pytest.raises(ValueError) as refusal:
        run(**changes)
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 2**31 - 1},
        {"optim": {"warmup_steps": 99, "b1": 0.0}},
        {"data": {"image_shape": (8, 8, 3), "batch_size": 1}, "vae": {"architecture": "conv", "hidden": (4, 4, 4)}},
        {
            "data": {"image_shape": (1, 1, 1), "decode_threads": 1, "prefetch": 1},
            "vae": {"hidden": (1,), "latent_size": 1},
        },
        {"train": dict.fromkeys(("num_steps", "log_every", "eval_every", "checkpoint_every", "max_skips"), 1)},
        {"data": {"dequantize": True}, "vae": {"likelihood": "gaussian_learned"}},
        {"data": {"binarize": "fixed"}, "vae": {"beta": 0.0}},
        {"train": {"eval_every": 20, "checkpoint_every": 40, "keep_every": 120}},
    ],
)
def test_the_last_allowed_values_are_accepted(changes):
    config = run(**changes)
    for part, fields in changes.items():
        for name, value in fields.items() if isinstance(fields, dict) else ():
            assert getattr(getattr(config, part), name) == value


def test_configurations_are_frozen_at_every_level():
    config = run()
    for part in (config, config.data, config.optim, config.train, config.vae):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, dataclasses.fields(part)[0].name, None)
