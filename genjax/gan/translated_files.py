"""Translation of many picture files: reading, translating and writing at the same time, in bounded memory."""

import itertools
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from etils import epath
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from genjax.data.folders import Page
from genjax.data.pictures import Picture
from genjax.gan.canvas_sizes import Group
from genjax.gan.networks import Direction
from genjax.gan.smoothing import Frame, over_time
from genjax.gan.translator import GroupTranslator

T = TypeVar("T")

PIXELS_HELD = 1 << 21  # pixels that are read ahead, and as many that wait to be written; one picture may have more

# What is wrong with one picture; the last is that of a full device. Errors of writing, as on a full disk, end the call.
FAILURES = (ValueError, MemoryError, jax.errors.JaxRuntimeError)


class Files(NamedTuple):
    """Functions that read and write pictures; they raise ValueError for a picture that cannot be read or written."""

    size: Callable[[Page], tuple[int, int]]  # height and width, without decoding
    read: Callable[[Page], tuple[Picture, np.ndarray]]  # the picture, and what is translated: [h, w, c] in [0, 1]
    write: Callable[[Page, epath.Path, Picture, np.ndarray], None]  # a translation [h, w, c'] of the picture
    # of frames of a video that are to be smoothed over time: the picture to what is translated, as `read` does
    frame: Callable[[Picture], np.ndarray] | None = None


def translate_files(
    translator: GroupTranslator, direction: Direction, targets: dict[Page, epath.Path], files: Files
) -> int:
    """Translates each picture to the file that `targets` maps it to; returns the number of failures, which it logs.

    Pictures of one size are translated in their order.
    """
    with logging_redirect_tqdm(), tqdm(total=len(targets), unit="img", disable=None) as progress:
        pool = ThreadPoolExecutor(max(2, min(8, os.cpu_count() or 1)))
        try:
            done = _outcomes(pool, translator, direction, list(targets.items()), files)
            return sum(_report(page, error, progress) for page, error in done)
        finally:
            pool.shutdown(cancel_futures=True)


class _Loaded(NamedTuple):
    position: int  # among all pictures
    picture: Picture
    image: np.ndarray  # before or after translation


def _outcomes(
    pool: ThreadPoolExecutor,
    translator: GroupTranslator,
    direction: Direction,
    items: Sequence[tuple[Page, epath.Path]],
    files: Files,
) -> Iterator[tuple[Page, Exception | None]]:
    """Yields each picture with its error, or with None when its translation is on the disk."""
    # Sizes first, from headers: they decide which pictures share a program.
    measured = list(pool.map(lambda item: _try(files.size, item[0]), items))
    sound = np.array([i for i, size in enumerate(measured) if not isinstance(size, Exception)], int)
    yield from ((items[i][0], size) for i, size in enumerate(measured) if isinstance(size, Exception))
    sizes = np.array([measured[i] for i in sound]).reshape(-1, 2)
    groups = translator.groups(sizes)

    def read(work: tuple[Group, np.ndarray]) -> list[Exception | _Loaded]:
        return [_try(lambda i=i: _Loaded(i, *files.read(items[i][0]))) for i in sound[work[1]]]

    def translated() -> Iterator[tuple[int, Exception | _Loaded]]:
        works = [(group, batch) for group in groups for batch in group.batches]
        for (group, batch), loading in _ahead(pool, read, works, lambda work: sizes[work[1]].prod(axis=1).sum()):
            loaded = loading.result()
            good = [each for each in loaded if isinstance(each, _Loaded)]
            images = _try(translator.translate_group, direction, [each.image for each in good], group)
            # An error of the whole batch is that of each picture in it.
            done = {
                each.position: images if isinstance(images, Exception) else each._replace(image=images[k])
                for k, each in enumerate(good)
            }
            yield from ((i, done.get(i, each)) for i, each in zip(sound[batch], loaded, strict=True))

    def write(work: tuple[int, Exception | _Loaded]) -> Exception | None:
        index, loaded = work
        if isinstance(loaded, Exception):
            return loaded
        return _try(files.write, *items[index], loaded.picture, loaded.image)

    def weight(work: tuple[int, Exception | _Loaded]) -> int:
        return 0 if isinstance(work[1], Exception) else work[1].image[..., 0].size

    done = translated() if files.frame is None else _over_time(translated(), files.frame)
    for (index, _), writing in _ahead(pool, write, done, weight):
        yield items[index][0], writing.result()


def _over_time(
    works: Iterator[tuple[int, Exception | _Loaded]], frame: Callable[[Picture], np.ndarray]
) -> Iterator[tuple[int, Exception | _Loaded]]:
    """Smooths translations over time, where neither frame failed."""

    def as_frame(loaded: Exception | _Loaded) -> Frame | None:
        return Frame(frame(loaded.picture), loaded.image) if isinstance(loaded, _Loaded) else None

    # Smoothing reads a frame ahead; `tee` keeps the frames that are read and not yet yielded.
    works, again = itertools.tee(works)
    smoothed = over_time(as_frame(loaded) for _, loaded in again)
    for (index, loaded), image in zip(works, smoothed, strict=True):
        yield index, loaded._replace(image=image) if isinstance(loaded, _Loaded) and image is not None else loaded


def _ahead(
    pool: ThreadPoolExecutor, fn: Callable[[T], Any], works: Iterable[T], weight: Callable[[T], int]
) -> Iterator[tuple[T, Future]]:
    """Runs `fn` in threads ahead of the caller, on works of up to PIXELS_HELD pixels; yields them in order."""
    pending: deque[tuple[T, Future]] = deque()
    held = 0
    for work in works:
        while pending and held + weight(work) > PIXELS_HELD:  # a single work may be larger
            held -= weight(pending[0][0])
            yield pending.popleft()
        held += weight(work)
        pending.append((work, pool.submit(fn, work)))
    yield from pending


def _try(fn: Callable[..., T], *arguments: Any) -> T | Exception:
    try:
        return fn(*arguments)
    except FAILURES as error:
        return error


def _report(page: Page, error: Exception | None, progress: tqdm) -> bool:
    progress.update()
    if error is not None:
        logging.error("passed over %s: %s", page, str(error).partition("\n")[0])
    return error is not None
