"""Configuration that all families share: data, optimiser, training, seeds.

A configuration is frozen, complete, and checked when it is made. Each family adds its networks and losses in a
`config.py` of its own. Every field has a flag of the same name on the command line (`--data.batch-size 64`); its
docstring is the flag's help.
"""

import dataclasses
import math
import re
from collections.abc import Collection
from typing import Literal, TypeVar

from genjax.checks import check_finite, check_seed, check_used, flag, require
from genjax.data.config import DataConfig

Precision = Literal["float32", "tensorfloat32", "bfloat16"]
Tracker = Literal["tensorboard", "wandb", "mlflow"]
SeedName = Literal["init", "data", "noise"]
RunT = TypeVar("RunT", bound="RunConfig")

NO_FILE = "-"
"""Stands in init_from for the file of a network that is to begin from the seed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Adam (Kingma and Ba 2015), its learning rate over the steps, and the average of the weights."""

    learning_rate: float
    """Peak learning rate."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """Learning rate after the warm-up: constant; a half cosine that reaches 0 after the last step; or constant, then
    linear."""
    decay: float = 0.5
    """Linear schedule: share of the training, at its end, over which the rate decays."""
    steps_per_epoch: int = 1
    """Linear schedule: steps between changes of the rate."""
    linear_decay: Literal["epoch_end", "epoch_start", "lua"] = "epoch_end"
    """Linear schedule: the implementation whose rates are copied, over d epochs of decay. epoch_end: from d/(d+1) of
    the peak to 1/(d+1) (CycleGAN's older PyTorch code and CUT). epoch_start: the same one epoch earlier, down to 0
    (CycleGAN's newer PyTorch code). lua: from 1 to 1/d (the original code)."""
    warmup: float = 0.0
    """Share of the training over which the learning rate rises linearly from 0 to its peak."""
    b1: float = 0.9
    """Decay of Adam's first moment."""
    b2: float = 0.999
    """Decay of Adam's second moment."""
    eps: float = 1e-8
    """Adam's epsilon, added outside the square root."""
    weight_decay: float = 0.0
    """Weight decay, apart from Adam's moments (AdamW: Loshchilov and Hutter 2019). A step takes this share, times the
    learning rate, off the matrices and kernels, not off biases and scales."""
    ema_decay: float = 0.999
    """Decay of the averaged weights, which evaluation and sampling use. At step t it is
    min(ema_decay, (1 + t) / (10 + t))."""

    def __post_init__(self) -> None:
        check_finite(self, "optim")
        require(self.learning_rate > 0, f"--optim.learning-rate must be positive, got {self.learning_rate}")
        require(
            0 <= self.warmup < 1,
            f"--optim.warmup must be a share in [0, 1), got {self.warmup}: give --optim.warmup 0.05",
        )
        require(
            0 < self.decay <= 1, f"--optim.decay must be a share in (0, 1], got {self.decay}: give --optim.decay 0.5"
        )
        require(self.weight_decay >= 0, f"--optim.weight-decay must not be negative, got {self.weight_decay}")
        require(self.eps > 0, f"--optim.eps must be positive, got {self.eps}")
        for name in ("b1", "b2", "ema_decay"):
            value = getattr(self, name)
            require(0 <= value < 1, f"{flag('optim', name)} must lie in [0, 1), got {value}")
        require(self.steps_per_epoch >= 1, f"--optim.steps-per-epoch must be at least 1, got {self.steps_per_epoch}")
        check_used(self, "optim", ("decay", "steps_per_epoch", "linear_decay"), "schedule", ("linear",))
        require(
            not (self.schedule == "linear" and self.warmup > 0),
            f"--optim.schedule linear has no warm-up: give --optim.warmup 0, got {self.warmup}",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Length of a training, its memory, and its records.

    Only num_steps, steps_per_dispatch, accumulate and remat change results, the last three in their last digits."""

    num_steps: int
    """Optimiser steps in all, unless epochs is given."""
    epochs: float = 0.0
    """Passes over the training images, with two domains over the larger one; when the training begins they become
    num_steps. 0: num_steps counts."""
    log_every: int = 50
    """Steps between rows of training metrics."""
    eval_every: int = 500
    """Steps between evaluations on the validation images, each with a grid of samples."""
    checkpoint_every: int = 500
    """Steps between checkpoints; a multiple of eval_every, so that each has a validation loss."""
    num_sample_images: int = 64
    """Validation images in each grid of samples."""
    best_by: str = "auto"
    """Validation loss that selects the best checkpoint. elbo: of a VAE. l1: to the truth, for pairs. kid:NETWORK,
    frechet:NETWORK, mind:NETWORK: between generated and real images, with NETWORK as for evaluate.py --features. auto:
    the first that a run has; for translation without pairs kid:alexnet if the extra features is installed (kid:vgg16
    if a loss sees alexnet). none: no checkpoint is the best."""
    keep_period: int = 0
    """Steps between checkpoints that are never deleted; 0 keeps only the last two and the best."""
    max_nonfinite_steps: int = 20
    """Steps in a row with a loss or gradient that is not finite, after which the run ends. With steps_per_dispatch
    above 1, a call counts if all of its steps are not finite."""
    track: tuple[Tracker, ...] = ()
    """Sends rows, grids of samples and the configuration to trackers too: tensorboard, wandb, mlflow, or several of
    them. tensorboard writes event files in WORKDIR/tensorboard. Each needs the extra of its name: pip install
    'genjax-images[tensorboard]'."""
    profile: str = ""
    """START:STOP writes a profile of the steps after START up to STOP into WORKDIR/profile; 10:15 is a good choice."""
    show_parameters: bool = False
    """Logs a table of all parameters and their shapes when a run begins."""
    steps_per_dispatch: int = 1
    """Training steps per compiled call (a lax.scan); num_steps and the numbers of steps above must be multiples of it.
    It saves time for small fully connected networks; convolutional ones are slower on a CPU. All values above 1 give
    the same bits, which differ from those of 1 in the last digits."""

    accumulate: int = 1
    """Parts of each device's share of a batch, whose gradients are computed one after another and averaged. The
    compiled step needs less memory; its results are the same up to rounding."""
    remat: bool = False
    """Computes the inner layers of generators again for their gradients, in place of keeping them. That takes less
    memory and more time, and the results are the same up to rounding. Not for a VAE."""

    @property
    def profiled_steps(self) -> tuple[int, int] | None:
        """START and STOP of `profile`."""
        start, _, stop = self.profile.partition(":")
        return (int(start), int(stop)) if self.profile else None

    def __post_init__(self) -> None:
        check_finite(self, "train")
        found = re.fullmatch(r"(\d+):(\d+)", self.profile)
        require(
            not self.profile or (found is not None and int(found[1]) < int(found[2])),
            f"--train.profile needs START:STOP with START below STOP, such as 10:15, got {self.profile}",
        )
        steps = self.profiled_steps
        require(
            steps is None or self.epochs > 0 or steps[1] <= self.num_steps,
            f"--train.profile {self.profile} ends after --train.num-steps {self.num_steps}: give earlier steps",
        )
        require(
            len(set(self.track)) == len(self.track),
            f"--train.track needs different trackers, got {' '.join(self.track)}",
        )
        require(self.epochs >= 0, f"--train.epochs must not be negative, got {self.epochs}")
        counts = ("num_steps", "log_every", "eval_every", "checkpoint_every")
        for name in (*counts, "num_sample_images", "max_nonfinite_steps", "steps_per_dispatch", "accumulate"):
            require(getattr(self, name) >= 1, f"{flag('train', name)} must be at least 1, got {getattr(self, name)}")
        for name in counts:
            require(
                getattr(self, name) % self.steps_per_dispatch == 0,
                f"{flag('train', name)} {getattr(self, name)} must be a multiple of --train.steps-per-dispatch "
                f"{self.steps_per_dispatch}",
            )
        require(
            self.checkpoint_every % self.eval_every == 0,
            f"--train.checkpoint-every {self.checkpoint_every} must be a multiple of "
            f"--train.eval-every {self.eval_every}, "
            "so that each checkpoint has a validation loss",
        )
        require(
            self.keep_period >= 0 and self.keep_period % self.checkpoint_every == 0,
            f"--train.keep-period {self.keep_period} must be 0 or a multiple of --train.checkpoint-every "
            f"{self.checkpoint_every}",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeedConfig:
    """Seeds of single random streams, in place of the run's seed; for studies of the spread over seeds."""

    init: int | None = None
    """Seed of the initial parameters; None: the run's."""
    data: int | None = None
    """Seed of the order of the training images and of their fixed binarisation; None: the run's."""
    noise: int | None = None
    """Seed of the noise in steps and sample grids: augmentation, latents, pool decisions; None: the run's."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            check_seed(flag("seeds", field.name), getattr(self, field.name) or 0)


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
    init_from: tuple[str, ...] = ()
    """Begins the training with other weights: of a run directory, a file (.safetensors), or files of PyTorch. Of
    PyTorch, CycleGAN takes generators from A to B and from B to A (- for none), and CUT that from A to B. The optimiser
    is fresh. Empty: from the seed."""
    init_which: str = "last"
    """Checkpoint of the run in init_from: last, best, or a step."""
    init_key: tuple[str, ...] = ()
    """Names of the state dicts to take where a file of PyTorch holds several, such as netG_A2B netG_B2A."""
    init_from_sha256: tuple[str, ...] = ()
    """SHA-256 of each file in init_from, or the digest of the run's checkpoint. Empty: it is computed and recorded when
    the run begins."""
    data: DataConfig
    optim: OptimConfig
    train: TrainConfig

    def __post_init__(self) -> None:
        check_seed(flag("", "seed"), self.seed)
        check_start(self, ("init_which", "init_key", "init_from_sha256"))
        require(
            re.fullmatch(r"last|best|\d+", self.init_which) is not None,
            f"--init-which must be last, best or a step, got {self.init_which}",
        )
        require(
            len(self.init_from_sha256) in (0, len(self.init_from)),
            f"--init-from-sha256 needs one for each of --init-from {' '.join(self.init_from)}, or none",
        )

    @property
    def depends_on_num_steps(self) -> bool:
        """True if updates depend on num_steps, which then must not change on resuming."""
        return self.optim.schedule != "constant" or self.optim.warmup > 0


def check_start(run: RunConfig, names: Collection[str]) -> None:
    """Raises ValueError if one of the fields `names` is set, and there is no --init-from that it is about."""
    for field in dataclasses.fields(run):
        value = getattr(run, field.name)
        require(
            field.name not in names or value == field.default or len(run.init_from) > 0,
            f"{flag('', field.name)} has no effect without --init-from: leave it out, got {value}",
        )


def seed_of(run: RunConfig, name: SeedName) -> int:
    """Returns the seed of one stream: its own if it has one, else the run's."""
    own: int | None = getattr(run.seeds, name)
    return run.seed if own is None else own


def with_num_steps(run: RunT, num_examples: int) -> RunT:
    """Returns `run` with the `num_steps` of its epochs of `num_examples` images, if it is given in epochs."""
    if run.train.epochs == 0:
        return run
    several = run.train.steps_per_dispatch
    calls = math.ceil(run.train.epochs * num_examples / (run.data.batch_size * several))
    return dataclasses.replace(run, train=dataclasses.replace(run.train, num_steps=calls * several))
