"""Configuration of a CUT run: networks, losses and their weights; checked when it is made."""

import dataclasses
import re
from typing import ClassVar

from genjax.checks import require
from genjax.gan.adversarial import AdversarialConfig
from genjax.gan.config import SAME_CHANNELS, GanRun, NetworkConfig
from genjax.gan.terms import check_weights

RESNET_DOWNS = 2
"""Convolutions of stride 2 in the encoder of a ResNet."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CutConfig(NetworkConfig):
    """Networks of CUT and FastCUT (Park et al. 2020): a generator, a discriminator, and heads of its features."""

    section: ClassVar[str] = "cut"

    features: tuple[str, ...] = ("pixels", "down_1", "down_2", "block_1", "block_5")
    """Features that are compared. pixels: the image itself. down_1, ...: the generator's convolutions of stride 2.
    block_1, ...: its residual blocks."""
    num_patches: int = 256
    """Places of each feature map that are drawn and compared in a step; all if it has fewer."""
    head_units: int = 256
    """Units of both layers of the perceptron that each feature has."""
    mirror: bool = False
    """Translates half of the images as their mirror images, whose features are mirrored back (FastCUT)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("num_patches", "head_units"):
            require(getattr(self, name) >= 1, f"{self.flag(name)} must be at least 1, got {getattr(self, name)}")
        require(len(self.features) > 0, "--cut.features names none: give --cut.features pixels")
        require(
            len(set(self.features)) == len(self.features),
            f"--cut.features needs different ones, got {' '.join(self.features)}",
        )
        most = {"down": RESNET_DOWNS, "block": self.num_blocks}
        if self.generator == "unet":
            most = {"down": self.num_downs, "block": 0}
        for feature in self.features:
            found = re.fullmatch(r"(down|block)_([1-9]\d*)", feature)
            require(
                feature == "pixels" or found is not None and int(found[2]) <= most[found[1]],
                f"--cut.features {feature} is nothing that this generator has: give some of pixels, down_1 to "
                f"down_{most['down']}" + (f", block_1 to block_{most['block']}" if most["block"] else ""),
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig(AdversarialConfig):
    """Weights of the generator's loss terms (genjax/cut/losses.py), and the kind of adversarial loss.

    A term with weight 0 is not computed. G translates from A to B.
    """

    identity: ClassVar[str] = "--loss.nce-b"

    adversarial_a2b: float
    """Weight of the adversarial loss of translations into B."""
    nce_a: float
    """Weight of PatchNCE between an image of A and its translation."""
    nce_b: float = 0.0
    """Weight of PatchNCE between an image of B and its translation, which should change nothing (identity)."""
    temperature: float = 0.07
    """tau: cosines are divided by it; the lower, the more PatchNCE looks at the most similar patches alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weights(self, ("temperature",))
        require(self.temperature > 0, f"--loss.temperature must be positive, got {self.temperature}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CutRun(GanRun):
    """Configuration of one CUT training."""

    cut: CutConfig
    loss: LossConfig

    @property
    def net(self) -> CutConfig:
        """The networks."""
        return self.cut

    def __post_init__(self) -> None:
        super().__post_init__()
        channels = self.data.channels
        require(
            not self.data.pairs,
            f"CUT has no loss of pairs, so --data.pairs {self.data.pairs} has no effect: leave it out",
        )
        require(
            channels[0] == channels[1],
            "PatchNCE passes translations and images of B to the generator of images of A, and A and B have "
            f"{channels} channels: {SAME_CHANNELS}",
        )
