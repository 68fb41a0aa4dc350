"""Configurations of CycleGANs refuse what cannot work, with the numbers and the remedy."""

import dataclasses

import pytest

from genjax.checks import flag
from genjax.cyclegan.config import CycleGanConfig, LossConfig
from good_configs import GOOD, accepted, build, cyclegan_run, linear
from refused import refusal


@pytest.mark.parametrize(
    "kind, changes, message",
    [
        (CycleGanConfig, {"instance_noise": float("inf")}, "--cyclegan.instance-noise must be finite, got inf"),
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
        (
            CycleGanConfig,
            {"discriminator_lr_scale": 0.0},
            "--cyclegan.discriminator-lr-scale must be positive, got 0.0",
        ),
        (CycleGanConfig, {"diff_augment": 1.1}, "--cyclegan.diff-augment must lie in [0, 1], got 1.1"),
        (CycleGanConfig, {"diff_augment": -0.1}, "--cyclegan.diff-augment must lie in [0, 1], got -0.1"),
        (CycleGanConfig, {"instance_noise": -0.1}, "--cyclegan.instance-noise must not be negative, got -0.1"),
        (LossConfig, {"cycle_a": float("inf")}, "--loss.cycle-a must be finite, got inf"),
        *(
            (LossConfig, {field.name: -0.5}, f"{flag('loss', field.name)} must not be negative, got -0.5")
            for field in dataclasses.fields(LossConfig)
            if field.name != "adversarial"
        ),
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
        (LossConfig, {"cycle_b": float("nan")}, "--loss.cycle-b must be finite, got nan"),
    ],
)
def test_configs_refuse_values_out_of_range(kind, changes, message):
    assert message in refusal(ValueError, build, kind, **changes)


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
        ({"data": {"channels": (1,)}}, "translation needs two domains, and --data.channels names one, (1,): give"),
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
            "give a larger --data.image-size, or fewer --cyclegan.discriminator-layers",
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
            "--loss.semantic-a2b 0.5 and --loss.semantic-b2a 0.0 need a classifier of each domain: give --classifier-a "
            "FILE and --classifier-b FILE, or set both weights to 0",
        ),
        ({"loss": {"semantic_b2a": 1.0}, "classifier_b": "c.npz"}, "semantic-b2a 1.0 need a classifier of each domain"),
        (
            {"loss": {"semantic_noise": 0.4}},
            "--loss.semantic-noise 0.4 has no effect without semantic losses: set it to 0, or give "
            "--loss.semantic-a2b or ",
        ),
        (
            {"classifier_a": "c.npz"},
            "classifier c.npz has no effect, as the semantic losses have weight 0: give --loss.semantic-a2b",
        ),
        ({"classifier_b_sha256": "1f2e"}, "classifier 1f2e has no effect, as the semantic losses have weight 0"),
        (
            {"loss": {"paired": 10.0}},
            "--loss.paired 10.0 needs known pairs: give --data.pairs SOURCE, or --data.train-pairs if all training",
        ),
        ({"data": {"pairs": "pairs:p"}}, "--data.pairs pairs:p has no effect without a loss: give --loss.paired 10"),
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
        ({"keep_mask": "m.png"}, "--keep-mask m.png has no effect without a loss: give --loss.keep 10"),
        ({"keep_mask_sha256": "ab", "loss": {"keep": 1.0}}, "--keep-mask-sha256 ab has no effect without --keep-mask"),
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
    assert message in refusal(ValueError, cyclegan_run, **changes)


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
