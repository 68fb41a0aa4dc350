"""Batches as a pure function of (seed, step), and prefetching of batches."""

import functools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from genjax import parallel
from genjax.data.crops import Crops, check_pairs
from genjax.data.splits import Domains
from genjax.keys import Stream

T = TypeVar("T")


class Batch(NamedTuple):
    """Examples of one step: NumPy arrays on the host, JAX arrays split along the first axis on the devices."""

    images: tuple[Any, ...]  # uint8 or uint16 [b, h, w, c], one for each domain
    position: Any  # int32 [b]: index of the example in the global batch; in evaluation, in the whole set
    pairs: tuple[Any, ...] = ()  # known pairs, images of both domains, [b, h, w, c] each; empty if none are known


@functools.lru_cache(maxsize=6)  # two epochs, which a batch may straddle, of two domains and of known pairs
def permutation(seed: int, stream: int, epoch: int, num_examples: int) -> np.ndarray:
    """Returns a random permutation of 0..num_examples-1, read-only."""
    # Sorted raw words of Philox, which no NumPy release may change (NEP 19); equal words keep their order.
    words = np.random.Philox(np.random.SeedSequence([seed, stream, epoch])).random_raw(num_examples)
    order = np.argsort(words, kind="stable")
    order.setflags(write=False)
    return order


def indices(seed: int, stream: int, step: int, batch_size: int, num_examples: int) -> np.ndarray:
    """Computes the rows [batch_size] of the global batch of `step`.

    The examples of all steps form one stream. Example p = step * batch_size + i is row p mod N of the permutation of
    epoch p // N, so each row comes once an epoch, for any N and batch size.
    """
    # A batch may straddle two epochs, and one larger than the data set several: each has its own permutation.
    epoch, place = np.divmod(step * batch_size + np.arange(batch_size), num_examples)
    rows = np.empty(batch_size, np.int64)
    for e in np.unique(epoch):
        rows[epoch == e] = permutation(seed, stream, int(e), num_examples)[place[epoch == e]]
    return rows


def crop_words(seed: int, stream: int, step: int, batch_size: int) -> np.ndarray:
    """Draws words uint64 [batch_size, 2] that place the crops of the global batch of `step`: see `Crops.at`."""
    # As for permutations, raw words; row i takes words 2 i and 2 i + 1, whatever the batch size.
    words = np.random.Philox(np.random.SeedSequence([seed, stream, step])).random_raw(2 * batch_size)
    return words.reshape(batch_size, 2)


def load(
    domains: Domains, seed: int, step: int, batch_size: int, rows: slice, pairs: bool = False, known: Domains = ()
) -> Batch:
    """Gathers `rows` of the training batch of `step`; with `pairs`, row i of both domains comes together.

    As many rows of the `known` pairs come with them, if there are any.
    """
    # Unpaired translation: each domain is shuffled on its own, so that the same images do not meet in every epoch.
    first, second = (Stream.SHUFFLE_FIRST, Stream.CROP_FIRST), (Stream.SHUFFLE_SECOND, Stream.CROP_SECOND)
    of_known = (Stream.SHUFFLE_PAIRS, Stream.CROP_PAIRS)
    gather = functools.partial(_gather, seed=seed, step=step, batch_size=batch_size, rows=rows)
    images = gather(domains, (first, first if pairs else second))
    position = np.arange(batch_size, dtype=np.int32)[rows]
    return Batch(images, position, gather(known, (of_known, of_known)))


def _gather(
    domains: Domains, streams: Sequence[tuple[Stream, Stream]], seed: int, step: int, batch_size: int, rows: slice
) -> tuple[np.ndarray, ...]:
    """Gathers images by the streams of each domain, of order and of crops; equal streams make pairs."""
    images, cropped = [], []
    for array, (shuffle, crop) in zip(domains, streams, strict=False):
        chosen = indices(seed, shuffle, step, batch_size, len(array))[rows]
        # Rows and places first, so that a process decodes its own part of the batch alone.
        if isinstance(array, Crops):
            pictures = list(array.pictures(chosen))
            cropped.append(pictures)
            images.append(array.cut(pictures, crop_words(seed, crop, step, batch_size)[rows]))
        else:
            images.append(array[chosen])
    if len(cropped) == 2 and streams[0] == streams[1]:
        check_pairs(*cropped)
    return tuple(images)


def loader(
    domains: Domains, batch_size: int, seed: int, steps_per_dispatch: int = 1, pairs: bool = False, known: Domains = ()
) -> Callable[[int], Batch]:
    """Returns a function from a step to this process's rows of the batches of one call."""
    rows = parallel.process_rows(batch_size)

    def load_steps(step: int) -> Batch:
        parts = [load(domains, seed, s, batch_size, rows, pairs, known) for s in range(step, step + steps_per_dispatch)]
        # [b, steps, ...]: the first axis is the one that is split over the devices.
        return parts[0] if steps_per_dispatch == 1 else jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *parts)

    return load_steps


def eval_batches(domains: Domains, batch_size: int, rows: slice) -> Iterator[Batch]:
    """Yields `rows` of the batches that cover every example of every domain once, in order."""
    # A shorter domain is padded with its last example; the caller drops the results of padding.
    for start in range(0, max(len(array) for array in domains), batch_size):
        position = np.arange(start, start + batch_size, dtype=np.int32)[rows]
        yield Batch(tuple(array[np.minimum(position, len(array) - 1)] for array in domains), position)


def prefetch(
    load: Callable[[int], T], steps: Iterable[int], depth: int, threads: int = 1
) -> Generator[T, None, None]:  # fmt: skip
    """Yields `load(step)` for each of `steps`, in order; threads compute up to `depth` of them ahead."""
    with ThreadPoolExecutor(threads, "prefetch") as pool:
        pending: deque[Future[T]] = deque()
        try:
            for step in steps:
                pending.append(pool.submit(load, step))
                if len(pending) > depth:  # one to yield now, and `depth` ahead of it
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:  # also when the loop ends early and closes this generator
            pool.shutdown(cancel_futures=True)
