"""Frozen, complete, self-checking configuration: data, optimiser, training, and one per family.

Every field has a flag of the same name on the command line (`--data.batch-size 64`); its docstring is the flag's help.
"""

import dataclasses
from typing import Literal

import tyro

Precision = Literal["float32", "bfloat16"]
Stream = Literal["init", "data", "noise"]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _check_seed(name: str, seed: int) -> None:
    _require(0 <= seed < 2**31, f"{name} must lie in [0, 2**31), got {seed}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images, in what form, and how many at a time."""

    source: str
    """Embedded: mnist5k, digits, satellite; with two domains icons, satellite-relief, gray-colour and its parts
    gray-colour-west and gray-colour-east. Or npz:PATH, folder:PATH, tfds:NAME, tfds:DIRECTORY of a prepared dataset."""
    image_size: tuple[int, int]
    """Height and width that a model sees; images of another size are resized."""
    channels: tuple[int, ...]
    """1 (grey) or 3 (colour) for each domain: one domain for a VAE, two for translation. Images are converted."""
    batch_size: int
    """Images per step over all devices and processes."""
    holdout: float = 0.1
    """Share of the training images held out for validation, and again for test, where an npz:, folder: or tfds: source
    has no such split; the embedded sets have theirs. 0 holds out none: what is missing is then up to 100 of the
    training images, whose figures say nothing about others."""
    paired: bool = False
    """Image i of one domain shows what image i of the other does, in validation and test (never in training):
    translations are then scored against the truth."""
    binarize: Literal["none", "stochastic", "fixed"] = "none"
    """Pixels become 1 with probability intensity, else 0: anew at each step (stochastic) or once for a seed (fixed)."""
    dequantize: bool = False
    """Adds uniform noise within one grey level, so that a density of pixels is a bound on their probability."""
    flip: bool = False
    """Mirrors each training image left to right with probability 1/2."""
    crop_margin: int = 0
    """Training images are loaded this many pixels taller and wider than image_size, and cut to it at a place drawn anew
    each time: 30 with 256x256 is the usual 286 -> 256."""
    resize: Literal["cover", "stretch"] = "cover"
    """Scale to cover the size and crop around the centre, or stretch to it whatever the aspect (both bicubic)."""
    upscale: bool = False
    """Enlarges images that are smaller than image_size, instead of refusing them."""
    skip_corrupt: bool = False
    """Leaves out images that cannot be decoded (each is named in the log) instead of stopping."""
    cache_dir: str = "~/.cache/genjax"
    """Where decoded and resized folder: and tfds: images are kept as uint8."""
    decode_threads: int = 8
    """Threads that decode images; the numbers do not depend on it."""
    prefetch: int = 2
    """Batches prepared ahead of the step; the numbers do not depend on it."""

    def __post_init__(self) -> None:
        _require(
            len(self.image_size) == 2 and min(self.image_size) >= 1,
            f"image_size needs a positive height and width, got {self.image_size}",
        )
        _require(
            len(self.channels) in (1, 2) and set(self.channels) <= {1, 3},
            f"channels needs 1 (grey) or 3 (colour) for each of one or two domains, got {self.channels}",
        )
        _require(self.batch_size >= 1, f"batch_size must be at least 1, got {self.batch_size}")
        _require(0 <= self.holdout < 0.5, f"holdout must be 0, or lie between 0 and 0.5, got {self.holdout}")
        _require(self.crop_margin >= 0, f"crop_margin must not be negative, got {self.crop_margin}")
        _require(
            not (self.paired and len(self.channels) == 1), "paired is about two domains, and channels names one domain"
        )
        _require(not (self.paired and self.skip_corrupt), "skip_corrupt would break the pairs of paired: choose one")
        _require(
            not (self.dequantize and self.binarize != "none"), "dequantize and binarize exclude each other: choose one"
        )
        _require(self.decode_threads >= 1, f"decode_threads must be at least 1, got {self.decode_threads}")
        _require(self.prefetch >= 1, f"prefetch must be at least 1, got {self.prefetch}")

    @property
    def image_shapes(self) -> tuple[tuple[int, int, int], ...]:
        """Height, width and channels of each domain's images."""
        return tuple((*self.image_size, channels) for channels in self.channels)

    def stored_shape(self, split: str, domain: int) -> tuple[int, int, int]:
        """Height, width and channels of a domain's images before augmentation: larger by crop_margin in training."""
        margin = self.crop_margin if split == "train" else 0
        return (self.image_size[0] + margin, self.image_size[1] + margin, self.channels[domain])


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Adam (Kingma and Ba 2015), its learning rate over the steps, and the average of the weights."""

    learning_rate: float
    """Peak learning rate."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """After the warm-up: constant; a half cosine from the peak to 0 at the last step; constant, then linear decay."""
    decay_steps: int = 0
    """Linear schedule: the last steps, over which the rate decays."""
    steps_per_epoch: int = 1
    """Linear schedule: steps between changes of the rate; num_steps and decay_steps are multiples of it."""
    linear_decay: Literal["epoch_end", "epoch_start", "lua"] = "epoch_end"
    """Linear schedule: over d epochs the rate falls from d/(d+1) of the peak to 1/(d+1) (epoch_end: CycleGAN's older
    PyTorch code and CUT, where the scheduler steps after an epoch), the same one epoch earlier and so to 0
    (epoch_start: its newer PyTorch code), or from 1 to 1/d (lua: the original code)."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises linearly from 0 to its peak."""
    b1: float = 0.9
    """Decay of Adam's first moment."""
    b2: float = 0.999
    """Decay of Adam's second moment."""
    eps: float = 1e-8
    """Adam's epsilon, added outside the square root."""
    ema_decay: float = 0.999
    """Decay of the averaged weights, used for evaluation and sampling: min(ema_decay, (1 + t) / (10 + t)) at step t."""

    def __post_init__(self) -> None:
        _require(self.learning_rate > 0, f"learning_rate must be positive, got {self.learning_rate}")
        _require(self.warmup_steps >= 0, f"warmup_steps must not be negative, got {self.warmup_steps}")
        _require(self.eps > 0, f"eps must be positive, got {self.eps}")
        for name in ("b1", "b2", "ema_decay"):
            value = getattr(self, name)
            _require(0 <= value < 1, f"{name} must lie in [0, 1), got {value}")
        _require(self.steps_per_epoch >= 1, f"steps_per_epoch must be at least 1, got {self.steps_per_epoch}")
        _require(
            self.decay_steps > 0 if self.schedule == "linear" else self.decay_steps == 0,
            f"schedule {self.schedule} goes with "
            f"{'a positive' if self.schedule == 'linear' else 'no'} decay_steps, got {self.decay_steps}",
        )
        _require(
            not (self.schedule == "linear" and self.warmup_steps > 0),
            f"schedule linear goes with no warmup_steps, got {self.warmup_steps}",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long to train and what to write down on the way; only num_steps and steps_per_dispatch change the numbers."""

    num_steps: int
    """Optimiser steps in all."""
    log_every: int = 50
    """Steps between rows of training metrics."""
    eval_every: int = 500
    """Steps between evaluations on the validation images, each with a grid of samples."""
    checkpoint_every: int = 500
    """Steps between checkpoints; a multiple of eval_every, so that the best can be told by its validation figure."""
    num_pictures: int = 64
    """Validation images in each grid of pictures."""
    keep_every: int = 0
    """Keeps every checkpoint at a multiple of this many steps beside the last two and the best; 0 keeps no others."""
    max_skips: int = 20
    """Ends the run after this many steps in a row with a loss or gradient that is not finite."""
    tensorboard: bool = False
    """Writes TensorBoard event files too (needs the extra: pip install 'genjax-images[tensorboard]')."""
    steps_per_dispatch: int = 1
    """Steps that the device takes on its own before the host speaks to it again; a divisor of num_steps and of the
    numbers of steps above. Saves time for small fully connected networks; convolutional ones are slower on a CPU. All
    numbers above 1 give the same bits, which are not quite those of 1."""

    def __post_init__(self) -> None:
        counts = ("num_steps", "log_every", "eval_every", "checkpoint_every")
        for name in (*counts, "num_pictures", "max_skips", "steps_per_dispatch"):
            _require(getattr(self, name) >= 1, f"{name} must be at least 1, got {getattr(self, name)}")
        for name in counts:
            _require(
                getattr(self, name) % self.steps_per_dispatch == 0,
                f"{name} ({getattr(self, name)}) must be a multiple of steps_per_dispatch ({self.steps_per_dispatch})",
            )
        _require(
            self.checkpoint_every % self.eval_every == 0,
            f"checkpoint_every ({self.checkpoint_every}) must be a multiple of eval_every ({self.eval_every}), "
            "so that each checkpoint has a validation figure",
        )
        _require(
            self.keep_every >= 0 and self.keep_every % self.checkpoint_every == 0,
            f"keep_every ({self.keep_every}) must be 0 or a multiple of checkpoint_every ({self.checkpoint_every})",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeedConfig:
    """Seeds of single streams that are not to follow the run's: for studies of where a spread comes from."""

    init: int | None = None
    """Seed of the first parameters, where it is not the run's."""
    data: int | None = None
    """Seed of the images' order and of a fixed binarisation, where it is not the run's."""
    noise: int | None = None
    """Seed of what steps and evaluations draw (augmentation, latents, pool decisions), where it is not the run's."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_seed(f"seeds.{field.name}", getattr(self, field.name) or 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class VaeConfig:
    """The variational autoencoder (Kingma and Welling 2014; Rezende, Mohamed and Wierstra 2014)."""

    architecture: Literal["mlp", "conv"] = "mlp"
    """Fully connected, or convolutional with one stride-2 layer for each entry of hidden."""
    hidden: tuple[int, ...] = (500, 500)
    """Widths (mlp) or channels (conv) of the encoder's hidden layers, mirrored by the decoder; conv has one more layer,
    fully connected and four times the last width, on either side of the latents."""
    latent_size: int = 32
    """Dimensions of z."""
    activation: Literal["relu", "gelu", "silu", "tanh"] = "gelu"
    """Non-linearity of the hidden layers."""
    likelihood: Literal["bernoulli", "gaussian", "gaussian_learned"] = "bernoulli"
    """p(x|z): Bernoulli, Gaussian with the fixed sigma below, or Gaussian with one learned sigma for all pixels."""
    sigma: float = 0.5**0.5
    """Standard deviation of likelihood gaussian, pixels in [0, 1], and what gaussian_learned starts from; fixed at
    sqrt(1/2), the distortion is the squared error plus a constant."""
    beta: float = 1.0
    """Weight of the KL term in the objective; it never changes what the logs call elbo."""
    beta_warmup_steps: int = 0
    """Steps over which beta rises linearly from 0."""

    def __post_init__(self) -> None:
        _require(len(self.hidden) >= 1 and min(self.hidden) >= 1, f"hidden needs positive widths, got {self.hidden}")
        _require(self.latent_size >= 1, f"latent_size must be at least 1, got {self.latent_size}")
        _require(self.sigma > 0, f"sigma must be positive, got {self.sigma}")
        _require(self.beta >= 0, f"beta must not be negative, got {self.beta}")
        _require(self.beta_warmup_steps >= 0, f"beta_warmup_steps must not be negative, got {self.beta_warmup_steps}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class VaeRun:
    """Everything that one VAE training depends on."""

    workdir: str = tyro.MISSING
    """Directory of the run: configuration, metrics, checkpoints, samples, report. The same command again resumes it."""
    seed: int = 0
    """Everything random follows from it."""
    seeds: SeedConfig = SeedConfig()
    precision: Precision = "float32"
    """float32 throughout, or bfloat16 for the layers' arithmetic alone."""
    data: DataConfig
    optim: OptimConfig
    train: TrainConfig
    vae: VaeConfig

    def __post_init__(self) -> None:
        _check_seed("seed", self.seed)
        _check_schedule(self.optim, self.train)
        _require(len(self.data.channels) == 1, f"a VAE has one domain, and channels names two: {self.data.channels}")
        height, width = self.data.image_size
        if self.vae.architecture == "conv":
            smallest = 2 ** len(self.vae.hidden)
            _require(
                min(height, width) >= smallest,
                f"{height}x{width} images are too small for {len(self.vae.hidden)} stride-2 layers, which need at "
                f"least {smallest}x{smallest}: give fewer --vae.hidden or a larger --data.image-size",
            )
        _require(
            not (self.data.dequantize and self.vae.likelihood == "bernoulli"),
            "dequantize makes pixels continuous, which a bernoulli likelihood cannot score: choose a gaussian one",
        )
        _require(
            not (self.data.binarize != "none" and self.vae.likelihood != "bernoulli"),
            f"binarize {self.data.binarize} makes pixels 0 or 1, which calls for --vae.likelihood bernoulli",
        )


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
    """Divides each discriminator kernel by its largest singular value (Miyato et al. 2018)."""
    pool_size: int = 50
    """Earlier translations kept for each discriminator to see again (Shrivastava et al. 2017); 0 keeps none."""
    discriminator_rate: float = 1.0
    """Learning rate of the discriminators as a multiple of the generators' (two time scales: Heusel et al. 2017)."""
    diff_augment: float = 0.0
    """Strength of DiffAugment (Zhao et al. 2020) on all that the discriminators see, for small sets of images: colour,
    translation and cutout, at 1 as in the paper, at 0 none."""
    instance_noise: float = 0.0
    """Standard deviation of Gaussian noise on all that the discriminators see, pixels in [-1, 1], at the first step; it
    falls linearly to 0 over num_steps (Sonderby et al. 2017; Arjovsky and Bottou 2017)."""

    def __post_init__(self) -> None:
        for name in ("width", "discriminator_width", "discriminator_layers"):
            _require(getattr(self, name) >= 1, f"{name} must be at least 1, got {getattr(self, name)}")
        _require(self.depth >= 2, f"depth must be at least 2, got {self.depth}")
        _require(self.blocks >= 0, f"blocks must not be negative, got {self.blocks}")
        _require(self.pool_size >= 0, f"pool_size must not be negative, got {self.pool_size}")
        _require(self.discriminator_rate > 0, f"discriminator_rate must be positive, got {self.discriminator_rate}")
        _require(0 <= self.diff_augment <= 1, f"diff_augment must lie in [0, 1], got {self.diff_augment}")
        _require(self.instance_noise >= 0, f"instance_noise must not be negative, got {self.instance_noise}")

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

    adversarial: Literal["least_squares", "logistic", "hinge", "wgan_gp"] = "least_squares"
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
    gradient_penalty: float = 10.0
    """wgan_gp: weight of (|gradient| - 1)^2 between real and translated images, beside the whole Wasserstein loss."""
    r1: float = 0.0
    """gamma: half the weight of |gradient|^2 at real images, beside the whole adversarial loss (Mescheder et al.
    2018)."""
    label_smoothing: float = 0.0
    """least_squares and logistic: how far below 1 a discriminator's target for real images is; that for translated ones
    stays 0 (one-sided label smoothing: Salimans et al. 2016)."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            _require(field.name == "adversarial" or value >= 0, f"{field.name} must not be negative, got {value}")
        _require(self.label_smoothing < 0.5, f"label_smoothing must lie in [0, 0.5), got {self.label_smoothing}")
        _require(
            self.label_smoothing == 0 or self.adversarial in ("least_squares", "logistic"),
            f"label_smoothing {self.label_smoothing} lowers a target that {self.adversarial} has not: set it to 0, or "
            "--loss.adversarial least_squares or logistic",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CycleGanRun:
    """Everything that one CycleGAN training depends on."""

    workdir: str = tyro.MISSING
    """Directory of the run: configuration, metrics, checkpoints, samples, report. The same command again resumes it."""
    seed: int = 0
    """Everything random follows from it."""
    seeds: SeedConfig = SeedConfig()
    precision: Precision = "float32"
    """float32 throughout, or bfloat16 for the layers' arithmetic alone."""
    data: DataConfig
    optim: OptimConfig
    train: TrainConfig
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

    def __post_init__(self) -> None:
        _check_seed("seed", self.seed)
        _check_schedule(self.optim, self.train)
        _require(
            not self.data.dequantize and self.data.binarize == "none",
            "dequantize and binarize are for likelihoods, which CycleGAN has none of",
        )
        _check_domains(self.data, self.cyclegan, self.loss)
        _check_classifiers(self)
        _check_generator(self.data, self.cyclegan)
        _check_discriminator(self.data, self.cyclegan)
        pool_size, batch_size = self.cyclegan.pool_size, self.data.batch_size
        _require(
            pool_size == 0 or pool_size >= batch_size,
            f"pool_size {pool_size} is smaller than the global batch of {batch_size}: give --cyclegan.pool-size "
            f"{batch_size} or more, or 0 for none",
        )


def seed_of(run: VaeRun | CycleGanRun, stream: Stream) -> int:
    """The seed of one of a run's streams: its own, or the run's."""
    own = getattr(run.seeds, stream)
    return run.seed if own is None else own


def _check_domains(data: DataConfig, cyclegan: CycleGanConfig, loss: LossConfig) -> None:
    _require(len(data.channels) == 2, f"translation has two domains, and channels names one: {data.channels}")
    if data.channels[0] != data.channels[1]:
        remedy = "give both domains as many channels (--data.channels 3 3 turns grey into colour)"
        _require(
            cyclegan.output != "residual",
            f"output residual adds an image of one domain to one of the other, with {data.channels} channels: {remedy}",
        )
        _require(
            loss.identity_a == loss.identity_b == 0,
            f"the identity loss feeds each generator the other domain's images, with {data.channels} channels: {remedy}"
            ", or set --loss.identity-a 0 --loss.identity-b 0",
        )


def _check_classifiers(run: CycleGanRun) -> None:
    semantic_a2b, semantic_b2a = run.loss.semantic_a2b, run.loss.semantic_b2a
    if semantic_a2b == semantic_b2a == 0:
        given = run.classifier_a or run.classifier_b or run.classifier_a_sha256 or run.classifier_b_sha256
        _require(
            not given,
            f"a classifier is given ({given}), and the semantic losses that use it have weight 0: set "
            "--loss.semantic-a2b or --loss.semantic-b2a, or leave the classifier out",
        )
        return
    _require(
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
    _require(
        height % unit == 0 and width % unit == 0 and min(height, width) >= smallest,
        f"image_size {height}x{width} is not a multiple of {unit} of at least {smallest} ({reason})",
    )


def _check_discriminator(data: DataConfig, cyclegan: CycleGanConfig) -> None:
    if cyclegan.discriminator == "pixel":
        return
    strides = cyclegan.discriminator_layers
    smallest = 3 << strides  # each stride halves the size, and each of the two last 4x4 layers takes a pixel
    _require(
        min(data.image_size) >= smallest,
        f"images of {data.image_size[0]}x{data.image_size[1]} leave nothing for a PatchGAN with {strides} stride-2 "
        f"layers, which needs at least {smallest} pixels: fewer with --cyclegan.discriminator-layers, or larger images",
    )


def _check_schedule(optim: OptimConfig, train: TrainConfig) -> None:
    _require(
        optim.warmup_steps < train.num_steps,
        f"warmup_steps ({optim.warmup_steps}) must be below num_steps ({train.num_steps})",
    )
    _require(
        optim.decay_steps <= train.num_steps,
        f"decay_steps ({optim.decay_steps}) must not be above num_steps ({train.num_steps})",
    )
    if optim.schedule == "linear":
        _require(
            train.num_steps % optim.steps_per_epoch == 0 and optim.decay_steps % optim.steps_per_epoch == 0,
            f"num_steps ({train.num_steps}) and decay_steps ({optim.decay_steps}) must be multiples of steps_per_epoch "
            f"({optim.steps_per_epoch})",
        )
