"""Configuration of the data: source, shape and batches."""

import dataclasses
import math
import re
from typing import Literal

import numpy as np

from genjax.checks import require

Resize = Literal["cover", "stretch", "width", "none"]
Levels = Literal["full", "auto"] | tuple[float, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Source of the images, their shape, and the batch size."""

    source: str
    """Demo images, or those of files or a dataset. Demo images: mnist5k, digits, satellite, faces or faces:N for N
    faces; with two domains icons, icons-pairs or icons-pairs:N, satellite-relief, gray-colour and its parts
    gray-colour-west and gray-colour-east, faces-glasses or faces-glasses:N, faces-glasses-pairs or
    faces-glasses-pairs:N. Others: npz:PATH, folder:PATH, folder:PATH_A,PATH_B for two domains, pairs:PATH for pictures
    with A in the left half and B in the right, tfds:NAME, tfds:DIRECTORY of a prepared dataset, or
    python:MODULE.FUNCTION for a function of your own."""
    image_size: tuple[int, int]
    """Height and width that a model sees; images of another size are resized."""
    channels: tuple[int, ...]
    """1 (grey), 3 (colour) or another number for each domain: one domain for a VAE, two for translation. Images are
    converted between grey and colour. Other numbers take all samples of npz: arrays, TIFF files and pictures with alpha
    as they are."""
    batch_size: int
    """Images per step over all devices and processes."""
    holdout: float = 0.1
    """Share of the training images held out for validation, and again for test. It is used where an npz:, folder: or
    tfds: source has no such split; demo images have all three. 0 holds out none: up to 100 training images are then
    used instead, and their metrics say nothing about other images."""
    paired: bool = False
    """Validation and test images are pairs: image i of both domains shows the same thing. Evaluation then compares
    translations with the truth. Training does not see pairs, unless train_pairs is set too."""
    train_pairs: bool = False
    """Training images are pairs too, and come together in a batch. It needs paired."""
    pairs: str = ""
    """Source of known pairs, beside unpaired training images: pairs:PATH, folder:PATH, npz:PATH, icons-pairs:64, and
    others. Folders hold the same names in both domains. All its training images are used, as batches of their own
    (CycleGAN: --loss.paired). Empty: none are known."""
    binarize: Literal["none", "stochastic", "fixed"] = "none"
    """Sets each pixel to 1 with probability equal to its intensity, else to 0. stochastic: anew at each step. fixed:
    once."""
    dequantize: bool = False
    """Adds uniform noise within one grey level, so that a density bounds the probability of the 8-bit pixels."""
    flip: bool = False
    """Mirrors each training image left to right with probability 1/2."""
    turns: bool = False
    """Turns each training image by 0, 90, 180 or 270 degrees, each with probability 1/4. It needs square images."""
    load_scale: tuple[float, ...] = ()
    """Scale of pictures before crops of image_size, as a multiple of it: 1.117 for 286 with 256. One number, or one for
    the height and one for the width. Training crops at random places, everything else around the centre. Empty:
    pictures are scaled to image_size, and with cover only the centre is used. The flag without a number removes a
    configuration's own load_scale."""
    resize: Resize = "cover"
    """Scales pictures to image_size times load_scale. cover: to cover it. stretch: each side. width: to its width.
    none: pictures keep their own scale. The last two crop as with a load_scale. All are bicubic."""
    ground: Literal["white", "black", "grey"] = "white"
    """Ground that transparent pictures are laid on, in training and wherever the trained model is used."""
    levels: Levels = "full"
    """Levels that become 0 and 1, as LOW HIGH or a pair for each domain. full: all that the files can hold. auto: the
    least and the highest of the training images, measured when a run begins, and recorded. 10 to 14 bits in 16-bit
    files need one of them; floating point and signed TIFF need LOW HIGH."""
    bits: Literal[8, 16] = 8
    """Bits per sample of the images that train: 16 for files that hold more than 8."""
    pages: Literal["refuse", "all"] = "refuse"
    """Refuses TIFF files of several pages and animations, or takes each page or frame as an image."""
    max_megapixels: int = 179
    """Largest picture that is decoded; a damaged file may claim any size."""
    upscale: bool = False
    """Enlarges images that are smaller than image_size, instead of refusing them."""
    skip_corrupt: bool = False
    """Leaves out damaged images, which cannot be decoded, instead of stopping."""
    cache: Literal["disk", "none"] = "disk"
    """Decodes folder: and tfds: images once, or for each batch. disk: once, into cache_dir. none: those of each batch
    ahead of its step, for sets larger than the disk. Results are the same."""
    cache_dir: str = "~/.cache/genjax"
    """Local directory that keeps decoded and resized folder: and tfds: images, and faces, as uint8."""
    cache_gib: int = 20
    """GiB that cache_dir may grow to: the least recently used arrays are removed first."""
    decode_threads: int = 8
    """Threads that decode images; results do not depend on it."""
    prefetch: int = 2
    """Batches prepared ahead of the step; results do not depend on it."""

    def __post_init__(self) -> None:
        _check_images(self)
        _check_pairs(self)
        _check_loading(self)

    @property
    def dtype(self) -> np.dtype:
        """Type of stored images."""
        return np.dtype(np.uint8 if self.bits == 8 else np.uint16)

    def levels_of(self, domain: int) -> tuple[float, float] | None:
        """Returns the given or measured LOW and HIGH of a domain; None for all levels of a file."""
        if self.levels == "full":
            return None
        if self.levels == "auto":
            raise ValueError("levels auto is not measured yet: use the configuration that sources.measured returns")
        low, high = self.levels[2 * domain :][:2] or self.levels[:2]
        return low, high

    @property
    def image_shapes(self) -> tuple[tuple[int, int, int], ...]:
        """Height, width and channels of each domain's images."""
        return tuple((*self.image_size, channels) for channels in self.channels)

    @property
    def load_size(self) -> tuple[int, ...]:
        """Height and width of pictures before crops of image_size; empty without a load_scale."""
        scales = self.load_scale * 2 if len(self.load_scale) == 1 else self.load_scale
        return tuple(round(size * scale) for size, scale in zip(self.image_size, scales, strict=False))

    @property
    def crops(self) -> bool:
        """True if training sees crops at random places of scaled pictures."""
        return bool(self.load_scale) or self.resize in ("width", "none")


def _check_images(config: DataConfig) -> None:
    """Checks what an image is: size, channels, scale and levels."""
    require(
        len(config.image_size) == 2 and min(config.image_size) >= 1,
        f"--data.image-size needs a positive height and width, got {config.image_size}",
    )
    require(
        len(config.channels) in (1, 2) and min(config.channels) >= 1,
        f"--data.channels needs a positive number, as 1 (grey) or 3 (colour), for each of one or two domains, got "
        f"{config.channels}",
    )
    require(
        len(config.load_scale) <= 2 and all(math.isfinite(scale) and scale >= 1 for scale in config.load_scale),
        f"--data.load-scale needs one or two numbers of at least 1, or nothing, got {config.load_scale}",
    )
    height, width = config.image_size
    require(
        not config.turns or height == width,
        f"--data.turns needs square images, and --data.image-size is {height} {width}: give --data.no-turns",
    )
    given = () if isinstance(config.levels, str) else config.levels
    require(
        config.levels in ("full", "auto")
        or (len(given) in (2, 2 * len(config.channels)) and all(map(math.isfinite, given))
            and all(low < high for low, high in zip(given[::2], given[1::2], strict=True))),
        "--data.levels needs full, auto, or LOW HIGH with LOW below HIGH (or a pair for each domain), got "
        f"{config.levels}",
    )  # fmt: skip
    require(
        not (config.load_scale and config.resize == "none"),
        "--data.load-scale has no effect with --data.resize none: give --data.load-scale without a number",
    )
    require(
        not (config.dequantize and config.binarize != "none"),
        "--data.dequantize and --data.binarize exclude each other: choose one",
    )


def _check_pairs(config: DataConfig) -> None:
    """Checks which images are pairs."""
    require(
        not (config.paired and len(config.channels) == 1),
        f"--data.paired needs two domains, and --data.channels names one, {config.channels}: give it two numbers",
    )
    require(
        config.paired or not config.train_pairs, "--data.train-pairs needs pairs in validation too: give --data.paired"
    )
    require(
        not config.pairs or len(config.channels) == 2,
        f"--data.pairs needs two domains, and --data.channels names one, {config.channels}: give it two numbers",
    )
    require(
        not (config.pairs and config.train_pairs),
        f"--data.train-pairs says that all training images are pairs: leave out --data.pairs {config.pairs}",
    )
    require(
        not (config.paired and config.skip_corrupt),
        "--data.skip-corrupt would break the pairs of --data.paired: give one of them",
    )


def _check_loading(config: DataConfig) -> None:
    """Checks how images are read, cached and put in batches."""
    require(config.batch_size >= 1, f"--data.batch-size must be at least 1, got {config.batch_size}")
    require(0 <= config.holdout < 0.5, f"--data.holdout must be 0, or lie between 0 and 0.5, got {config.holdout}")
    require(config.max_megapixels >= 1, f"--data.max-megapixels must be at least 1, got {config.max_megapixels}")
    require(
        config.binarize != "fixed" or not (config.crops or config.cache == "none"),
        "--data.binarize fixed draws the pixels of whole images once, and keeps them: give --data.binarize stochastic, "
        "or --data.cache disk, --data.resize cover or stretch, and no --data.load-scale",
    )
    require(
        config.cache == "disk" or config.source.startswith(("folder:", "pairs:", "tfds:", "faces")),
        f"--data.cache none is for folder:, pairs:, tfds: and faces, as {config.source} is not decoded: leave it out",
    )
    require(
        not re.match(r"[\w.+-]+:/", config.cache_dir),
        f"--data.cache-dir {config.cache_dir} is not local, and images are memory-mapped from it: give "
        "--data.cache-dir a local directory",
    )
    require(config.cache_gib >= 0, f"--data.cache-gib must not be negative, got {config.cache_gib}")
    require(config.decode_threads >= 1, f"--data.decode-threads must be at least 1, got {config.decode_threads}")
    require(config.prefetch >= 1, f"--data.prefetch must be at least 1, got {config.prefetch}")
