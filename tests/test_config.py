"""Configurations refuse what cannot work, with the numbers and the remedy."""

import dataclasses
import math
import re

import numpy as np
import pytest

from genjax.checks import flag
from genjax.config import OptimConfig, TrainConfig, seed_of, with_num_steps
from genjax.cyclegan.config import CycleGanConfig, CycleGanRun, LossConfig
from genjax.data.config import DataConfig
from genjax.vae.config import VaeConfig, VaeRun
from genjax.vae.inference import InferenceConfig

GOOD = {
    DataConfig: {"source": "digits", "image_size": (8, 8), "channels": (1,), "batch_size": 4},
    OptimConfig: {"learning_rate": 1e-3},
    TrainConfig: {"num_steps": 100},
    VaeConfig: {},
    InferenceConfig: {},
    CycleGanConfig: {},
    LossConfig: {"adversarial_a2b": 1.0, "adversarial_b2a": 1.0, "cycle_a": 10.0, "cycle_b": 10.0},
}
TWO_DOMAINS = {"source": "icons", "image_size": (32, 32), "channels": (1, 1)}


def build(kind, **changes):
    return kind(**GOOD[kind] | changes)


def run(*, seed=0, **parts):
    names = {DataConfig: "data", OptimConfig: "optim", TrainConfig: "train", VaeConfig: "vae"}
    return VaeRun(
        workdir="unused", seed=seed, **{name: build(kind, **parts.get(name, {})) for kind, name in names.items()}
    )


def cyclegan_run(*, seed=0, **parts):
    parts["data"] = TWO_DOMAINS | parts.get("data", {})
    names = {DataConfig: "data", OptimConfig: "optim", TrainConfig: "train"}
    names |= {CycleGanConfig: "cyclegan", LossConfig: "loss"}
    built = {name: build(kind, **parts.get(name, {})) for kind, name in names.items()}
    files = {name: parts.get(name, "") for name in ("classifier_a", "classifier_b", "classifier_b_sha256", "keep_mask")}
    return CycleGanRun(workdir="unused", seed=seed, **files, **built)


def linear(decay=0.5, **options):
    return {"schedule": "linear", "decay": decay, **options}


