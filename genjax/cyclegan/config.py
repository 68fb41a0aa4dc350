"""Configuration of a CycleGAN run: networks, losses and their weights; checked when it is made."""

import dataclasses
from typing import Literal

from genjax.checks import check_finite, flag, require
from genjax.config import RunConfig, check_start
from genjax.data.config import DataConfig
from genjax.gan.adversarial import AdversarialConfig
from genjax.nn.layers import NormKind


@dataclasses.dataclass(frozen=True, kw_only=True)
class CycleGanConfig:
    """Networks of CycleGAN (Zhu et al. 2017, section 7.1), and the images that its discriminators see."""

    generator: Literal["resnet", "unet"] = "resnet"
    """ResNet (Johnson et al. 2016), or U-Net (Ronneberger et al. 2015; Isola et al. 2017)."""
    output: Literal["tanh", "residual"] = "tanh"
    """tanh(T(E(x))) of encoder E and decoder T, or x + T(E(x)) with T's last layer zero at first: training then begins
    at the identity."""
    base_channels: int = 64
    """Channels of the generators' first convolution."""
    num_blocks: int = 9
    """ResNet: residual blocks; the paper has 6 for 128x128 images and 9 for 256x256."""
    num_downs: int = 8
    """U-Net: halvings of height and width; the reference has 7 for 128x128 images and 8 for 256x256."""
    discriminator: Literal["patch", "pixel"] = "patch"
    """PatchGAN, a logit for each of many overlapping patches; or PixelGAN, a logit for each pixel."""
    conditional: bool = False
    """Discriminators see the image that is translated beside its translation (Isola et al. 2017). It needs
    --data.train-pairs."""
    discriminator_channels: int = 64
    """Channels of the discriminators' first convolution."""
    discriminator_layers: int = 3
    """PatchGAN: stride-2 convolutions; 1 to 5 see patches of 16, 34, 70, 142, 286 pixels."""
    generator_norm: NormKind = "instance"
    """Normalisation in the generators: over each channel of an image (instance), over groups of channels (group), over
    all of them (layer), or none. instance takes the mean level of each channel away."""
    discriminator_norm: NormKind = "instance"
    """The same in the discriminators' inner layers."""
    norm_affine: bool = False
    """Learns a gain and an offset for each channel after each norm."""
    spectral_norm: bool = False
    """Divides each discriminator kernel by its largest singular value (Miyato et al. 2018). It bounds the gradient of a
    discriminator only with --cyclegan.discriminator-norm none: norms undo any scale."""
    pool_size: int = 50
    """Earlier translations kept to train each discriminator with (Shrivastava et al. 2017); 0 keeps none."""
    discriminator_lr_scale: float = 1.0
    """Learning rate of the discriminators as a multiple of the generators' (two time scales: Heusel et al. 2017)."""
    diff_augment: float = 0.0
    """Strength of DiffAugment (colour, translation and cutout; Zhao et al. 2020) on all images that the discriminators
    see, for small datasets; 1 is the paper's, 0 is none."""
    instance_noise: float = 0.0
    """Gaussian noise on all images that the discriminators see: standard deviation at the first step, for pixels in
    [-1, 1]; it falls linearly to 0 over num_steps (Sonderby et al. 2017; Arjovsky and Bottou 2017)."""

    def __post_init__(self) -> None:
        check_finite(self, "cyclegan")
        for name in ("base_channels", "discriminator_channels", "discriminator_layers"):
            require(getattr(self, name) >= 1, f"{flag('cyclegan', name)} must be at least 1, got {getattr(self, name)}")
        require(self.num_downs >= 2, f"--cyclegan.num-downs must be at least 2, got {self.num_downs}")
        require(self.num_blocks >= 0, f"--cyclegan.num-blocks must not be negative, got {self.num_blocks}")
        norms = {self.generator_norm, self.discriminator_norm}
        require(
            not self.norm_affine or norms != {"none"},
            "--cyclegan.norm-affine has no effect without norms: leave it out, or give --cyclegan.generator-norm layer",
        )
        require(self.pool_size >= 0, f"--cyclegan.pool-size must not be negative, got {self.pool_size}")
        require(
            self.discriminator_lr_scale > 0,
            f"--cyclegan.discriminator-lr-scale must be positive, got {self.discriminator_lr_scale}",
        )
        require(0 <= self.diff_augment <= 1, f"--cyclegan.diff-augment must lie in [0, 1], got {self.diff_augment}")
        require(self.instance_noise >= 0, f"--cyclegan.instance-noise must not be negative, got {self.instance_noise}")

    @property
    def generator_sizes(self) -> tuple[int, int]:
        """Heights and widths that the generator accepts: multiples of the first number, at least the second."""
        # A ResNet halves the size twice, and its reflection padding needs 2 pixels there.
        return (4, 8) if self.generator == "resnet" else (2**self.num_downs, 2**self.num_downs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig(AdversarialConfig):
    """Weights of the generators' loss terms (genjax/cyclegan/losses.py), and the kind of adversarial loss.

    A term with weight 0 is not computed. G translates from A to B, F back.
    """

    adversarial_a2b: float
    """lambda: weight of the adversarial loss of translations into B."""
    adversarial_b2a: float
    """mu: weight of the adversarial loss of translations into A."""
    cycle_a: float
    """Weight of |F(G(a)) - a|."""
    cycle_b: float
    """Weight of |G(F(b)) - b|."""
    identity_a: float = 0.0
    """Weight of |F(a) - a|; the reference's 0.5 is relative to the cycle's 10, so 5 here."""
    identity_b: float = 0.0
    """Weight of |G(b) - b|."""
    affine_a2b: float = 0.0
    """Weight of |T(G(a)) - G(T(a))| for T drawn from the symmetries of the square: turns and reflections."""
    affine_b2a: float = 0.0
    """Weight of |T(F(b)) - F(T(b))|."""
    semantic_a2b: float = 0.0
    """Weight of the cross-entropy of classifier_b on G(a) against the class of a by classifier_a."""
    semantic_b2a: float = 0.0
    """Weight of the cross-entropy of classifier_a on F(b) against the class of b by classifier_b."""
    paired: float = 0.0
    """Weight of |G(a) - b| + |F(b) - a| of known pairs: those of --data.pairs, or all with --data.train-pairs."""
    keep: float = 0.0
    """Weight of |G(a) - a| + |F(b) - b| where the keep_mask is black, or everywhere without one. Few pixels change."""
    semantic_noise: float = 0.0
    """Standard deviation of Gaussian noise on translations before they are classified, pixels in [-1, 1]. Without it
    a generator can learn perturbations that convince this classifier and no other."""

    def __post_init__(self) -> None:
        super().__post_init__()
        settings = {"semantic_noise", *(field.name for field in dataclasses.fields(AdversarialConfig))}
        weights = [field.name for field in dataclasses.fields(self) if field.name not in settings]
        require(
            any(getattr(self, name) for name in weights),
            "all weights of the loss are 0, so nothing would be trained: give one of them a weight, for example "
            "--loss.adversarial-a2b 1",
        )
        require(
            self.semantic_noise == 0 or self.semantic_a2b > 0 or self.semantic_b2a > 0,
            f"--loss.semantic-noise {self.semantic_noise} has no effect without semantic losses: set it to 0, or give "
            "--loss.semantic-a2b or --loss.semantic-b2a a weight",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CycleGanRun(RunConfig):
    """Configuration of one CycleGAN training."""

    cyclegan: CycleGanConfig
    loss: LossConfig
    init_parts: Literal["auto", "all", "generators"] = "auto"
    """What is taken from init_from: the averaged generators and the discriminators (all), or the generators alone, with
    fresh discriminators. auto: all that it holds."""
    classifier_a: str = ""
    """File of a classifier of A's images for the semantic losses, as genjax.evaluation.classifier.save writes it; empty
    without such losses."""
    classifier_b: str = ""
    """File of a classifier of B's images, of the same classes; CyCADA uses one file for both."""
    classifier_a_sha256: str = ""
    """SHA-256 of classifier_a; if empty, it is computed from the file and recorded when the run begins."""
    classifier_b_sha256: str = ""
    """SHA-256 of classifier_b."""

    keep_mask: str = ""
    """Picture of where translation may act: white is free, black is kept (--loss.keep), grey in part. It is scaled as
    training images are. Empty: --loss.keep counts everywhere."""
    keep_mask_sha256: str = ""
    """SHA-256 of keep_mask's pixels; if empty, it is computed and recorded when the run begins."""

    @property
    def judged_shapes(self) -> tuple[tuple[int, int, int], ...]:
        """Shapes of what the discriminators of A and of B see: an image, or a pair if they are conditional."""
        (height, width), channels = self.data.image_size, self.data.channels
        return tuple((height, width, sum(channels) if self.cyclegan.conditional else own) for own in channels)

    @property
    def depends_on_num_steps(self) -> bool:
        """True if updates depend on num_steps, through a schedule or instance noise."""
        return super().depends_on_num_steps or self.cyclegan.instance_noise > 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_start(self, ("init_parts",))
        require(
            not self.data.dequantize and self.data.binarize == "none",
            "--data.dequantize and --data.binarize are for likelihoods, and CycleGAN has none: remove them",
        )
        _check_domains(self.data, self.cyclegan, self.loss)
        _check_pairs(self.data, self.cyclegan, self.loss)
        _check_keep(self)
        _check_classifiers(self)
        _check_generator(self.data, self.cyclegan)
        _check_discriminator(self.data, self.cyclegan)
        pool_size, batch_size = self.cyclegan.pool_size, self.data.batch_size
        require(
            pool_size == 0 or pool_size >= batch_size,
            f"--cyclegan.pool-size {pool_size} is smaller than the global batch of {batch_size}: give "
            "--cyclegan.pool-size "
            f"{batch_size} or more, or 0 for none",
        )


def _check_domains(data: DataConfig, cyclegan: CycleGanConfig, loss: LossConfig) -> None:
    require(len(data.channels) == 2, f"CycleGAN needs two domains, and --data.channels names one: {data.channels}")
    if data.channels[0] != data.channels[1]:
        remedy = "give both domains as many channels (--data.channels 3 3 turns grey into colour)"
        require(
            cyclegan.output != "residual",
            "--cyclegan.output residual adds an image of one domain to one of the other, with "
            f"{data.channels} channels: {remedy}",
        )
        require(
            loss.identity_a == loss.identity_b == 0,
            f"the identity loss feeds each generator the other domain's images, with {data.channels} channels: {remedy}"
            ", or set --loss.identity-a 0 --loss.identity-b 0",
        )


def _check_pairs(data: DataConfig, cyclegan: CycleGanConfig, loss: LossConfig) -> None:
    require(
        loss.paired == 0 or data.train_pairs or data.pairs != "",
        f"--loss.paired {loss.paired} needs known pairs: give --data.pairs SOURCE, or --data.train-pairs if all "
        "training images are pairs",
    )
    require(
        loss.paired > 0 or not data.pairs, f"--data.pairs {data.pairs} has no effect without --loss.paired: give it 10"
    )
    require(
        data.train_pairs or not cyclegan.conditional,
        "--cyclegan.conditional needs pairs in each batch: give --data.paired --data.train-pairs",
    )
    require(
        not (cyclegan.conditional and cyclegan.diff_augment),
        "--cyclegan.diff-augment would mix the colours of the two images that --cyclegan.conditional shows: give one",
    )


def _check_keep(run: CycleGanRun) -> None:
    channels = run.data.channels
    require(
        run.loss.keep == 0 or channels[0] == channels[1],
        f"--loss.keep compares an image with its translation, with {channels} channels: give both domains as many",
    )
    require(
        run.loss.keep > 0 or not (run.keep_mask or run.keep_mask_sha256),
        f"--keep-mask {run.keep_mask} has no effect without --loss.keep: give it 10, or leave the mask out",
    )
    require(
        not (run.keep_mask and run.data.crops),
        "--keep-mask has one place in the image, and training crops at random places: give no --data.load-scale, and "
        "--data.resize cover or stretch",
    )


def _check_classifiers(run: CycleGanRun) -> None:
    semantic_a2b, semantic_b2a = run.loss.semantic_a2b, run.loss.semantic_b2a
    if semantic_a2b == semantic_b2a == 0:
        given = run.classifier_a or run.classifier_b or run.classifier_a_sha256 or run.classifier_b_sha256
        require(
            not given,
            f"classifier {given} has no effect, as the semantic losses have weight 0: set --loss.semantic-a2b or "
            "--loss.semantic-b2a, or leave the classifier out",
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
    reason = "a ResNet generator halves height and width twice, and its reflection padding needs 2 pixels there"
    if cyclegan.generator == "unet":
        reason = f"a U-Net with num_downs {cyclegan.num_downs} halves both that often: lower --cyclegan.num-downs"
    require(
        height % unit == 0 and width % unit == 0 and min(height, width) >= smallest,
        f"--data.image-size {height}x{width} is not a multiple of {unit} of at least {smallest} ({reason})",
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
