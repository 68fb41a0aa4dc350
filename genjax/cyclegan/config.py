"""Configuration of a CycleGAN run: networks, losses and their weights; checked when it is made."""

import dataclasses
from typing import ClassVar

from genjax.checks import require
from genjax.data.config import DataConfig
from genjax.evaluation.perceptual import PerceptualConfig
from genjax.gan.adversarial import AdversarialConfig
from genjax.gan.config import SAME_CHANNELS, GanRun, NetworkConfig
from genjax.gan.terms import check_weights


@dataclasses.dataclass(frozen=True, kw_only=True)
class CycleGanConfig(NetworkConfig):
    """Networks of CycleGAN (Zhu et al. 2017, section 7.1), and the images that its discriminators see."""

    section: ClassVar[str] = "cyclegan"

    conditional: bool = False
    """Discriminators see the image that is translated beside its translation (Isola et al. 2017). It needs
    --data.train-pairs."""
    pool_size: int = 50
    """Earlier translations kept to train each discriminator with (Shrivastava et al. 2017); 0 keeps none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.pool_size >= 0, f"--cyclegan.pool-size must not be negative, got {self.pool_size}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig(AdversarialConfig, PerceptualConfig):
    """Weights of the generators' loss terms (genjax/cyclegan/losses.py), and the kind of adversarial loss.

    A term with weight 0 is not computed. G translates from A to B, F back.
    """

    identity: ClassVar[str] = "--loss.identity-a and --loss.identity-b"

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
    perceptual_cycle: float = 0.0
    """Weight of LPIPS(F(G(a)), a) + LPIPS(G(F(b)), b): what the cycle compares, by pretrained features."""
    perceptual_identity: float = 0.0
    """Weight of LPIPS(F(a), a) + LPIPS(G(b), b)."""
    semantic_noise: float = 0.0
    """Standard deviation of Gaussian noise on translations before they are classified, pixels in [-1, 1]. Without it
    a generator can learn perturbations that convince this classifier and no other."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_features()
        check_weights(self, ("semantic_noise",))
        require(
            self.semantic_noise == 0 or self.semantic_a2b > 0 or self.semantic_b2a > 0,
            f"--loss.semantic-noise {self.semantic_noise} has no effect without semantic losses: set it to 0, or give "
            "--loss.semantic-a2b or --loss.semantic-b2a a weight",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CycleGanRun(GanRun):
    """Configuration of one CycleGAN training."""

    cyclegan: CycleGanConfig
    loss: LossConfig
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
    def net(self) -> CycleGanConfig:
        """The networks."""
        return self.cyclegan

    def __post_init__(self) -> None:
        super().__post_init__()
        channels, loss = self.data.channels, self.loss
        require(
            channels[0] == channels[1] or loss.identity_a == loss.identity_b == loss.perceptual_identity == 0,
            f"the identity loss feeds each generator the other domain's images, with {channels} channels: "
            f"{SAME_CHANNELS}, or set --loss.identity-a 0 --loss.identity-b 0 --loss.perceptual-identity 0",
        )
        _check_pairs(self.data, self.cyclegan, self.loss)
        _check_keep(self)
        _check_classifiers(self)
        pool_size, batch_size = self.cyclegan.pool_size, self.data.batch_size
        require(
            pool_size == 0 or pool_size >= batch_size,
            f"--cyclegan.pool-size {pool_size} is smaller than the global batch of {batch_size}: give "
            "--cyclegan.pool-size "
            f"{batch_size} or more, or 0 for none",
        )


def _check_pairs(data: DataConfig, cyclegan: CycleGanConfig, loss: LossConfig) -> None:
    require(
        loss.paired == 0 or data.train_pairs or data.pairs != "",
        f"--loss.paired {loss.paired} needs known pairs: give --data.pairs SOURCE, or --data.train-pairs if all "
        "training images are pairs",
    )
    require(
        loss.paired > 0 or not data.pairs,
        f"--data.pairs {data.pairs} has no effect without a loss: give --loss.paired 10",
    )
    require(
        data.train_pairs or not cyclegan.conditional,
        "--cyclegan.conditional needs pairs in each batch: give --data.paired --data.train-pairs",
    )
    require(
        not (cyclegan.conditional and cyclegan.diff_augment),
        "--cyclegan.diff-augment would mix the colours of the two images that --cyclegan.conditional shows: leave one "
        "of them out",
    )


def _check_keep(run: CycleGanRun) -> None:
    channels = run.data.channels
    require(
        run.loss.keep == 0 or channels[0] == channels[1],
        f"--loss.keep compares an image with its translation, with {channels} channels: give both domains as many",
    )
    require(
        run.loss.keep > 0 or not (run.keep_mask or run.keep_mask_sha256),
        f"--keep-mask {run.keep_mask} has no effect without a loss: give --loss.keep 10, or leave the mask out",
    )
    require(
        run.keep_mask != "" or run.keep_mask_sha256 == "",
        f"--keep-mask-sha256 {run.keep_mask_sha256} has no effect without --keep-mask: leave it out",
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
            f"classifier {given} has no effect, as the semantic losses have weight 0: give --loss.semantic-a2b 1 or "
            "--loss.semantic-b2a 1, or leave the classifier out",
        )
        return
    require(
        run.classifier_a != "" and run.classifier_b != "",
        f"--loss.semantic-a2b {semantic_a2b} and --loss.semantic-b2a {semantic_b2a} need a classifier of each domain: "
        "give --classifier-a FILE and --classifier-b FILE, or set both weights to 0",
    )
