"""Configuration that adversarial families share: networks, their checks, and the start from other weights."""

import dataclasses
from typing import ClassVar, Literal

from genjax.checks import check_finite, flag, require
from genjax.config import RunConfig, check_start
from genjax.gan.adversarial import AdversarialConfig
from genjax.nn.layers import NormKind


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Generators and discriminators (Zhu et al. 2017, section 7.1), and the images that discriminators see."""

    section: ClassVar[str]  # the field of the run that holds the networks, as in --cyclegan.base-channels

    generator: Literal["resnet", "unet"] = "resnet"
    """ResNet (Johnson et al. 2016), or U-Net (Ronneberger et al. 2015; Isola et al. 2017)."""
    output: Literal["tanh", "residual"] = "tanh"
    """tanh: tanh(T(E(x))) of encoder E and decoder T. residual: x + T(E(x)), with T's last layer zero at first, so that
    training begins at the identity."""
    base_channels: int = 64
    """Channels of a generator's first convolution."""
    num_blocks: int = 9
    """ResNet: residual blocks; the paper has 6 for 128x128 images and 9 for 256x256."""
    num_downs: int = 8
    """U-Net: halvings of height and width; the reference has 7 for 128x128 images and 8 for 256x256."""
    discriminator: Literal["patch", "pixel"] = "patch"
    """PatchGAN, a logit for each of many overlapping patches; or PixelGAN, a logit for each pixel."""
    discriminator_channels: int = 64
    """Channels of a discriminator's first convolution."""
    discriminator_layers: int = 3
    """PatchGAN: stride-2 convolutions; 1 to 5 see patches of 16, 34, 70, 142, 286 pixels."""
    generator_norm: NormKind = "instance"
    """Normalisation in the generators. instance: over each channel of an image, whose mean level it takes away. group:
    over groups of channels. layer: over all of them. none: none."""
    discriminator_norm: NormKind = "instance"
    """The same in the discriminators' inner layers."""
    norm_affine: bool = False
    """Learns a gain and an offset for each channel after each norm."""
    spectral_norm: bool = False
    """Divides each discriminator kernel by its largest singular value (Miyato et al. 2018). It bounds the gradient of a
    discriminator only if discriminator_norm is none: norms undo any scale."""
    discriminator_lr_scale: float = 1.0
    """Learning rate of the discriminators as a multiple of the generators' (two time scales: Heusel et al. 2017)."""
    diff_augment: float = 0.0
    """Strength of DiffAugment on all images that the discriminators see, for small datasets (Zhao et al. 2020). It
    changes colour, translates and cuts out. 1 is the paper's, 0 is none."""
    instance_noise: float = 0.0
    """Standard deviation of Gaussian noise on all images that the discriminators see, at the first step. Pixels are in
    [-1, 1]; it falls linearly to 0 over num_steps (Sonderby et al. 2017; Arjovsky and Bottou 2017)."""

    def __post_init__(self) -> None:
        check_finite(self, self.section)
        least = {
            "base_channels": 1, "discriminator_channels": 1, "discriminator_layers": 1, "num_downs": 2,
            "num_blocks": 0, "instance_noise": 0,
        }  # fmt: skip
        for name, smallest in least.items():
            bound = f"be at least {smallest}" if smallest else "not be negative"
            require(getattr(self, name) >= smallest, f"{self.flag(name)} must {bound}, got {getattr(self, name)}")
        require(
            not self.norm_affine or {self.generator_norm, self.discriminator_norm} != {"none"},
            f"{self.flag('norm_affine')} has no effect without norms: leave it out, or give "
            f"{self.flag('generator_norm')} layer",
        )
        scale = self.discriminator_lr_scale
        require(scale > 0, f"{self.flag('discriminator_lr_scale')} must be positive, got {scale}")
        strength = self.diff_augment
        require(0 <= strength <= 1, f"{self.flag('diff_augment')} must lie in [0, 1], got {strength}")

    @property
    def generator_sizes(self) -> tuple[int, int]:
        """Heights and widths that the generator accepts: multiples of the first number, at least the second."""
        # A ResNet halves the size twice, and its reflection padding needs 2 pixels there.
        return (4, 8) if self.generator == "resnet" else (2**self.num_downs, 2**self.num_downs)

    def flag(self, name: str) -> str:
        """Returns the flag of a field, such as --cyclegan.base-channels."""
        return flag(self.section, name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GanRun(RunConfig):
    """A training of generators that translate, and of discriminators; each family adds its networks and losses."""

    loss: AdversarialConfig
    init_parts: Literal["auto", "all", "generators"] = "auto"
    """Networks taken from init_from. all: all of them, averaged ones where there is an average. generators: those
    alone, with fresh networks beside them. auto: all that it holds."""

    @property
    def net(self) -> NetworkConfig:
        """The networks, a field of the family's own name."""
        raise NotImplementedError

    @property
    def depends_on_num_steps(self) -> bool:
        """True if updates depend on num_steps, through a schedule or instance noise."""
        return super().depends_on_num_steps or self.net.instance_noise > 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_start(self, ("init_parts",))
        data = self.data
        require(
            not data.dequantize and data.binarize == "none",
            "--data.dequantize and --data.binarize are for likelihoods, and translation has none: remove them",
        )
        require(
            len(data.channels) == 2,
            f"translation needs two domains, and --data.channels names one, {data.channels}: give it two numbers",
        )
        require(
            self.net.output != "residual" or data.channels[0] == data.channels[1],
            f"{self.net.flag('output')} residual adds an image of one domain to one of the other, with "
            f"{data.channels} channels: {SAME_CHANNELS}",
        )
        _check_generator(data.image_size, self.net)
        _check_discriminator(data.image_size, self.net)


SAME_CHANNELS = "give both domains as many channels (--data.channels 3 3 turns grey into colour)"
"""Remedy where an image of one domain takes the place of one of the other."""


def _check_generator(size: tuple[int, int], net: NetworkConfig) -> None:
    unit, smallest = net.generator_sizes
    reason = "a ResNet generator halves height and width twice, and its reflection padding needs 2 pixels there"
    if net.generator == "unet":
        reason = f"a U-Net with num_downs {net.num_downs} halves both that often: lower {net.flag('num_downs')}"
    require(
        all(length % unit == 0 and length >= smallest for length in size),
        f"--data.image-size {size[0]}x{size[1]} is not a multiple of {unit} of at least {smallest} ({reason})",
    )


def _check_discriminator(size: tuple[int, int], net: NetworkConfig) -> None:
    if net.discriminator == "pixel":
        return
    strides = net.discriminator_layers
    smallest = 3 << strides  # each stride halves the size, and each of the two last 4x4 layers takes a pixel
    require(
        min(size) >= smallest,
        f"images of {size[0]}x{size[1]} leave nothing for a PatchGAN with {strides} stride-2 "
        f"layers, which needs at least {smallest} pixels: give a larger --data.image-size, or fewer "
        f"{net.flag('discriminator_layers')}",
    )
