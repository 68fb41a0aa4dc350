"""Levels of training images: the range that `levels auto` records, and a warning if little of it is used."""

import functools
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from genjax.data import pictures
from genjax.data.config import DataConfig
from genjax.data.crops import Crops
from genjax.data.decoding import LazyImages, damaged_lines, remedy
from genjax.data.splits import Domains, check_domains, hold_out

logger = logging.getLogger(__name__)

LEAST_SHARE = 1 / 4
"""Share of the levels below which a warning is logged."""

SAMPLE = 256
"""Number of images, evenly spaced, that the warning looks at."""


def of_arrays(domains: Sequence[np.ndarray]) -> tuple[float, ...]:
    """Returns the least and the highest level of each array, one pair after another."""
    return tuple(float(level) for images in domains for level in (images.min(), images.max()))


def of_pictures(domains: Sequence[LazyImages], config: DataConfig) -> tuple[float, ...]:
    """Decodes all training images, and returns the least and the highest level of each domain.

    Raises ValueError for files of several types in a domain, and for those that cannot be decoded, unless
    `config.skip_corrupt`.
    """
    check_domains(config, len(domains))
    measured: list[float] = []
    for domain, channels in zip(domains, config.channels, strict=True):
        # The levels become part of the configuration: held-out images must not decide them.
        training = hold_out(domain.items, config.holdout)["train"] if config.holdout else domain.items["train"]
        with ThreadPoolExecutor(config.decode_threads, "measure") as pool:
            results = list(pool.map(functools.partial(_range, domain, channels), training))
        damaged = [result for result in results if isinstance(result, str)]
        if damaged and not config.skip_corrupt:
            raise ValueError(f"{damaged_lines(damaged, len(training))}\n{remedy(config)}")
        found = [result for result in results if result is not None and not isinstance(result, str)]
        # Levels of 8 and of 16 bits are not on one scale.
        kinds = sorted({str(dtype) for dtype, _, _ in found})
        if len(kinds) != 1:
            raise ValueError(
                f"--data.levels auto needs images of one type, and {config.source} has {' and '.join(kinds) or 'none'}:"
                " convert them, or give --data.levels full"
            )
        measured += [min(low for _, low, _ in found), max(high for _, _, high in found)]
    return tuple(measured)


def warn_if_few(domains: Domains, name: str) -> None:
    """Logs a warning if the training images use less than a quarter of the levels."""
    for images in domains:
        if isinstance(images, Crops) and images.files is not None:  # decoded when it is needed, and not before
            continue
        top = np.iinfo(images.dtype).max
        sample = images[np.linspace(0, len(images) - 1, min(len(images), SAMPLE)).astype(int)]
        low, high = int(sample.min()), int(sample.max())
        if high - low < LEAST_SHARE * top:
            logger.warning(
                "training images of %s use levels %d to %d of 0 to %d only, and the rest of their range is lost: "
                "consider --data.levels auto, or --data.levels LOW HIGH", name, low, high, top
            )  # fmt: skip


def _range(domain: LazyImages, channels: int, item: object) -> tuple[np.dtype, float, float] | str | None:
    """Returns type, least and highest level of a picture; None if it is transparent everywhere, or what is damaged."""
    try:
        picture = domain.open(item)
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises nearly anything on bad bytes
        return f"{domain.name(item)}: {str(error) or type(error).__name__}"
    if picture.alpha is None:
        seen = picture.pixels
    else:  # nobody sees the colours below transparent pixels, and alpha only where it is a channel
        seen = picture.pixels[picture.alpha > 0] if channels in (1, 3) else pictures.to_planes(picture)
    return (seen.dtype, float(seen.min()), float(seen.max())) if seen.size else None
