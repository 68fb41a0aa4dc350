"""The pool's decisions against the sequential rule, and its images on any number of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import parallel
from genjax.gan import image_pool

BELOW_ONE = np.nextafter(np.float32(1), np.float32(0))


class SequentialPool:
    """The rule as it is told, one image after another, on a list."""

    def __init__(self, size):
        self.size, self.stored = size, []

    def query(self, images, uniforms):
        returned = []
        for image, (swap, slot) in zip(images, uniforms, strict=True):
            if len(self.stored) < self.size:
                self.stored.append(image)
            elif swap > 0.5:
                place = int(np.floor(float(slot) * self.size))
                image, self.stored[place] = self.stored[place], image
            returned.append(image)
        return returned


def draws(rng, num):
    """Uniforms [num, 2] among which the edges of their range are common."""
    uniforms = rng.uniform(size=(num, 2)).astype(np.float32)
    edges = rng.choice(np.array([0, 0.5, np.nextafter(np.float32(0.5), np.float32(1)), BELOW_ONE]), (num, 2))
    return np.where(rng.uniform(size=(num, 2)) < 0.1, edges, uniforms).astype(np.float32)


@pytest.mark.parametrize("batch", [1, 3, 50])
@pytest.mark.parametrize("size", [1, 5, 50])
def test_decide_equals_the_sequential_rule(size, batch):
    decide = jax.jit(image_pool.decide, static_argnums=2)
    rng, images, num, expected = np.random.default_rng(size * batch), np.zeros(size), 0, SequentialPool(size)
    for round in range(60):
        new, uniforms = np.arange(1 + round * batch, 1 + (round + 1) * batch, dtype=float), draws(rng, batch)
        stored, returned = decide(jnp.int32(num), uniforms, size)
        known = np.concatenate([images, new])
        images, num = known[stored], min(num + batch, size)
        queried = known[returned].tolist()
        assert queried == expected.query(new.tolist(), uniforms)
        assert 0 not in queried  # an empty slot
        assert images[:num].tolist() == expected.stored and num == len(expected.stored)
    assert num == size


@pytest.mark.parametrize("num", [0, 2, 5])
def test_decide_continues_a_pool_of_any_filling(num):
    uniforms, expected = draws(np.random.default_rng(num), 20), SequentialPool(5)
    expected.stored = list(range(num))
    stored, returned = jax.jit(image_pool.decide, static_argnums=2)(jnp.int32(num), uniforms, 5)
    assert returned.tolist() == expected.query(list(range(5, 25)), uniforms)
    assert stored.tolist() == expected.stored


@pytest.mark.parametrize("size", [1, 5, 48, 50, 64])
def test_decide_takes_the_largest_uniform_as_last_slot(size):
    uniforms = np.full((1, 2), BELOW_ONE)
    stored, returned = jax.jit(image_pool.decide, static_argnums=2)(jnp.int32(size), uniforms, size)
    assert returned.tolist() == [size - 1]
    assert stored.tolist() == [*range(size - 1), size]


def test_decide_swaps_half_the_images_evenly():
    size, num = 20, 20_000
    uniforms = np.random.default_rng(0).uniform(size=(num, 1, 2)).astype(np.float32)
    decide = jax.vmap(lambda uniforms: image_pool.decide(jnp.int32(size), uniforms, size))
    stored, returned = (np.asarray(x) for x in jax.jit(decide)(uniforms))
    swapped = returned[:, 0] < size
    assert abs(swapped.mean() - 0.5) < 5 * 0.5 / np.sqrt(num)
    counts = np.bincount(returned[swapped, 0], minlength=size)
    expected = swapped.sum() / size
    assert ((counts - expected) ** 2 / expected).sum() < 50  # chi-square, 19 degrees of freedom: p < 1e-4
    # Only what is returned leaves, and the new image takes its place.
    np.testing.assert_array_equal((stored == size).sum(1), swapped)
    np.testing.assert_array_equal(stored[swapped, returned[swapped, 0]], size)


def queries(devices, rounds, size=12, batch=8):
    """The pool after some rounds on a mesh, and the images that each round returned, in global order."""
    mesh = parallel.make_mesh(jax.devices()[:devices])
    specs = (parallel.REPLICATED, parallel.SPLIT, parallel.SPLIT, parallel.REPLICATED)
    query = parallel.pmap(image_pool.query, mesh, specs, (parallel.REPLICATED, parallel.SPLIT))
    pool = parallel.replicate(mesh, lambda: image_pool.empty(size, (2, 1, 3)))
    counts, returned = [], []
    for round in range(rounds):
        new = np.arange(batch * 6, dtype=np.float32).reshape(batch, 2, 1, 3) + 1 + round * batch * 6
        position = np.arange(batch, dtype=np.int32)
        new, position = parallel.shard_batch(mesh, (new, position))
        pool, queried = query(pool, new, position, jax.random.fold_in(jax.random.key(3), round))
        counts.append(int(pool.num))
        returned.append(np.asarray(queried))
    return pool, counts, np.stack(returned)


@pytest.fixture(scope="module")
def on_one_device():
    return queries(1, 12)


@pytest.mark.parametrize("devices", [2, 4, 8])
def test_query_does_not_depend_on_the_devices(on_one_device, devices):
    expected, counts, queried = on_one_device
    pool, found_counts, found = queries(devices, 12)
    assert found_counts == counts
    np.testing.assert_array_equal(found, queried)
    replicas = [np.asarray(shard.data) for shard in pool.images.addressable_shards]
    assert len(replicas) == devices
    assert {replica.tobytes() for replica in replicas} == {np.asarray(expected.images).tobytes()}
    assert {int(shard.data) for shard in pool.num.addressable_shards} == {12}


def test_query_moves_whole_images(on_one_device):
    pool, counts, queried = on_one_device
    assert counts == [8, 12, *[12] * 10]
    # Images are runs of six numbers, so that one put together from two would show.
    first = queried[..., :1, :1, :1]
    np.testing.assert_array_equal(queried, first + np.arange(6, dtype=np.float32).reshape(2, 1, 3))
    numbers = (first.ravel() - 1) / 6
    np.testing.assert_array_equal(numbers % 1, 0)
    new = numbers.reshape(12, 8) == np.arange(96).reshape(12, 8)
    assert new[0].all() and new[1, :4].all()
    swapped = ~new[2:]
    assert 0.3 < swapped.mean() < 0.7 and len(np.unique(swapped, axis=0)) > 5  # decisions differ between rounds
    # Nothing is lost or doubled: what the pool took in (the first 12, then one for each swap) came out, or is held.
    held = (np.asarray(pool.images)[:, 0, 0, 0] - 1) / 6
    taken_in = [*range(12), *(16 + np.flatnonzero(swapped)), *(12 + np.flatnonzero(~new[1, 4:]))]
    assert sorted([*numbers[~new.ravel()], *held]) == sorted(taken_in)


def test_query_decides_by_position_alone():
    """Not the order of the rows, nor how often the pool was asked: only the key and the positions."""
    mesh = parallel.make_mesh(jax.devices()[:1])
    specs = (parallel.REPLICATED, parallel.SPLIT, parallel.SPLIT, parallel.REPLICATED)
    query = parallel.pmap(image_pool.query, mesh, specs, (parallel.REPLICATED, parallel.SPLIT))
    stored = jnp.arange(64, dtype=jnp.float32).reshape(64, 1, 1, 1)
    pool, new = image_pool.Pool(stored, jnp.int32(64)), jnp.full((8, 1, 1, 1), 100.0)
    swaps = []
    for position in (np.arange(8), np.arange(8)[::-1], np.arange(8) + 8):
        _, queried = query(pool, new, position.astype(np.int32), jax.random.key(5))
        swaps.append((np.asarray(queried).ravel() < 100).tolist())
    assert swaps[0] == swaps[1][::-1] != swaps[2]


def test_query_of_an_empty_pool_is_the_identity():
    mesh = parallel.make_mesh(jax.devices()[:2])
    specs = (parallel.REPLICATED, parallel.SPLIT, parallel.SPLIT, parallel.REPLICATED)
    query = parallel.pmap(image_pool.query, mesh, specs, (parallel.REPLICATED, parallel.SPLIT))
    new = np.arange(8, dtype=np.float32).reshape(8, 1, 1, 1)
    pool, queried = query(image_pool.empty(0, (1, 1, 1)), new, np.arange(8, dtype=np.int32), jax.random.key(0))
    np.testing.assert_array_equal(queried, new)
    assert pool.images is None and int(pool.num) == 0
