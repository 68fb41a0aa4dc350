"""Configuration of a UNIT run: networks, losses and their weights; checked when it is made."""

import dataclasses
from typing import ClassVar

from genjax.checks import require
from genjax.evaluation.perceptual import PerceptualConfig
from genjax.gan.adversarial import AdversarialConfig
from genjax.gan.config import GanRun, NetworkConfig
from genjax.gan.terms import check_weights


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnitConfig(NetworkConfig):
    """Networks of UNIT (Liu et al. 2017, table 5): encoders and decoders that share layers, and discriminators."""

    section: ClassVar[str] = "unit"

    num_blocks: int = 4
    """Residual blocks of each encoder, and as many of each decoder."""
    shared_blocks: int = 1
    """Residual blocks that the domains share: the last ones of the encoders and the first ones of the decoders."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.generator == "resnet",
            f"--unit.generator {self.generator} hands maps past the latent, which would "
            "hold nothing: give --unit.generator resnet",
        )
        require(
            self.output == "tanh",
            f"--unit.output {self.output} hands the image past the latent, which would "
            "hold nothing: give --unit.output tanh",
        )
        require(
            1 <= self.shared_blocks <= self.num_blocks,
            f"--unit.shared-blocks must lie from 1 to --unit.num-blocks {self.num_blocks}, got {self.shared_blocks}",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig(AdversarialConfig, PerceptualConfig):
    """Weights of the loss terms of encoders and decoders (genjax/unit/losses.py), and the kind of adversarial loss.

    A term with weight 0 is not computed.
    """

    adversarial_a2b: float
    """Weight of the adversarial loss of translations into B."""
    adversarial_b2a: float
    """Weight of the adversarial loss of translations into A."""
    reconstruction_a: float
    """Weight of the L1 from an image of A to its reconstruction."""
    reconstruction_b: float
    """Weight of the same in B."""
    kl_a: float
    """Weight of the KL of an encoding of A from N(0, I), in nats for each number of the latent."""
    kl_b: float
    """Weight of the same of B."""
    cycle_a: float
    """Weight of the L1 from an image of A to its translation there and back."""
    cycle_b: float
    """Weight of the same of B."""
    cycle_kl_a: float
    """Weight of the KL of the encoding of the translation of an image of A."""
    cycle_kl_b: float
    """Weight of the same of B."""
    perceptual_reconstruction: float = 0.0
    """Weight of LPIPS from images to their reconstructions, both domains."""
    perceptual_cycle: float = 0.0
    """Weight of LPIPS from images to their translations there and back, both domains."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_features()
        check_weights(self, ())


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnitRun(GanRun):
    """Configuration of one UNIT training."""

    unit: UnitConfig
    loss: LossConfig

    @property
    def net(self) -> UnitConfig:
        """The networks."""
        return self.unit

    def __post_init__(self) -> None:
        super().__post_init__()
        pairs = self.data.pairs
        require(not pairs, f"UNIT has no loss of pairs, so --data.pairs {pairs} has no effect: leave it out")
