"""Frozen, complete, self-checking configuration: data, optimiser, training, and one per family.

Every field has a flag of the same name on the command line (`--data.batch-size 64`); its docstring is the flag's help.
"""

import dataclasses
from typing import Literal

import tyro

Precision = Literal["float32", "bfloat16"]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images, in what form, and how many at a time."""

    source: str
    """mnist5k or digits (embedded), npz:PATH, folder:PATH, tfds:NAME or tfds:DIRECTORY of a prepared dataset."""
    image_shape: tuple[int, int, int]
    """Height, width and channels (1 grey, 3 colour). Images of another shape are converted: scaled to cover it, then
    cropped around the centre."""
    batch_size: int
    """Images per step over all devices and processes."""
    holdout: float = 0.1
    """Share of the training images held out for validation, and again for test, where an npz:, folder: or tfds: source
    has no such split; the embedded sets have theirs."""
    binarize: Literal["none", "stochastic", "fixed"] = "none"
    """Pixels become 1 with probability intensity, else 0: anew at each step (stochastic) or once for a seed (fixed)."""
    dequantize: bool = False
    """Adds uniform noise within one grey level, so that a density of pixels is a bound on their probability."""
    flip: bool = False
    """Mirrors each training image left to right with probability 1/2."""
    skip_corrupt: bool = False
    """Leaves out images that cannot be decoded (each is named in the log) instead of stopping."""
    cache_dir: str = "~/.cache/genjax"
    """Where decoded and resized folder: and tfds: images are kept as uint8."""
    decode_threads: int = 8
    """Threads that decode images; the numbers do not depend on it."""
    prefetch: int = 2
    """Batches prepared ahead of the step; the numbers do not depend on it."""

    def __post_init__(self) -> None:
        height, width, channels = self.image_shape
        _require(height >= 1 and width >= 1, f"image_shape needs a positive height and width, got {self.image_shape}")
        _require(channels in (1, 3), f"image_shape ends in 1 (grey) or 3 (colour) channels, got {self.image_shape}")
        _require(self.batch_size >= 1, f"batch_size must be at least 1, got {self.batch_size}")
        _require(0 < self.holdout < 0.5, f"holdout must lie between 0 and 0.5, got {self.holdout}")
        _require(
            not (self.dequantize and self.binarize != "none"), "dequantize and binarize exclude each other: choose one"
        )
        _require(self.decode_threads >= 1, f"decode_threads must be at least 1, got {self.decode_threads}")
        _require(self.prefetch >= 1, f"prefetch must be at least 1, got {self.prefetch}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Adam (Kingma and Ba 2015), its learning rate over the steps, and the average of the weights."""

    learning_rate: float
    """Peak learning rate."""
    schedule: Literal["constant", "cosine"] = "constant"
    """After the warm-up: constant, or a half cosine from the peak to 0 at the last step."""
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long to train and what to write down on the way; of these fields, only num_steps changes the numbers."""

    num_steps: int
    """Optimiser steps in all."""
    log_every: int = 50
    """Steps between rows of training metrics."""
    eval_every: int = 500
    """Steps between evaluations on the validation images, each with a grid of samples."""
    checkpoint_every: int = 500
    """Steps between checkpoints; a multiple of eval_every, so that the best can be told by its validation figure."""
    keep_every: int = 0
    """Keeps every checkpoint at a multiple of this many steps beside the last two and the best; 0 keeps no others."""
    max_skips: int = 20
    """Ends the run after this many steps in a row with a loss or gradient that is not finite."""
    tensorboard: bool = False
    """Writes TensorBoard event files too (needs the extra: pip install 'genjax-images[tensorboard]')."""

    def __post_init__(self) -> None:
        for name in ("num_steps", "log_every", "eval_every", "checkpoint_every", "max_skips"):
            _require(getattr(self, name) >= 1, f"{name} must be at least 1, got {getattr(self, name)}")
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
    precision: Precision = "float32"
    """float32 throughout, or bfloat16 for the layers' arithmetic alone."""
    data: DataConfig
    optim: OptimConfig
    train: TrainConfig
    vae: VaeConfig

    def __post_init__(self) -> None:
        _require(0 <= self.seed < 2**31, f"seed must lie in [0, 2**31), got {self.seed}")
        _check_schedule(self.optim, self.train)
        height, width, _ = self.data.image_shape
        if self.vae.architecture == "conv":
            smallest = 2 ** len(self.vae.hidden)
            _require(
                min(height, width) >= smallest,
                f"{height}x{width} images are too small for {len(self.vae.hidden)} stride-2 layers, which need at "
                f"least {smallest}x{smallest}: give fewer --vae.hidden or a larger --data.image-shape",
            )
        _require(
            not (self.data.dequantize and self.vae.likelihood == "bernoulli"),
            "dequantize makes pixels continuous, which a bernoulli likelihood cannot score: choose a gaussian one",
        )
        _require(
            not (self.data.binarize != "none" and self.vae.likelihood != "bernoulli"),
            f"binarize {self.data.binarize} makes pixels 0 or 1, which calls for --vae.likelihood bernoulli",
        )


def _check_schedule(optim: OptimConfig, train: TrainConfig) -> None:
    _require(
        optim.warmup_steps < train.num_steps,
        f"warmup_steps ({optim.warmup_steps}) must be below num_steps ({train.num_steps})",
    )