@pytest.mark.parametrize(
    "kind, changes, message",
    [
        (DataConfig, {"image_size": (0, 8)}, "--data.image-size needs a positive height and width, got (0, 8)"),
        (DataConfig, {"image_size": (8, -1)}, "--data.image-size needs a positive height and width, got (8, -1)"),
        (DataConfig, {"image_size": (8,)}, "--data.image-size needs a positive height and width, got (8,)"),
        (DataConfig, {"image_size": (8, 8, 1)}, "--data.image-size needs a positive height and width, got (8, 8, 1)"),
        (DataConfig, {"channels": ()}, "for each of one or two domains, got ()"),
        (DataConfig, {"channels": (1, 1, 1)}, "for each of one or two domains, got (1, 1, 1)"),
        (
            DataConfig,
            {"load_scale": (1.0, 1.0, 1.0)},
            "--data.load-scale needs one or two numbers of at least 1, or nothing, got",
        ),
        (DataConfig, {"load_scale": (1.1, 0.9)}, "--data.load-scale needs one or two numbers of at least 1"),
        (DataConfig, {"load_scale": (float("nan"),)}, "--data.load-scale needs one or two numbers of at least 1"),
        (
            DataConfig,
            {"load_scale": (1.5,), "resize": "none"},
            "--data.load-scale has no effect with --data.resize none",
        ),
        (
            DataConfig,
            {"load_scale": (1.5,), "binarize": "fixed"},
            "binarize fixed draws the pixels of whole images once",
        ),
        (DataConfig, {"resize": "width", "binarize": "fixed"}, "binarize fixed draws the pixels of whole images once"),
        (DataConfig, {"cache": "none", "binarize": "fixed"}, "binarize fixed draws the pixels of whole images once"),
        (
            DataConfig,
            {"cache": "none", "source": "digits"},
            "cache none is for folder:, pairs:, tfds: and faces, as digits is",
        ),
        (DataConfig, {"paired": True}, "--data.paired needs two domains"),
        (
            DataConfig,
            {"train_pairs": True, "channels": (1, 1)},
            "--data.train-pairs needs pairs in validation too: give",
        ),
        (
            DataConfig,
            {"paired": True, "channels": (1, 1), "skip_corrupt": True},
            "--data.skip-corrupt would break the pairs",
        ),
        (DataConfig, {"channels": (0,)}, "as 1 (grey) or 3 (colour), for each of one or two domains, got (0,)"),
        (
            DataConfig,
            {"levels": (5.0, 5.0)},
            "LOW HIGH with LOW below HIGH (or a pair for each domain), got (5.0, 5.0)",
        ),
        (DataConfig, {"levels": (0.0, 5.0, 1.0)}, "(or a pair for each domain), got (0.0, 5.0, 1.0)"),
        (DataConfig, {"levels": (0.0, 5.0, 1.0, 2.0)}, "(or a pair for each domain), got (0.0, 5.0, 1.0, 2.0)"),
        (DataConfig, {"levels": (0.0, math.inf)}, "LOW HIGH with LOW below HIGH"),
        (DataConfig, {"levels": "most"}, "--data.levels needs full, auto, or LOW HIGH"),
        (DataConfig, {"max_megapixels": 0}, "--data.max-megapixels must be at least 1, got 0"),
        (DataConfig, {"batch_size": 0}, "--data.batch-size must be at least 1, got 0"),
        (DataConfig, {"holdout": -0.1}, "--data.holdout must be 0, or lie between 0 and 0.5, got -0.1"),
        (DataConfig, {"holdout": float("nan")}, "--data.holdout must be 0, or lie between 0 and 0.5, got nan"),
        (DataConfig, {"holdout": 0.5}, "--data.holdout must be 0, or lie between 0 and 0.5, got 0.5"),
        (
            DataConfig,
            {"dequantize": True, "binarize": "fixed"},
            "--data.dequantize and --data.binarize exclude each other",
        ),
        (
            DataConfig,
            {"dequantize": True, "binarize": "stochastic"},
            "--data.dequantize and --data.binarize exclude each other",
        ),
        (DataConfig, {"decode_threads": 0}, "--data.decode-threads must be at least 1, got 0"),
        *(
            (
                DataConfig,
                {"cache_dir": path},
                f"--data.cache-dir {path} is not local, and images are memory-mapped from it",
            )
            for path in ("gs://bucket/cache", "gs:/bucket", "s3://bucket")
        ),
        (DataConfig, {"cache_gib": -1}, "--data.cache-gib must not be negative, got -1"),
        (DataConfig, {"prefetch": 0}, "--data.prefetch must be at least 1, got 0"),
        (OptimConfig, {"learning_rate": 0.0}, "--optim.learning-rate must be positive, got 0.0"),
        (OptimConfig, {"learning_rate": float("nan")}, "--optim.learning-rate must be finite, got nan"),
        (OptimConfig, {"eps": float("inf")}, "--optim.eps must be finite, got inf"),
        (VaeConfig, {"beta": float("inf")}, "--vae.beta must be finite, got inf"),
        (CycleGanConfig, {"instance_noise": float("inf")}, "--cyclegan.instance-noise must be finite, got inf"),
        (LossConfig, {"cycle_a": float("inf")}, "--loss.cycle-a must be finite, got inf"),
        (InferenceConfig, {"learning_rate": float("nan")}, "--inference.learning-rate must be finite, got nan"),
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
        *(
            (TrainConfig, {"profile": given}, f"START:STOP with START below STOP, such as 10:15, got {given}")
            for given in ("3", "5:5", "a:b", "3:4:5", "-1:2")
        ),
        (TrainConfig, {"profile": "99:101"}, "--train.profile 99:101 ends after --train.num-steps 100: give earlier"),
        (TrainConfig, {"track": ("wandb", "wandb")}, "--train.track needs different trackers, got wandb wandb"),
        (TrainConfig, {"epochs": -1.0}, "--train.epochs must not be negative, got -1.0"),
        (VaeConfig, {"validation_draws": 1}, "--vae.validation-draws must be at least 2, for an error, got 1"),
        (VaeConfig, {"test_draws": 1}, "--vae.test-draws must be at least 2, for an error, got 1"),
        (CycleGanConfig, {"base_channels": 0}, "--cyclegan.base-channels must be at least 1, got 0"),
        (CycleGanConfig, {"discriminator_channels": 0}, "--cyclegan.discriminator-channels must be at least 1, got 0"),
        (CycleGanConfig, {"discriminator_layers": 0}, "--cyclegan.discriminator-layers must be at least 1, got 0"),
        (CycleGanConfig, {"num_downs": 1}, "--cyclegan.num-downs must be at least 2, got 1"),
        (CycleGanConfig, {"num_blocks": -1}, "--cyclegan.num-blocks must not be negative, got -1"),
        (
            CycleGanConfig,
            {"norm_affine": True, "generator_norm": "none", "discriminator_norm": "none"},
            "--cyclegan.norm-affine has no effect without norms",
        ),
        (CycleGanConfig, {"pool_size": -1}, "--cyclegan.pool-size must not be negative, got -1"),
        *(
            (LossConfig, {field.name: -0.5}, f"{flag('loss', field.name)} must not be negative, got -0.5")
            for field in dataclasses.fields(LossConfig)
            if field.name != "adversarial"
        ),
        (
            CycleGanConfig,
            {"discriminator_lr_scale": 0.0},
            "--cyclegan.discriminator-lr-scale must be positive, got 0.0",
        ),
        (CycleGanConfig, {"diff_augment": 1.1}, "--cyclegan.diff-augment must lie in [0, 1], got 1.1"),
        (CycleGanConfig, {"diff_augment": -0.1}, "--cyclegan.diff-augment must lie in [0, 1], got -0.1"),
        (CycleGanConfig, {"instance_noise": -0.1}, "--cyclegan.instance-noise must not be negative, got -0.1"),
        (LossConfig, {"label_smoothing": 0.5}, "--loss.label-smoothing must lie in [0, 0.5), got 0.5"),
        *(
            (
                LossConfig,
                {"label_smoothing": 0.1, "adversarial": kind},
                f"--loss.label-smoothing 0.1 has no effect with adversarial {kind}: give "
                "--loss.label-smoothing 0.0, or "
                "--loss.adversarial lsgan or vanilla",
            )
            for kind in ("hinge", "wgan_gp")
        ),
        *(
            (
                LossConfig,
                {"gradient_penalty": 5.0, "adversarial": kind},
                f"--loss.gradient-penalty 5.0 has no effect with adversarial {kind}: give "
                "--loss.gradient-penalty 10.0, or "
                "--loss.adversarial wgan_gp",
            )
            for kind in ("lsgan", "vanilla", "hinge")
        ),
        (
            LossConfig,
            dict.fromkeys(("adversarial_a2b", "adversarial_b2a", "cycle_a", "cycle_b"), 0.0) | {"r1": 1.0},
            "all weights of the loss are 0, so nothing would be trained: give one of them a weight",
        ),
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
        (OptimConfig, {"weight_decay": -0.1}, "--optim.weight-decay must not be negative, got -0.1"),
        (LossConfig, {"cycle_b": float("nan")}, "--loss.cycle-b must be finite, got nan"),
    ],
)
def test_configs_refuse_values_out_of_range(kind, changes, message):
    with pytest.raises(ValueError) as refusal:
        build(kind, **changes)
    assert message in str(refusal.value)


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
        ({"data": {"channels": (1, 1)}}, "a VAE has one domain, and --data.channels names two: (1, 1)"),
        (
            {"data": {"image_size": (16, 7)}, "vae": {"architecture": "conv", "hidden_sizes": (4, 4, 4)}},
            "16x7 images are too small for 3 stride-2 layers, which need at least 8x8",
        ),
        ({"data": {"dequantize": True}}, "a bernoulli likelihood cannot score: choose a gaussian one"),
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
    with pytest.raises(ValueError) as refusal:
        run(**changes)
    assert message in str(refusal.value)


