"""Configuration that all families share: data, optimiser, training, seeds.

A configuration is frozen, complete, and checked when it is made. Each family adds its networks and losses in a
`config.py` of its own. Every field has a flag of the same name on the command line (`--data.batch-size 64`); its
docstring is the flag's help.
"""

import dataclasses
import math
import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Precision = Literal["float32", "tensorfloat32", "bfloat16"]
SeedName = Literal["init", "data", "noise"]
Resize = Literal["cover", "stretch"]


def require(condition: bool, message: str) -> None:
    """Raises ValueError with `message` unless `condition` holds."""
    if not condition:
        raise ValueError(message)


def check_finite(config: "DataclassInstance") -> None:
    """Raises ValueError if a float field of `config` is NaN or infinite."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        require(not isinstance(value, float) or math.isfinite(value), f"{field.name} must be finite, got {value}")


def check_used(
    config: "DataclassInstance", part: str, names: Collection[str], choice: str, users: Collection[str]
) -> None:
    """Raises ValueError if a field of `names` is set but has no effect, as `choice` is none of its `users`.

    A field is set if it is not at its default. `part` begins the flags of these fields.
    """
    chosen = getattr(config, choice)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        require(
            field.name not in names or chosen in users or value == field.default,
            f"{field.name} {value} has no effect with {choice} {chosen}: give --{part}.{field.name.replace('_', '-')} "
            f"{field.default}, or --{part}.{choice} {' or '.join(users)}",
        )


def check_seed(name: str, seed: int) -> None:
    """Raises ValueError unless 0 <= seed < 2**31: JAX refuses other seeds or maps two of them to one key."""
    require(isinstance(seed, int), f"{name} must be an int, got {type(seed).__name__}: give int({seed})")
    require(0 <= seed < 2**31, f"{name} must lie in [0, 2**31), got {seed}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Source of the images, their shape, and the batch size."""

    source: str
    """Demo images: mnist5k, digits, satellite; with two domains icons, satellite-relief, gray-colour and its parts
    gray-colour-west and gray-colour-east. Or npz:PATH, folder:PATH, tfds:NAME, tfds:DIRECTORY of a prepared dataset, or
    python:MODULE.FUNCTION for a function of your own."""
    image_size: tuple[int, int]
    """Height and width that a model sees; images of another size are resized."""
    channels: tuple[int, ...]
    """1 (grey) or 3 (colour) for each domain: one domain for a VAE, two for translation. Images are converted."""
    batch_size: int
    """Images per step over all devices and processes."""
    holdout: float = 0.1
    """Share of the training images held out for validation, and again for test. It is used where an npz:, folder: or
    tfds: source has no such split; demo images have all three. 0 holds out none: up to 100 training images are then
    used instead, and their metrics say nothing about other images."""
    paired: bool = False
    """Validation and test images are pairs: image i of both domains shows the same thing. Evaluation then compares
    translations with the truth. Training never sees pairs."""
    binarize: Literal["none", "stochastic", "fixed"] = "none"
    """Sets each pixel to 1 with probability equal to its intensity, else to 0: anew at each step (stochastic) or once
    (fixed)."""
    dequantize: bool = False
    """Adds uniform noise within one grey level, so that a density bounds the probability of the 8-bit pixels."""
    flip: bool = False
    """Mirrors each training image left to right with probability 1/2."""
    load_size: tuple[int, ...] = ()
    """Height and width of training images before random crops of image_size, for example 286 286 with image_size
    256 256. Empty for no crops."""
    resize: Resize = "cover"
    """Scales images to cover the size and crops the centre, or stretches them to the size (both bicubic)."""
    upscale: bool = False
    """Enlarges images that are smaller than image_size, instead of refusing them."""
    skip_corrupt: bool = False
    """Leaves out images that cannot be decoded (each is named in the log) instead of stopping."""
    cache_dir: str = "~/.cache/genjax"
    """Local directory that keeps decoded and resized folder: and tfds: images, as uint8."""
    cache_gib: int = 20
    """GiB that cache_dir may grow to: the least recently used arrays are removed first."""
    decode_threads: int = 8
    """Threads that decode images; results do not depend on it."""
    prefetch: int = 2
    """Batches prepared ahead of the step; results do not depend on it."""

    def __post_init__(self) -> None:
        require(
            len(self.image_size) == 2 and min(self.image_size) >= 1,
            f"image_size needs a positive height and width, got {self.image_size}",
        )
        require(
            len(self.channels) in (1, 2) and set(self.channels) <= {1, 3},
            f"channels needs 1 (grey) or 3 (colour) for each of one or two domains, got {self.channels}",
        )
        require(self.batch_size >= 1, f"batch_size must be at least 1, got {self.batch_size}")
        require(0 <= self.holdout < 0.5, f"holdout must be 0, or lie between 0 and 0.5, got {self.holdout}")
        require(
            len(self.load_size) in (0, 2), f"load_size needs a height and a width, or nothing, got {self.load_size}"
        )
        require(
            all(load >= size for load, size in zip(self.load_size, self.image_size, strict=False)),
            f"load_size {self.load_size} must not be below image_size {self.image_size}",
        )
        require(
            not (self.paired and len(self.channels) == 1), "paired needs two domains, and channels names one domain"
        )
        require(not (self.paired and self.skip_corrupt), "skip_corrupt would break the pairs of paired: choose one")
        require(
            not (self.dequantize and self.binarize != "none"), "dequantize and binarize exclude each other: choose one"
        )
        require(
            not re.match(r"[\w.+-]+:/", self.cache_dir),
            f"cache_dir {self.cache_dir} is not local, and images are memory-mapped from it: give --data.cache-dir a "
            "local directory",
        )
        require(self.cache_gib >= 0, f"cache_gib must not be negative, got {self.cache_gib}")
        require(self.decode_threads >= 1, f"decode_threads must be at least 1, got {self.decode_threads}")
        require(self.prefetch >= 1, f"prefetch must be at least 1, got {self.prefetch}")

    @property
    def image_shapes(self) -> tuple[tuple[int, int, int], ...]:
        """Height, width and channels of each domain's images."""
        return tuple((*self.image_size, channels) for channels in self.channels)

    def stored_shape(self, split: str, domain: int) -> tuple[int, int, int]:
        """Height, width and channels of a domain's images before augmentation: load_size, if any, in training."""
        height, width = self.load_size if split == "train" and self.load_size else self.image_size
        return (height, width, self.channels[domain])


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Adam (Kingma and Ba 2015), its learning rate over the steps, and the average of the weights."""

    learning_rate: float
    """Peak learning rate."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """Learning rate after the warm-up: constant; a half cosine that reaches 0 after the last step; or constant, then
    linear."""
    decay_steps: int = 0
    """Linear schedule: number of steps at the end over which the rate decays."""
    steps_per_epoch: int = 1
    """Linear schedule: steps between changes of the rate; num_steps and decay_steps must be multiples of it."""
    linear_decay: Literal["epoch_end", "epoch_start", "lua"] = "epoch_end"
    """Linear schedule: the implementation whose rates are copied, over d epochs of decay. epoch_end: from d/(d+1) of
    the peak to 1/(d+1) (CycleGAN's older PyTorch code and CUT). epoch_start: the same one epoch earlier, down to 0
    (CycleGAN's newer PyTorch code). lua: from 1 to 1/d (the original code)."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises linearly from 0 to its peak."""
    b1: float = 0.9
    """Decay of Adam's first moment."""
    b2: float = 0.999
    """Decay of Adam's second moment."""
    eps: float = 1e-8
    """Adam's epsilon, added outside the square root."""
    ema_decay: float = 0.999
    """Decay of the averaged weights, which evaluation and sampling use; at step t it is
    min(ema_decay, (1 + t) / (10 + t))."""

    def __post_init__(self) -> None:
        check_finite(self)
        require(self.learning_rate > 0, f"learning_rate must be positive, got {self.learning_rate}")
        require(self.warmup_steps >= 0, f"warmup_steps must not be negative, got {self.warmup_steps}")
        require(self.eps > 0, f"eps must be positive, got {self.eps}")
        for name in ("b1", "b2", "ema_decay"):
            value = getattr(self, name)
            require(0 <= value < 1, f"{name} must lie in [0, 1), got {value}")
        require(self.steps_per_epoch >= 1, f"steps_per_epoch must be at least 1, got {self.steps_per_epoch}")
        check_used(self, "optim", ("decay_steps", "steps_per_epoch", "linear_decay"), "schedule", ("linear",))
        require(
            self.schedule != "linear" or self.decay_steps > 0,
            f"schedule linear needs a positive decay_steps, got {self.decay_steps}: give --optim.decay-steps",
        )
        require(
            not (self.schedule == "linear" and self.warmup_steps > 0),
            f"schedule linear needs warmup_steps 0, got {self.warmup_steps}",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Length of a training, and its records. Only num_steps and steps_per_dispatch change results."""

    num_steps: int
    """Optimiser steps in all."""
    log_every: int = 50
    """Steps between rows of training metrics."""
    eval_every: int = 500
    """Steps between evaluations on the validation images, each with a grid of samples."""
    checkpoint_every: int = 500
    """Steps between checkpoints; a multiple of eval_every, so that each has a validation loss."""
    num_sample_images: int = 64
    """Validation images in each grid of samples."""
    keep_period: int = 0
    """Steps between checkpoints that are never deleted; 0 keeps only the last two and the best."""
    max_nonfinite_steps: int = 20
    """Steps in a row with a loss or gradient that is not finite, after which the run ends. With steps_per_dispatch
    above 1, a call counts if all of its steps are not finite."""
    tensorboard: bool = False
    """Writes TensorBoard event files too (needs the extra: pip install 'genjax-images[tensorboard]')."""
    steps_per_dispatch: int = 1
    """Training steps per compiled call (a lax.scan); num_steps and the numbers of steps above must be multiples of it.
    It saves time for small fully connected networks; convolutional ones are slower on a CPU. All values above 1 give
    the same bits, which differ from those of 1 in the last digits."""

    def __post_init__(self) -> None:
        counts = ("num_steps", "log_every", "eval_every", "checkpoint_every")
        for name in (*counts, "num_sample_images", "max_nonfinite_steps", "steps_per_dispatch"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1, got {getattr(self, name)}")
        for name in counts:
            require(
                getattr(self, name) % self.steps_per_dispatch == 0,
                f"{name} ({getattr(self, name)}) must be a multiple of steps_per_dispatch ({self.steps_per_dispatch})",
            )
        require(
            self.checkpoint_every % self.eval_every == 0,
            f"checkpoint_every ({self.checkpoint_every}) must be a multiple of eval_every ({self.eval_every}), "
            "so that each checkpoint has a validation loss",
        )
        require(
            self.keep_period >= 0 and self.keep_period % self.checkpoint_every == 0,
            f"keep_period ({self.keep_period}) must be 0 or a multiple of checkpoint_every ({self.checkpoint_every})",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeedConfig:
    """Seeds of single random streams, in place of the run's seed; for studies of the spread over seeds."""

    init: int | None = None
    """Seed of the initial parameters."""
    data: int | None = None
    """Seed of the order of the training images and of their fixed binarisation."""
    noise: int | None = None
    """Seed of the noise in steps and sample grids: augmentation, latents, pool decisions."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            check_seed(f"seeds.{field.name}", getattr(self, field.name) or 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Configuration of one training; each family adds its networks and losses."""

    workdir: str = ""
    """Directory of the run: configuration, metrics, checkpoints, samples, report. The same command resumes the run."""
    seed: int = 0
    """Seed of all randomness in the run but for evaluations, which use the same noise in all runs."""
    seeds: SeedConfig = SeedConfig()
    precision: Precision = "float32"
    """Precision of the arithmetic. float32: everything. tensorfloat32: a GPU's matrix units may round the factors of
    products. bfloat16: layers compute in bfloat16; parameters, losses and optimiser stay float32."""
    data: DataConfig
    optim: OptimConfig
    train: TrainConfig

    def __post_init__(self) -> None:
        check_seed("seed", self.seed)
        _check_schedule(self.optim, self.train)

    @property
    def depends_on_num_steps(self) -> bool:
        """True if updates depend on num_steps, which then must not change on resuming."""
        return self.optim.schedule != "constant"


def seed_of(run: RunConfig, name: SeedName) -> int:
    """Returns the seed of one stream: its own if it has one, else the run's."""
    own: int | None = getattr(run.seeds, name)
    return run.seed if own is None else own


def _check_schedule(optim: OptimConfig, train: TrainConfig) -> None:
    """Raises ValueError for a schedule that does not fit the length of the training."""
    require(
        optim.warmup_steps < train.num_steps,
        f"warmup_steps ({optim.warmup_steps}) must be below num_steps ({train.num_steps}): give fewer "
        "--optim.warmup-steps or more --train.num-steps",
    )
    require(
        optim.decay_steps <= train.num_steps,
        f"decay_steps ({optim.decay_steps}) must not be above num_steps ({train.num_steps}): give fewer "
        "--optim.decay-steps or more --train.num-steps",
    )
    if optim.schedule == "linear":
        require(
            train.num_steps % optim.steps_per_epoch == 0 and optim.decay_steps % optim.steps_per_epoch == 0,
            f"num_steps ({train.num_steps}) and decay_steps ({optim.decay_steps}) must be multiples of steps_per_epoch "
            f"({optim.steps_per_epoch})",
        )
