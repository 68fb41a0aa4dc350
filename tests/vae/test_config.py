"""Configurations of VAEs refuse what cannot work, with the numbers and the remedy."""

import numpy as np
import pytest

from genjax.vae.config import VaeConfig
from genjax.vae.inference import InferenceConfig
from good_configs import accepted, build, linear, run
from refused import refusal


@pytest.mark.parametrize(
    "kind, changes, message",
    [
        (VaeConfig, {"beta": float("inf")}, "--vae.beta must be finite, got inf"),
        (VaeConfig, {"hidden_sizes": ()}, "--vae.hidden-sizes needs positive numbers, got ()"),
        (VaeConfig, {"hidden_sizes": (8, 0)}, "--vae.hidden-sizes needs positive numbers, got (8, 0)"),
        (VaeConfig, {"latent_dim": 0}, "--vae.latent-dim must be at least 1, got 0"),
        (VaeConfig, {"sigma": 0.0}, "--vae.sigma must be positive, got 0.0"),
        (
            VaeConfig,
            {"sigma": 0.1},
            f"sigma 0.1 has no effect with likelihood bernoulli: give --vae.sigma {0.5**0.5}, or --vae.likelihood "
            "gaussian or gaussian_learned",
        ),
        (VaeConfig, {"beta": -1.0}, "--vae.beta must not be negative, got -1.0"),
        (VaeConfig, {"beta_warmup": 1.0}, "--vae.beta-warmup must be a share in [0, 1), got 1.0"),
        (VaeConfig, {"beta": 0.0, "beta_warmup": 0.1}, "--vae.beta-warmup 0.1 has no effect with beta 0"),
        (VaeConfig, {"validation_draws": 1}, "--vae.validation-draws must be at least 2, for a standard error, got 1"),
        (VaeConfig, {"test_draws": 1}, "--vae.test-draws must be at least 2, for a standard error, got 1"),
        (
            VaeConfig,
            {"groups": (2, 4)},
            "--vae.groups (2, 4) has no effect with architecture mlp: give --vae.groups (8, 16, 32), or "
            "--vae.architecture ladder or spatial or wavelet or chain",
        ),
        (VaeConfig, {"architecture": "chain", "groups": (0, 4)}, "--vae.groups needs positive numbers, got (0, 4)"),
        (VaeConfig, {"architecture": "ladder", "latent_dim": 3}, "--vae.latent-dim 3 has no effect with architecture"),
        (VaeConfig, {"architecture": "ladder", "hidden_sizes": (3, 4)}, "must be equal, as its cells are residual"),
        (
            VaeConfig,
            {"architecture": "spatial", "hidden_sizes": (3, 4)},
            "--vae.strides needs one of 2, 4 for each of --vae.groups (8, 16, 32), the largest first, as there are 2 "
            "--vae.hidden-sizes, got (8, 4, 2)",
        ),
        (
            VaeConfig,
            {"architecture": "wavelet", "likelihood": "gaussian_learned"},
            "--vae.architecture wavelet needs --vae.likelihood gaussian and its --vae.sigma, got gaussian_learned",
        ),
        (
            VaeConfig,
            {"mixtures": 3},
            "--vae.mixtures 3 has no effect with likelihood bernoulli: give --vae.mixtures 5, or --vae.likelihood "
            "logistic_mixture",
        ),
        (VaeConfig, {"free_bits": -1.0}, "--vae.free-bits must not be negative, got -1.0"),
        (VaeConfig, {"free_bits_per": "dimension"}, "free-bits-per dimension has no effect without free bits: give"),
        (VaeConfig, {"centred": False, "architecture": "conv"}, "--vae.centred False has no effect with architecture"),
        (VaeConfig, {"beta_cycles": 0}, "--vae.beta-cycles must be at least 1, got 0"),
        (VaeConfig, {"beta_cycles": 2}, "--vae.beta-cycles 2 has no effect without a warm-up: give --vae.beta-warmup"),
        (VaeConfig, {"train_draws": 0}, "--vae.train-draws must be at least 1, got 0"),
        (VaeConfig, {"objective": "capacity", "capacity": -1.0}, "--vae.capacity must not be negative, got -1.0"),
        (VaeConfig, {"objective": "capacity", "capacity_warmup": 1.1}, "--vae.capacity-warmup must be a share in"),
        (
            VaeConfig,
            {"capacity": 3.0},
            "--vae.capacity 3.0 has no effect with objective elbo: give --vae.capacity 25.0",
        ),
        (VaeConfig, {"objective": "iwae", "beta": 2.0}, "--vae.beta 2.0 has no effect with objective iwae: give"),
        (VaeConfig, {"objective": "capacity", "free_bits": 1.0}, "--vae.free-bits 1.0 has no effect with objective"),
        (
            VaeConfig,
            {"objective": "dreg", "likelihood": "gaussian_optimal"},
            "--vae.likelihood gaussian_optimal is no optimum of --vae.objective dreg, which weighs its draws: give",
        ),
        (
            VaeConfig,
            {"likelihood": "gaussian_optimal", "sigma": 0.1},
            "--vae.sigma 0.1 has no effect with likelihood gaussian_optimal: give",
        ),
        (InferenceConfig, {"learning_rate": float("nan")}, "--inference.learning-rate must be finite, got nan"),
    ],
)
def test_configs_refuse_values_out_of_range(kind, changes, message):
    assert message in refusal(ValueError, build, kind, **changes)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"seed": -1}, "seed must lie in [0, 2**31), got -1"),
        ({"seed": 2**31}, f"seed must lie in [0, 2**31), got {2**31}"),
        ({"seed": np.int64(7)}, "seed must be an int, got int64: give int(7)"),
        *(
            ({"vae": {"likelihood": f"gaussian_{kind}"}}, f"--vae.likelihood gaussian_{kind} needs continuous pixels")
            for kind in ("learned", "optimal")
        ),
        (
            {"vae": {"likelihood": "gaussian_learned"}},
            "the density of 8-bit ones grows without bound. Give --data.dequantize, or --vae.likelihood gaussian",
        ),
        ({"train": {"remat": True}}, "--train.remat is for generators of images, not for a VAE: leave it out"),
        (
            {"train": {"accumulate": 2}, "vae": {"free_bits": 0.5}},
            "--train.accumulate 2 needs a loss that is a mean over images",
        ),
        ({"data": {"channels": (1, 1)}}, "a VAE has one domain, and --data.channels names two, (1, 1): give"),
        (
            {"data": {"image_size": (16, 7)}, "vae": {"architecture": "conv", "hidden_sizes": (4, 4, 4)}},
            "16x7 images are too small for 3 stride-2 layers, which need at least 8x8",
        ),
        ({"data": {"dequantize": True}}, "a bernoulli likelihood cannot score: give --vae.likelihood gaussian_learned"),
        (
            {"data": {"binarize": "stochastic"}, "vae": {"likelihood": "gaussian"}},
            "binarize stochastic makes pixels 0 or 1, which needs --vae.likelihood bernoulli",
        ),
        (
            {"data": {"binarize": "fixed"}, "vae": {"likelihood": "gaussian_learned"}},
            "binarize fixed makes pixels 0 or 1, which needs --vae.likelihood bernoulli",
        ),
    ],
)
def test_parts_that_do_not_go_together_are_refused(changes, message):
    assert message in refusal(ValueError, run, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 2**31 - 1},
        {"optim": {"warmup": 0.999, "b1": 0.0}},
        {"data": {"channels": (3,), "batch_size": 1}, "vae": {"architecture": "conv", "hidden_sizes": (4, 4, 4)}},
        {
            "data": {"image_size": (1, 1), "channels": (1,), "decode_threads": 1, "prefetch": 1},
            "vae": {"hidden_sizes": (1,), "latent_dim": 1},
        },
        {
            "train": dict.fromkeys(
                (
                    "num_steps",
                    "log_every",
                    "eval_every",
                    "checkpoint_every",
                    "num_sample_images",
                    "max_nonfinite_steps",
                ),
                1,
            )
        },
        {"data": {"holdout": 0.0, "load_scale": (4.75, 1.0), "resize": "stretch", "upscale": True}},
        {"data": {"holdout": 0.499, "skip_corrupt": True}},
        {"optim": linear(1.0)},
        {"optim": linear(0.001)},
        {"optim": linear(0.4, steps_per_epoch=30, linear_decay="lua")},
        {"optim": linear(1.0, steps_per_epoch=1000)},
        {"data": {"dequantize": True}, "vae": {"likelihood": "gaussian_learned"}},
        {"data": {"binarize": "fixed"}, "vae": {"beta": 0.1, "beta_warmup": 0.999}},
        {"vae": {"beta_cycles": 2, "beta_warmup": 0.001}},
        {"vae": {"objective": "capacity", "capacity": 0.0, "capacity_warmup": 1.0, "beta": 1000.0}},
        {"vae": {"objective": "iwae", "train_draws": 1}},
        {"vae": {"free_bits": 0.1, "free_bits_per": "dimension", "train_draws": 2}},
        {"data": {"dequantize": True}, "vae": {"likelihood": "gaussian_optimal", "objective": "capacity"}},
        {"data": {"cache_dir": "~/cache:/", "cache_gib": 0}, "vae": {"likelihood": "gaussian", "sigma": 0.1}},
        {"train": {"eval_every": 20, "checkpoint_every": 40, "keep_period": 120}},
    ],
)
def test_the_last_allowed_values_are_accepted(changes):
    accepted(run(**changes), changes)


def test_inference_needs_no_warmup():
    assert build(InferenceConfig, num_warmup=0).num_warmup == 0


@pytest.mark.parametrize(
    "changes, depends",
    [
        ({}, False),
        ({"beta_warmup": 0.1}, True),
        ({"objective": "capacity"}, True),
        ({"objective": "capacity", "capacity_warmup": 0.0}, False),
        ({"objective": "iwae", "train_draws": 5}, False),
    ],
)
def test_depends_on_num_steps_knows_what_rises(changes, depends):
    assert run(vae=changes).depends_on_num_steps == depends