@pytest.mark.parametrize(("epochs", "several", "expected"), [(0.0, 1, 100), (2.0, 1, 51), (0.5, 1, 13), (2.0, 4, 52)])
def test_with_num_steps_covers_the_epochs(epochs, several, expected):
    train = {"epochs": epochs, "steps_per_dispatch": several}
    every = dict.fromkeys(("log_every", "eval_every", "checkpoint_every"), 20)
    assert with_num_steps(run(train=train | every), num_examples=101).train.num_steps == expected


COLOURED = {"channels": (1, 3)}
REMEDY = "give both domains as many channels (--data.channels 3 3 turns grey into colour)"


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"seed": -1}, "seed must lie in [0, 2**31), got -1"),
        (
            {"data": {"dequantize": True}},
            "--data.dequantize and --data.binarize are for likelihoods, and translation has none: remove",
        ),
        ({"data": {"binarize": "stochastic"}}, "--data.dequantize and --data.binarize are for likelihoods"),
        ({"data": {"binarize": "fixed"}}, "--data.dequantize and --data.binarize are for likelihoods"),
        ({"data": {"channels": (1,)}}, "translation needs two domains, and --data.channels names one: (1,)"),
        (
            {"data": COLOURED, "cyclegan": {"output": "residual"}},
            f"output residual adds an image of one domain to one of the other, with (1, 3) channels: {REMEDY}",
        ),
        *(
            (
                {"data": COLOURED, "loss": {name: 0.1}},
                "the identity loss feeds each generator the other domain's images, with (1, 3) channels: "
                f"{REMEDY}, or set --loss.identity-a 0 --loss.identity-b 0",
            )
            for name in ("identity_a", "identity_b")
        ),
        (
            {"data": {"image_size": (32, 30)}},
            "--data.image-size 32x30 is not a multiple of 4 of at least 8 (a ResNet generator",
        ),
        (
            {"data": {"image_size": (34, 32)}},
            "--data.image-size 34x32 is not a multiple of 4 of at least 8 (a ResNet generator",
        ),
        (
            {"data": {"image_size": (32, 4)}, "cyclegan": {"discriminator": "pixel"}},
            "--data.image-size 32x4 is not a multiple of 4 of at least 8 (a ResNet generator halves height and width",
        ),
        (
            {"data": {"image_size": (128, 128)}, "cyclegan": {"generator": "unet"}},
            "--data.image-size 128x128 is not a multiple of 256 of at least 256 (a U-Net with num_downs 8 halves both "
            "that often: lower --cyclegan.num-downs)",
        ),
        (
            {"data": {"image_size": (128, 192)}, "cyclegan": {"generator": "unet", "num_downs": 7}},
            "--data.image-size 128x192 is not a multiple of 128 of at least 128",
        ),
        (
            {"data": {"image_size": (24, 20)}},
            "images of 24x20 leave nothing for a PatchGAN with 3 stride-2 layers, which needs at least 24 pixels: "
            "fewer with --cyclegan.discriminator-layers, or larger images",
        ),
        (
            {"data": {"image_size": (20, 24)}},
            "images of 20x24 leave nothing for a PatchGAN with 3 stride-2 layers, which needs at least 24 pixels",
        ),
        (
            {"data": {"image_size": (92, 96)}, "cyclegan": {"discriminator_layers": 5}},
            "images of 92x96 leave nothing for a PatchGAN with 5 stride-2 layers, which needs at least 96 pixels",
        ),
        (
            {"loss": {"semantic_a2b": 0.5}},
            "semantic_a2b 0.5 and semantic_b2a 0.0 need a classifier of each domain: give --classifier-a FILE and "
            "--classifier-b FILE, or set both to 0",
        ),
        ({"loss": {"semantic_b2a": 1.0}, "classifier_b": "c.npz"}, "semantic_b2a 1.0 need a classifier of each domain"),
        (
            {"loss": {"semantic_noise": 0.4}},
            "--loss.semantic-noise 0.4 has no effect without semantic losses: set it to 0, or give "
            "--loss.semantic-a2b or ",
        ),
        (
            {"classifier_a": "c.npz"},
            "classifier c.npz has no effect, as the semantic losses have weight 0: set --loss.semantic-a2b",
        ),
        ({"classifier_b_sha256": "1f2e"}, "classifier 1f2e has no effect, as the semantic losses have weight 0"),
        (
            {"loss": {"paired": 10.0}},
            "--loss.paired 10.0 needs known pairs: give --data.pairs SOURCE, or --data.train-pairs if all training",
        ),
        ({"data": {"pairs": "pairs:p"}}, "--data.pairs pairs:p has no effect without --loss.paired: give it 10"),
        (
            {"data": {"pairs": "pairs:p", "paired": True, "train_pairs": True}, "loss": {"paired": 1.0}},
            "--data.train-pairs says that all training images are pairs: leave out --data.pairs pairs:p",
        ),
        ({"cyclegan": {"conditional": True}}, "--cyclegan.conditional needs pairs in each batch: give --data.paired"),
        (
            {"data": {"paired": True, "train_pairs": True}, "cyclegan": {"conditional": True, "diff_augment": 1.0}},
            "--cyclegan.diff-augment would mix the colours of the two images that --cyclegan.conditional shows",
        ),
        (
            {"data": COLOURED, "loss": {"keep": 1.0}},
            "--loss.keep compares an image with its translation, with (1, 3) channels: give both domains as many",
        ),
        ({"keep_mask": "m.png"}, "--keep-mask m.png has no effect without --loss.keep: give it 10"),
        (
            {"data": {"load_scale": (1.2,)}, "loss": {"keep": 1.0}, "keep_mask": "m.png"},
            "--keep-mask has one place in the image, and training crops at random places",
        ),
        (
            {"data": {"batch_size": 51}},
            "pool-size 50 is smaller than the global batch of 51: give --cyclegan.pool-size 51 or more, or 0 for none",
        ),
    ],
)
def test_cyclegan_run_refuses_what_cannot_work(changes, message):
    with pytest.raises(ValueError) as refusal:
        cyclegan_run(**changes)
    assert message in str(refusal.value)


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


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 2**31 - 1, "data": {"paired": True}},
        {"data": {"skip_corrupt": True, "channels": (3, 3)}, "cyclegan": {"output": "residual"}},
        {"data": {"channels": (3, 3)}, "loss": {"identity_a": 5.0, "identity_b": 5.0}},
        {"data": COLOURED, "loss": {"affine_a2b": 1.0, "affine_b2a": 1.0}},
        {"data": {"channels": (3, 1)}},
        {"data": {"image_size": (24, 24)}},
        {
            "data": {"image_size": (24, 40)},
            "cyclegan": {"num_blocks": 0, "base_channels": 1, "discriminator_channels": 1},
        },
        {"data": {"image_size": (8, 8)}, "cyclegan": {"discriminator": "pixel"}},
        {"data": {"image_size": (8, 12)}, "cyclegan": {"discriminator_layers": 1}},
        {"data": {"image_size": (96, 96)}, "cyclegan": {"discriminator_layers": 5}},
        {"data": {"image_size": (256, 256)}, "cyclegan": {"generator": "unet"}},
        {"data": {"image_size": (128, 256)}, "cyclegan": {"generator": "unet", "num_downs": 7}},
        {"data": {"image_size": (4, 8)}, "cyclegan": {"generator": "unet", "num_downs": 2, "discriminator": "pixel"}},
        {"data": {"batch_size": 50}},
        {"data": {"batch_size": 51}, "cyclegan": {"pool_size": 51}},
        {"data": {"batch_size": 51}, "cyclegan": {"pool_size": 0}},
        {"optim": linear(1.0), "train": {"num_steps": 100}},
        {"loss": dict.fromkeys(GOOD[LossConfig], 0.0) | {"affine_b2a": 1e-3}},
        {"loss": {"adversarial": "wgan_gp", "gradient_penalty": 0.0}},
        {"loss": {"label_smoothing": 0.49, "adversarial": "vanilla", "r1": 10.0}},
        {"cyclegan": {"diff_augment": 1.0, "instance_noise": 2.0, "discriminator_lr_scale": 1e-3}},
    ],
)
def test_cyclegan_run_accepts_the_last_allowed_values(changes):
    accepted(cyclegan_run(**changes), changes)


def accepted(config, changes):
    for part, fields in changes.items():
        for name, value in fields.items() if isinstance(fields, dict) else ():
            assert getattr(getattr(config, part), name) == value


def test_data_config_shapes_follow_size_and_channels():
    two = build(DataConfig, image_size=(6, 9), channels=(1, 3), load_scale=(1.5,))
    assert two.load_size == (9, 14)
    assert two.image_shapes == ((6, 9, 1), (6, 9, 3))
    one = build(DataConfig, image_size=(6, 9), channels=(3,))
    assert one.image_shapes == ((6, 9, 3),)


@pytest.mark.parametrize(
    "changes, crops",
    [({}, False), ({"resize": "stretch"}, False), ({"load_scale": (1.0,)}, True), ({"resize": "width"}, True),
     ({"resize": "none"}, True)],
)  # fmt: skip
def test_data_config_crops_scaled_pictures(changes, crops):
    assert build(DataConfig, **changes).crops == crops


def test_inference_needs_no_warmup():
    assert build(InferenceConfig, num_warmup=0).num_warmup == 0


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
