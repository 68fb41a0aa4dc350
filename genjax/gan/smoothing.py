"""Smoother translations: means over turns and mirrors of an image, or over neighbouring frames of a video."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from genjax.evaluation import flicker
from genjax.evaluation.flicker import Motion
from genjax.gan.canvas_sizes import Group
from genjax.gan.networks import Direction
from genjax.gan.translator import GroupTranslator


@dataclasses.dataclass(frozen=True, eq=False)
class Dihedral:
    """A translator that averages over the turns and mirrors of an image (Timofte et al. 2016, section 3.5)."""

    translator: GroupTranslator

    def groups(self, sizes: np.ndarray) -> list[Group]:
        """Groups images as the translator does."""
        return self.translator.groups(sizes)

    def translate_group(self, direction: Direction, images: list[np.ndarray], group: Group) -> list[np.ndarray]:
        """Translates images [h, w, c] of a group eight times, in all positions."""
        total: list[np.ndarray] = []
        for element in range(8):
            # A transposed image lies on a transposed canvas.
            size = (group.columns, group.rows) if element & 1 else (group.rows, group.columns)
            placed = [turned(image, element) for image in images]
            translated = self.translator.translate_group(
                direction, placed, group._replace(rows=size[0], columns=size[1])
            )
            back = [turned_back(image, element) for image in translated]
            total = [sum_ + image for sum_, image in zip(total, back, strict=True)] if total else back
        return [sum_ / 8 for sum_ in total]


def turned(image: np.ndarray, element: int) -> np.ndarray:
    """Turns or mirrors an image [h, w, c] by the bits of `element`.

    1 transposes, then 2 flips upside down, then 4 mirrors left to right.
    """
    image = image.swapaxes(0, 1) if element & 1 else image
    return image[:: -1 if element & 2 else 1, :: -1 if element & 4 else 1]


def turned_back(image: np.ndarray, element: int) -> np.ndarray:
    """Inverts `turned`."""
    image = image[:: -1 if element & 2 else 1, :: -1 if element & 4 else 1]
    return image.swapaxes(0, 1) if element & 1 else image


class Frame(NamedTuple):
    """A frame of a video, and its translation: floats [h, w, c]."""

    image: np.ndarray
    translation: np.ndarray


def over_time(frames: Iterable[Frame | None]) -> Iterator[np.ndarray | None]:
    """Averages each translation with those of the frames before and after it, moved to its place, where they show it.

    The motion is that of the images. None stands for a frame that is lost. Three frames are held at a time.
    """
    before: list[tuple[Frame, Motion]] = []
    # None at the end, so that the last frame is yielded too.
    for here, after in itertools.pairwise(itertools.chain(frames, [None])):
        if here is None or after is None:
            yield None if here is None else _mean(here, before)
            before = []
            continue
        forth, back = flicker.motions(here.image, after.image)
        yield _mean(here, [*before, (after, forth)])
        before = [(here, back)]  # the motion is seen from the next frame


def _mean(here: Frame, others: list[tuple[Frame, Motion]]) -> np.ndarray:
    """Averages translations over those of the others that show a pixel."""
    total, number = here.translation.astype(np.float32), np.ones((*here.translation.shape[:2], 1), np.float32)
    for other, motion in others:
        shown = motion.shown[..., None]
        total = total + shown * flicker.carried(other.translation, motion.flow)
        number = number + shown
    return total / number
