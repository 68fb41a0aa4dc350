"""Which rows a batch holds, as a pure function of (seed, step), and loading them ahead of time."""

import itertools
import threading
import time

import jax
import numpy as np
import pytest

from genjax.data import batches, crops
from genjax.keys import Stream

FIRST, SECOND = Stream.SHUFFLE_FIRST, Stream.SHUFFLE_SECOND


def stream(num, batch_size, num_examples, seed=0, which=FIRST):
    """The first `num` rows of a stream, read batch by batch."""
    steps = range(-(-num // batch_size))
    return np.concatenate([batches.indices(seed, which, s, batch_size, num_examples) for s in steps])[:num]


def numbered(num):
    """Images [num, 1, 1, 1] that say which row they are (below 256)."""
    return np.arange(num, dtype=np.uint8).reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("num_examples, batch_size", [(10, 1), (10, 5), (10, 4), (7, 10), (3, 64), (1, 5), (101, 32)])
def test_indices_give_each_row_once_an_epoch(num_examples, batch_size):
    rows = stream(4 * num_examples, batch_size, num_examples).reshape(4, num_examples)
    np.testing.assert_array_equal(np.sort(rows, axis=1), np.tile(np.arange(num_examples), (4, 1)))


@pytest.mark.parametrize("batch_size", [1, 3, 20, 50])
def test_indices_do_not_depend_on_batch_size(batch_size):
    np.testing.assert_array_equal(stream(60, batch_size, 20), stream(60, 7, 20))


def test_indices_do_not_depend_on_history():
    expected = [batches.indices(3, FIRST, step, 6, 20) for step in range(12)]
    for step in reversed(range(12)):
        np.testing.assert_array_equal(batches.indices(3, FIRST, step, 6, 20), expected[step])


def test_permutation_differs_by_seed_stream_and_epoch():
    orders = [
        tuple(batches.permutation(seed, which, epoch, 50))
        for seed, which, epoch in itertools.product(range(4), (FIRST, SECOND), range(4))
    ]
    assert len(set(orders)) == len(orders)


def test_permutation_is_kept_and_read_only():
    order = batches.permutation(0, FIRST, 0, 5)
    assert batches.permutation(0, FIRST, 0, 5) is order and not order.flags.writeable


def test_indices_golden_rows():
    # Seeds name these orders in every published result and checkpoint, so no change may alter them: not of genjax (the
    # rule or a number in Stream), nor of NumPy (SeedSequence and Philox's raw words are frozen by NEP 19).
    assert batches.indices(0, FIRST, 0, 8, 100).tolist() == [84, 52, 83, 65, 76, 85, 82, 35]
    # p = 96..103: epochs 0 and 1
    assert batches.indices(7, SECOND, 12, 8, 100).tolist() == [77, 52, 80, 0, 84, 46, 93, 71]


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_load_parts_make_up_the_batch(parts):
    source = (numbered(30), numbered(11))
    whole = batches.load(source, 5, 2, 8, slice(None))
    size = 8 // parts
    split = [batches.load(source, 5, 2, 8, slice(i * size, (i + 1) * size)) for i in range(parts)]
    for domain in (0, 1):
        np.testing.assert_array_equal(np.concatenate([part.images[domain] for part in split]), whole.images[domain])
    np.testing.assert_array_equal(np.concatenate([part.position for part in split]), np.arange(8))
    assert {part.position.dtype for part in split} == {np.dtype(np.int32)}


def test_load_gathers_the_rows_of_indices():
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 4, 1), dtype=np.uint8)
    batch = batches.load((images,), 1, 9, 6, slice(2, 5))
    np.testing.assert_array_equal(batch.images[0], images[batches.indices(1, FIRST, 9, 6, 20)[2:5]])


def test_loader_stacks_the_batches_of_one_call():
    source = numbered(30), numbered(11)
    one, several = batches.loader(source, 8, 5), batches.loader(source, 8, 5, 3)
    for place, step in enumerate((6, 7, 8)):
        expected = batches.load(source, 5, step, 8, slice(None))
        for found in (one(step), jax.tree.map(lambda leaf, place=place: leaf[:, place], several(6))):
            jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("sizes", [(24, 10), (7, 12), (12, 7)], ids=str)
