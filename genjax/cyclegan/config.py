"""Configuration of a CycleGAN: frozen, complete, checked where it is made."""

import dataclasses
from typing import Literal

from genjax.config import DataConfig, RunConfig, check_finite, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class CycleGanConfig:
    """The four networks of CycleGAN (Zhu et al. 2017, section 7.1), and the pools of images that its critics see."""

    generator: Literal["resnet", "unet"] = "resnet"
    """ResNet (Johnson et al. 2016), or U-Net (Ronneberger et al. 2015; Isola et al. 2017)."""
    output: Literal["tanh", "residual"] = "tanh"
    """tanh(T(G(x))), or x + T(G(x)) with T's last layer zero at first: training then begins at the identity."""
    width: int = 64
    """Channels of the generators' first convolution."""
    blocks: int = 9
    """ResNet: residual blocks; the paper has 6 for 128x128 images and 9 for 256x256."""
    depth: int = 8
    """U-Net: times that height and width are halved; the reference has 7 for 128x128 images and 8 for 256x256."""
    discriminator: Literal["patch", "pixel"] = "patch"
    """Judges overlapping patches (PatchGAN), or each pixel by itself."""
    discriminator_width: int = 64
    """Channels of the discriminators' first convolution."""
    discriminator_layers: int = 3
    """PatchGAN: stride-2 convolutions; 1 to 5 see patches of 16, 34, 70, 142, 286 pixels."""
    spectral_norm: bool = False
    """Divides each discriminator kernel by its largest singular value (Miyato et al. 2018). Where an instance norm
    follows, as on all but the first and the last of a PatchGAN, it undoes any scale: their slope stays unbounded."""
    pool_size: int = 50
    """Earlier translations kept for each discriminator to see again (Shrivastava et al. 2017); 0 keeps none."""
    discriminator_lr_scale: float = 1.0
    """Learning rate of the discriminators as a multiple of the generators' (two time scales: Heusel et al. 2017)."""
    diff_augment: float = 0.0
    """Strength of DiffAugment (Zhao et al. 2020) on all that the discriminators see, for small sets of images: colour,
    translation and cutout, at 1 as in the paper, at 0 none."""
    instance_noise: float = 0.0
    """Standard deviation of Gaussian noise on all that the discriminators see, pixels in [-1, 1], at the first step; it
    falls linearly to 0 over num_steps (Sonderby et al. 2017; Arjovsky and Bottou 2017)."""

    def __post_init__(self) -> None:
        check_finite(self)
        for name in ("width", "discriminator_width", "discriminator_layers"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1, got {getattr(self, name)}")
        require(self.depth >= 2, f"depth must be at least 2, got {self.depth}")
        require(self.blocks >= 0, f"blocks must not be negative, got {self.blocks}")
        require(self.pool_size >= 0, f"pool_size must not be negative, got {self.pool_size}")
        require(
            self.discriminator_lr_scale > 0,
            f"discriminator_lr_scale must be positive, got {self.discriminator_lr_scale}",
        )
        require(0 <= self.diff_augment <= 1, f"diff_augment must lie in [0, 1], got {self.diff_augment}")
        require(self.instance_noise >= 0, f"instance_noise must not be negative, got {self.instance_noise}")

    @property
    def generator_sizes(self) -> tuple[int, int]:
        """Heights and widths that the generator takes: multiples of the first, and at least the second."""
        # A ResNet halves the size twice, and its reflecting borders need 2 pixels there.
        return (4, 8) if self.generator == "resnet" else (2**self.depth, 2**self.depth)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
    """L = L_cycle + L_per + lambda L_adv_a2b + mu L_adv_b2a: which losses, and the weight of each.

    L_cycle is cycle_a and cycle_b, L_per the identity, affine and semantic terms. A weight of 0 leaves a term out.
    """

    adversarial: Literal["lsgan", "vanilla", "hinge", "wgan_gp"] = "lsgan"
    """LSGAN (Mao et al. 2017), the non-saturating loss (Goodfellow et al. 2014), the hinge loss (Lim and Ye 2017), or
    the Wasserstein loss with gradient penalty (Gulrajani et al. 2017)."""
    adversarial_a2b: float
    """lambda: weight of fooling the discriminator of domain B."""
    adversarial_b2a: float
    """mu: weight of fooling the discriminator of domain A."""
    cycle_a: float
    """Weight of |F(G(a)) - a|, with G from A to B and F back."""
    cycle_b: float
    """Weight of |G(F(b)) - b|."""
    identity_a: float = 0.0
    """Weight of |F(a) - a|; the reference's 0.5 is relative to the cycle's 10, so 5 here."""
    identity_b: float = 0.0
    """Weight of |G(b) - b|."""
    affine_a2b: float = 0.0
    """Weight of |T(G(a)) - G(T(a))| for T drawn from the symmetries of the square, turns and reflections."""
    affine_b2a: float = 0.0
    """Weight of |T(F(b)) - F(T(b))|."""
    semantic_a2b: float = 0.0
    """Weight of the cross-entropy of classifier_b on G(a) against the class that classifier_a sees in a."""
    semantic_b2a: float = 0.0
    """Weight of the cross-entropy of classifier_a on F(b) against the class that classifier_b sees in b."""
    semantic_noise: float = 0.0
    """Standard deviation of Gaussian noise, black being -1 and white 1, on what the classifiers see of translations: a
    generator could else please its one classifier with what no other sees."""
    gradient_penalty: float = 10.0
    """wgan_gp: weight of (|gradient| - 1)^2 between real and translated images, beside the whole Wasserstein loss."""
    r1: float = 0.0
    """gamma: half the weight of |gradient|^2 at real images, beside the whole adversarial loss (Mescheder et al.
    2018)."""
    label_smoothing: float = 0.0
    """lsgan and vanilla: how far below 1 a discriminator's target for real images is; that for translated ones
    stays 0 (one-sided label smoothing: Salimans et al. 2016)."""

    def __post_init__(self) -> None:
        check_finite(self)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            require(field.name == "adversarial" or value >= 0, f"{field.name} must not be negative, got {value}")
        require(self.label_smoothing < 0.5, f"label_smoothing must lie in [0, 0.5), got {self.label_smoothing}")
        require(
            self.label_smoothing == 0 or self.adversarial in ("lsgan", "vanilla"),
            f"label_smoothing {self.label_smoothing} lowers a target that {self.adversarial} has not: set it to 0, or "
            "--loss.adversarial lsgan or vanilla",
        )
        require(
            self.semantic_noise == 0 or self.semantic_a2b > 0 or self.semantic_b2a > 0,
            f"semantic_noise {self.semantic_noise} is for the semantic losses, which have weight 0: set it to 0, or "
            "--loss.semantic-a2b or --loss.semantic-b2a",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CycleGanRun(RunConfig):
    """Everything that one CycleGAN training depends on."""

    cyclegan: CycleGanConfig
    loss: LossConfig
    classifier_a: str = ""
    """File of a classifier of A's images for the semantic losses, which stays as it is: genjax.classifier.save writes
    it. None without such losses."""
    classifier_b: str = ""
    """One of B's images, of the same classes; CyCADA has the same for both."""
    classifier_a_sha256: str = ""
    """SHA-256 of the first file; where it is empty, that of the file is taken and recorded when the run begins."""
    classifier_b_sha256: str = ""
    """SHA-256 of the second."""

    @property
    def depends_on_num_steps(self) -> bool:
        """True if a step depends on how many there are to be: instance noise falls to 0 over them."""
        return super().depends_on_num_steps or self.cyclegan.instance_noise > 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            not self.data.dequantize and self.data.binarize == "none",
            "dequantize and binarize are for likelihoods, which CycleGAN has none of",
        )
        _check_domains(self.data, self.cyclegan, self.loss)
        _check_classifiers(self)
        _check_generator(self.data, self.cyclegan)
        _check_discriminator(self.data, self.cyclegan)
        pool_size, batch_size = self.cyclegan.pool_size, self.data.batch_size
        require(
            pool_size == 0 or pool_size >= batch_size,
            f"pool_size {pool_size} is smaller than the global batch of {batch_size}: give --cyclegan.pool-size "
            f"{batch_size} or more, or 0 for none",
        )


def _check_domains(data: DataConfig, cyclegan: CycleGanConfig, loss: LossConfig) -> None:
    require(len(data.channels) == 2, f"translation has two domains, and channels names one: {data.channels}")
    if data.channels[0] != data.channels[1]:
        remedy = "give both domains as many channels (--data.channels 3 3 turns grey into colour)"
        require(
            cyclegan.output != "residual",
            f"output residual adds an image of one domain to one of the other, with {data.channels} channels: {remedy}",
        )
        require(
            loss.identity_a == loss.identity_b == 0,
            f"the identity loss feeds each generator the other domain's images, with {data.channels} channels: {remedy}"
            ", or set --loss.identity-a 0 --loss.identity-b 0",
        )


def _check_classifiers(run: CycleGanRun) -> None:
    semantic_a2b, semantic_b2a = run.loss.semantic_a2b, run.loss.semantic_b2a
    if semantic_a2b == semantic_b2a == 0:
        given = run.classifier_a or run.classifier_b or run.classifier_a_sha256 or run.classifier_b_sha256
        require(
            not given,
            f"a classifier is given ({given}), and the semantic losses that use it have weight 0: set "
            "--loss.semantic-a2b or --loss.semantic-b2a, or leave the classifier out",
        )
        return
    require(
        run.classifier_a != "" and run.classifier_b != "",
        f"semantic_a2b {semantic_a2b} and semantic_b2a {semantic_b2a} need a classifier of each domain: give "
        "--classifier-a FILE and --classifier-b FILE, or set both to 0",
    )


def _check_generator(data: DataConfig, cyclegan: CycleGanConfig) -> None:
    height, width = data.image_size
    unit, smallest = cyclegan.generator_sizes
    reason = "a ResNet generator halves height and width twice, and its reflecting borders need 2 pixels there"
    if cyclegan.generator == "unet":
        reason = f"a U-Net of depth {cyclegan.depth} halves height and width that often: fewer with --cyclegan.depth"
    require(
        height % unit == 0 and width % unit == 0 and min(height, width) >= smallest,
        f"image_size {height}x{width} is not a multiple of {unit} of at least {smallest} ({reason})",
    )


def _check_discriminator(data: DataConfig, cyclegan: CycleGanConfig) -> None:
    if cyclegan.discriminator == "pixel":
        return
    strides = cyclegan.discriminator_layers
    smallest = 3 << strides  # each stride halves the size, and each of the two last 4x4 layers takes a pixel
    require(
        min(data.image_size) >= smallest,
        f"images of {data.image_size[0]}x{data.image_size[1]} leave nothing for a PatchGAN with {strides} stride-2 "
        f"layers, which needs at least {smallest} pixels: fewer with --cyclegan.discriminator-layers, or larger images",
    )
