"""Configuration of a VAE: networks, likelihood, loss and scoring; checked when it is made."""

import dataclasses
from typing import Literal

from genjax.checks import check_finite, check_used, flag, require
from genjax.config import RunConfig
from genjax.evaluation.perceptual import PerceptualConfig

Likelihood = Literal["bernoulli", "gaussian", "gaussian_learned", "gaussian_optimal", "logistic_mixture"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class VaeConfig:
    """The variational autoencoder (Kingma and Welling 2014; Rezende, Mohamed and Wierstra 2014)."""

    architecture: Literal["mlp", "conv", "ladder", "spatial", "wavelet", "chain"] = "mlp"
    """mlp: fully connected. conv: convolutional with one stride-2 layer for each entry of hidden_sizes. With several
    groups of latents: ladder, of fully connected residual cells, whose posterior goes from the first group to the last
    with the prior; spatial, the same with convolutional cells and feature maps of latents; wavelet, the same with
    wavelet coefficients as latents, which needs likelihood gaussian; chain, fully connected, whose posterior goes back
    from the last group to the first (Burda et al. 2016)."""
    hidden_sizes: tuple[int, ...] = (500, 500)
    """Widths (mlp) or channels (conv) of the encoder's hidden layers, mirrored by the decoder. conv has one more layer,
    fully connected and four times the last width, on either side of the latents. ladder: equal widths of the residual
    cells of a step; encoder and decoder have a step for each group. spatial and wavelet: channels at 1/2, 1/4, ... of
    the image's size."""
    latent_dim: int = 32
    """mlp and conv: dimensions of z."""
    groups: tuple[int, ...] = (8, 16, 32)
    """Sizes of the groups of latents, from the first, whose prior is N(0, I), to the last. ladder and chain: their
    dimensions. spatial: their channels. wavelet: the channels of details that each group of a scale has, three for each
    channel of the image, brightness first."""
    strides: tuple[int, ...] = (8, 4, 2)
    """spatial: pixels in a row for one latent of each group, from the first to the last; powers of 2."""
    upper_sizes: tuple[int, ...] = (100, 100)
    """chain: widths of the hidden layers between a group and the one before it, mirrored by the prior."""
    activation: Literal["relu", "gelu", "silu", "tanh"] = "gelu"
    """Non-linearity of the hidden layers."""
    centred: bool = True
    """mlp and chain: the encoder sees pixels in [-1, 1] rather than [0, 1]. Not centred is better for tanh, which the
    -1 of a dark background saturates."""
    likelihood: Likelihood = "bernoulli"
    """Distribution p(x|z) of the pixels. gaussian has the fixed sigma below. gaussian_learned and gaussian_optimal have
    one sigma for all pixels, learned by gradient, or set at each step to its optimum, the root mean squared error of
    the batch (Rybkin et al. 2021). logistic_mixture is discretised over 256 levels (Salimans et al. 2017)."""
    mixtures: int = 5
    """logistic_mixture: components of a pixel."""
    sigma: float = 0.5**0.5
    """Standard deviation of pixels in [0, 1]. It is fixed with likelihood gaussian, and about the initial value of
    gaussian_learned (0.111 for 0.1). At sqrt(1/2), the distortion is the squared error plus a constant."""
    objective: Literal["elbo", "capacity", "iwae", "dreg"] = "elbo"
    """Loss of the training. elbo: distortion + beta * KL. capacity: distortion + beta * |KL - C|, with KL the mean over
    the batch, and C rising to the capacity below (Burgess et al. 2018). iwae: the importance-weighted bound of
    train_draws draws (Burda et al. 2016). dreg: the same bound with the doubly reparameterised gradient, of the same
    mean and less variance (Tucker et al. 2019)."""
    train_draws: int = 1
    """Draws of latents for each image in a training step; elbo and capacity average over them."""
    beta: float = 1.0
    """Weight of the KL term in the loss; the logged elbo does not depend on it. With objective capacity it is Burgess's
    gamma (1000 there)."""
    beta_warmup: float = 0.0
    """Share of the training, or of each cycle, over which beta rises linearly from 0."""
    beta_cycles: int = 1
    """Times that beta starts again from 0, at equal distances. Fu et al. 2019 take 4, with a warm-up of 0.5."""
    free_bits: float = 0.0
    """Nats of each group's KL that cost nothing (Kingma et al. 2016): a group whose mean over the batch is below this
    counts as this in the loss. 0: none are free."""
    free_bits_per: Literal["group", "dimension"] = "group"
    """Unit that has so many free bits: each group of latents, or each dimension, by its mean over the batch."""
    capacity: float = 25.0
    """Objective capacity: C at the end of its rise, in nats."""
    capacity_warmup: float = 0.5
    """Objective capacity: share of the training over which C rises linearly from 0."""
    validation_draws: int = 4
    """Draws of noise for each image in an evaluation on the validation images. It is the noise of latents, and of
    binarisation or dequantisation. There are fewer than on test, as it happens often. All runs and steps share them, so
    none has better luck."""
    test_draws: int = 16
    """The same on the test images; more draws lower the elbo_draw_se of the result."""

    def __post_init__(self) -> None:
        check_finite(self, "vae")
        sizes = self.hidden_sizes
        require(len(sizes) >= 1 and min(sizes) >= 1, f"--vae.hidden-sizes needs positive numbers, got {sizes}")
        require(self.latent_dim >= 1, f"--vae.latent-dim must be at least 1, got {self.latent_dim}")
        for name in ("groups", "upper_sizes"):
            value = getattr(self, name)
            require(len(value) >= 1 and min(value) >= 1, f"{flag('vae', name)} needs positive numbers, got {value}")
        require(
            self.architecture != "ladder" or len(set(sizes)) == 1,
            f"--vae.hidden-sizes of a ladder must be equal, as its cells are residual, got {sizes}",
        )
        if self.architecture == "spatial":
            levels = [2 ** (level + 1) for level in range(len(sizes))]
            require(
                len(self.strides) == len(self.groups)
                and list(self.strides) == sorted(self.strides, reverse=True)
                and set(self.strides) <= set(levels),
                f"--vae.strides needs one of {', '.join(map(str, levels))} for each of --vae.groups {self.groups}, the "
                f"largest first, as there are {len(sizes)} --vae.hidden-sizes, got {self.strides}",
            )
        require(
            self.architecture != "wavelet" or self.likelihood == "gaussian",
            f"--vae.architecture wavelet needs --vae.likelihood gaussian and its --vae.sigma, got {self.likelihood}",
        )
        require(self.sigma > 0, f"--vae.sigma must be positive, got {self.sigma}")
        check_used(self, "vae", ("sigma",), "likelihood", ("gaussian", "gaussian_learned"))
        require(self.mixtures >= 1, f"--vae.mixtures must be at least 1, got {self.mixtures}")
        check_used(self, "vae", ("mixtures",), "likelihood", ("logistic_mixture",))
        check_used(self, "vae", ("latent_dim",), "architecture", ("mlp", "conv"))
        check_used(self, "vae", ("centred",), "architecture", ("mlp", "chain"))
        check_used(self, "vae", ("groups",), "architecture", ("ladder", "spatial", "wavelet", "chain"))
        check_used(self, "vae", ("strides",), "architecture", ("spatial",))
        check_used(self, "vae", ("upper_sizes",), "architecture", ("chain",))
        for name in ("validation_draws", "test_draws"):
            require(
                getattr(self, name) >= 2,
                f"{flag('vae', name)} must be at least 2, for a standard error, got {getattr(self, name)}",
            )
        self._check_objective()

    def _check_objective(self) -> None:
        require(self.free_bits >= 0, f"--vae.free-bits must not be negative, got {self.free_bits}")
        require(self.beta >= 0, f"--vae.beta must not be negative, got {self.beta}")
        require(0 <= self.beta_warmup < 1, f"--vae.beta-warmup must be a share in [0, 1), got {self.beta_warmup}")
        require(
            self.beta > 0 or self.beta_warmup == 0,
            f"--vae.beta-warmup {self.beta_warmup} has no effect with beta 0: give --vae.beta-warmup 0",
        )
        require(self.beta_cycles >= 1, f"--vae.beta-cycles must be at least 1, got {self.beta_cycles}")
        require(
            self.beta_cycles == 1 or self.beta_warmup > 0,
            f"--vae.beta-cycles {self.beta_cycles} has no effect without a warm-up: give --vae.beta-warmup 0.5",
        )
        require(
            self.free_bits > 0 or self.free_bits_per == "group",
            f"--vae.free-bits-per {self.free_bits_per} has no effect without free bits: give --vae.free-bits 0.5",
        )
        require(self.train_draws >= 1, f"--vae.train-draws must be at least 1, got {self.train_draws}")
        require(self.capacity >= 0, f"--vae.capacity must not be negative, got {self.capacity}")
        require(
            0 <= self.capacity_warmup <= 1,
            f"--vae.capacity-warmup must be a share in [0, 1], got {self.capacity_warmup}",
        )
        require(
            self.likelihood != "gaussian_optimal" or self.objective in ("elbo", "capacity"),
            f"--vae.likelihood gaussian_optimal is no optimum of --vae.objective {self.objective}, which weighs its "
            "draws: give --vae.likelihood gaussian_learned",
        )
        check_used(self, "vae", ("beta", "beta_warmup", "beta_cycles"), "objective", ("elbo", "capacity"))
        check_used(self, "vae", ("free_bits", "free_bits_per"), "objective", ("elbo",))
        check_used(self, "vae", ("capacity", "capacity_warmup"), "objective", ("capacity",))


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig(PerceptualConfig):
    """Weights of losses besides --vae.objective. A term with weight 0 is not computed."""

    perceptual: float = 0.0
    """Weight, in nats, of LPIPS between an image and the mean of p(x|z). The logged elbo does not depend on it."""

    def __post_init__(self) -> None:
        check_finite(self, "loss")
        require(self.perceptual >= 0, f"--loss.perceptual must not be negative, got {self.perceptual}")
        self.check_features()


@dataclasses.dataclass(frozen=True, kw_only=True)
class VaeRun(RunConfig):
    """Configuration of one VAE training."""

    vae: VaeConfig
    loss: LossConfig = LossConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.loss.perceptual == 0 or self.vae.objective in ("elbo", "capacity"),
            f"--loss.perceptual {self.loss.perceptual} has no place in --vae.objective {self.vae.objective}, which "
            "weighs its draws: give elbo or capacity",
        )
        require(not self.train.remat, "--train.remat is for generators of images, not for a VAE: leave it out")
        over_batch = (
            self.vae.free_bits > 0,
            self.vae.objective == "capacity",
            self.vae.likelihood == "gaussian_optimal",
        )
        require(
            self.train.accumulate == 1 or not any(over_batch),
            f"--train.accumulate {self.train.accumulate} needs a loss that is a mean over images, and free bits, "
            "capacity and gaussian_optimal depend on the whole batch: give --train.accumulate 1",
        )
        require(
            len(self.data.channels) == 1,
            f"a VAE has one domain, and --data.channels names two, {self.data.channels}: give it one number",
        )
        height, width = self.data.image_size
        if self.vae.architecture in ("conv", "spatial"):
            smallest = 2 ** len(self.vae.hidden_sizes)
            require(
                min(height, width) >= smallest,
                f"{height}x{width} images are too small for {len(self.vae.hidden_sizes)} stride-2 layers, which need "
                f"at least {smallest}x{smallest}: give fewer --vae.hidden-sizes or a larger --data.image-size",
            )
        if self.vae.architecture == "wavelet":
            (channels,), stride = self.data.channels, 2 ** len(self.vae.hidden_sizes)
            require(
                sum(self.vae.groups) == 3 * channels,
                f"--vae.groups of wavelets must sum to {3 * channels}, three for each of --data.channels {channels}, "
                f"got {self.vae.groups}",
            )
            require(
                height % stride == 0 and width % stride == 0,
                f"--data.image-size of wavelets must be multiples of {stride}, as there are "
                f"{len(self.vae.hidden_sizes)} --vae.hidden-sizes, got {height} {width}",
            )
        require(
            not (self.data.dequantize and self.vae.likelihood == "bernoulli"),
            "--data.dequantize makes pixels continuous, which a bernoulli likelihood cannot score: "
            "give --vae.likelihood gaussian_learned or gaussian",
        )
        require(
            self.vae.likelihood != "logistic_mixture" or (self.data.bits == 8 and not self.data.dequantize),
            "--vae.likelihood logistic_mixture scores the 256 levels of 8-bit pixels: give --data.bits 8 and "
            f"--data.no-dequantize, got {self.data.bits} bits, dequantize {self.data.dequantize}",
        )
        require(
            not (self.data.binarize != "none" and self.vae.likelihood != "bernoulli"),
            f"--data.binarize {self.data.binarize} makes pixels 0 or 1, which needs --vae.likelihood bernoulli",
        )
        require(
            self.vae.likelihood not in ("gaussian_learned", "gaussian_optimal") or self.data.dequantize,
            f"--vae.likelihood {self.vae.likelihood} needs continuous pixels: as sigma falls, the density of 8-bit "
            "ones grows without bound. Give --data.dequantize, or --vae.likelihood gaussian",
        )

    @property
    def depends_on_num_steps(self) -> bool:
        """True if updates depend on num_steps, through a schedule or the rise of beta or of the capacity."""
        rises = self.vae.beta_warmup > 0 or (self.vae.objective == "capacity" and self.vae.capacity_warmup > 0)
        return super().depends_on_num_steps or rises