def test_load_shuffles_each_domain_by_itself(sizes):
    source, epochs = tuple(map(numbered, sizes)), 5

    def shown(source, steps):
        loaded = [batches.load(source, 0, step, 6, slice(None)) for step in range(steps)]
        return [np.concatenate([batch.images[domain] for batch in loaded]).ravel() for domain in range(len(source))]

    both = shown(source, -(-epochs * max(sizes) // 6))
    for size, images in zip(sizes, both, strict=True):
        by_epoch = images[: epochs * size].reshape(epochs, size)
        assert [sorted(epoch) for epoch in by_epoch] == [list(range(size))] * epochs
        assert len({tuple(epoch) for epoch in by_epoch}) == epochs  # each in another order
    # Neither the other domain's images nor their number have a say.
    np.testing.assert_array_equal(both[0], shown(source[:1], len(both[0]) // 6)[0])
    np.testing.assert_array_equal(both[1], shown((numbered(3), source[1]), len(both[0]) // 6)[1])


def test_load_keeps_pairs_together():
    source = (np.arange(10), np.arange(10) + 100)
    loaded = [batches.load(source, 3, step, 4, slice(None), pairs=True).images for step in range(5)]
    assert all((a + 100 == b).all() for a, b in loaded) and len({*np.concatenate([a for a, _ in loaded])}) == 10


def test_load_brings_known_pairs_beside_the_same_images():
    source, known = (numbered(30), numbered(11)), (np.arange(5), np.arange(5) + 100)
    plain, paired = (
        [batches.load(source, 3, step, 4, slice(None), known=pairs) for step in range(5)] for pairs in ((), known)
    )
    assert all(batch.pairs == () and len(jax.tree.leaves(batch)) == 3 for batch in plain)
    for without, with_pairs in zip(plain, paired, strict=True):
        for one, other in zip(without.images, with_pairs.images, strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(with_pairs.pairs[0] + 100, with_pairs.pairs[1])
    assert sorted(np.concatenate([batch.pairs[0] for batch in paired])) == sorted(4 * list(range(5)))
    halves = [batches.load(source, 3, 2, 4, rows, known=known).pairs[1] for rows in (slice(0, 2), slice(2, 4))]
    np.testing.assert_array_equal(np.concatenate(halves), paired[2].pairs[1])
    several = batches.loader(source, 4, 3, 2, known=known)(2)
    np.testing.assert_array_equal(several.pairs[0][:, 1], paired[3].pairs[0])


def test_load_crops_known_pairs_at_one_place():
    pictures = [np.arange(100 * i, 100 * i + 81, dtype=np.uint16).reshape(9, 9, 1) for i in range(6)]
    known = tuple(crops.of_list([picture + offset for picture in pictures], (4, 4)) for offset in (0, 1000))
    a, b = batches.load((), 0, 1, 12, slice(None), known=known).pairs
    np.testing.assert_array_equal(a + 1000, b)
    assert len({int(image[0, 0, 0]) % 100 for image in a}) > 3  # at several places
    with pytest.raises(ValueError, match="crops a pair at one place, and its images are 9x9 and 8x9"):
        small = crops.of_list([picture[:8] for picture in pictures], (4, 4))
        batches.load((), 0, 1, 12, slice(None), known=(known[0], small))


def test_load_does_not_pair_domains():
    same = numbered(24)
    first, second = batches.load((same, same), 0, 0, 24, slice(None)).images
    assert np.mean(first == second) < 0.25


@pytest.mark.parametrize("sizes", [(13,), (13, 13), (13, 20), (20, 13), (1, 41)], ids=str)
@pytest.mark.parametrize("batch_size", [1, 4, 5, 13, 40])
@pytest.mark.parametrize("parts", [1, 2])
def test_eval_batches_cover_each_example_once_and_pad(sizes, batch_size, parts):
    rows = [slice(i * batch_size // parts, (i + 1) * batch_size // parts) for i in range(parts)]
    by_part = [list(batches.eval_batches(tuple(map(numbered, sizes)), batch_size, part)) for part in rows]
    together = [batch for step in zip(*by_part, strict=True) for batch in step]
    position = np.concatenate([batch.position for batch in together])
    np.testing.assert_array_equal(position, np.arange(-(-max(sizes) // batch_size) * batch_size))
    assert position.dtype == np.int32
    for domain, size in enumerate(sizes):
        shown = np.concatenate([batch.images[domain] for batch in together]).ravel()
        assert shown[:size].tolist() == list(range(size))
        assert set(shown[size:]) <= {size - 1}


@pytest.mark.parametrize("depth", [1, 2, 5, 50])
def test_prefetch_keeps_the_order(depth):
    def slower_at_first(step):
        time.sleep(0.003 if step < 3 else 0)
        return step * step

    assert list(batches.prefetch(slower_at_first, range(4, 12), depth)) == [step * step for step in range(4, 12)]
    assert list(batches.prefetch(slower_at_first, range(3), depth)) == [0, 1, 4]


def test_prefetch_loads_ahead_by_its_depth():
    loaded, ahead = [], threading.Event()

    def load(step):
        loaded.append(step)
        if step == 3:
            ahead.set()
        return step

    stream = batches.prefetch(load, itertools.count(), 3)
    assert next(stream) == 0
    assert ahead.wait(10)  # although nobody asked for step 3 yet
    time.sleep(0.05)
    assert loaded == [0, 1, 2, 3]
    stream.close()


def test_prefetch_raises_errors_in_their_turn():
    def load(step):
        if step == 2:
            raise FloatingPointError("step 2 is bad")
        return step

    stream = batches.prefetch(load, range(10), 4)
    assert [next(stream), next(stream)] == [0, 1]
    with pytest.raises(FloatingPointError, match="step 2 is bad"):
        next(stream)
    assert prefetch_threads() == []


def test_permutation_is_computed_once_an_epoch():
    source = (np.zeros((40, 1, 1, 1), np.uint8), np.zeros((45, 1, 1, 1), np.uint8))
    batches.permutation.cache_clear()
    for step in range(12):
        batches.load(source, 0, step, 15, slice(None))  # 180 examples: 5 epochs of one domain, 4 of the other
    assert batches.permutation.cache_info().misses == 5 + 4


def test_prefetch_stops_its_thread_when_closed():
    loaded, second, release = [], threading.Event(), threading.Event()

    def load(step):
        loaded.append(step)
        if step == 1:
            second.set()
            assert release.wait(10)

    stream = batches.prefetch(load, itertools.count(), 8)
    next(stream)
    assert second.wait(10) and len(prefetch_threads()) == 1
    threading.Timer(0.3, release.set).start()
    stream.close()
    assert prefetch_threads() == []
    assert loaded == [0, 1]  # one was running; those that waited were dropped


def prefetch_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("prefetch")]
