import hashlib
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding

from genjax import parallel
from genjax.data.batches import Batch
from genjax.train.fingerprint import (
    batch_fingerprint,
    compile_check_replicas,
    compile_fingerprint,
    tree_digest,
    tree_fingerprint,
)


def test_tree_digest_is_sha256_of_everything():
    expected = hashlib.sha256(b"['a'] <i4 (2,);" + np.int32([1, 2]).tobytes()).hexdigest()
    assert tree_digest({"a": np.int32([1, 2])}) == expected


def test_any_difference_changes_the_digest():
    tree = {"a": np.zeros((2, 3), np.float32), "b": np.int32(1)}
    others = [
        {**tree, "b": np.int32(2)},
        {**tree, "b": np.uint32(1)},
        {**tree, "a": np.zeros((3, 2), np.float32)},
        {**tree, "a": -tree["a"]},  # -0.0 == 0.0, but not its bytes
        {"a": tree["a"], "c": tree["b"]},
    ]
    assert len({tree_digest(t) for t in [tree, *others]}) == 6


def test_tree_digest_ignores_placement():
    value = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    replicated = parallel.replicate(parallel.make_mesh(), lambda: jnp.asarray(value))
    assert tree_digest({"x": replicated}) == tree_digest({"x": value}) == tree_digest({"x": np.asfortranarray(value)})


# Fingerprints, beside the same in NumPy.

TYPES = ["float32", "float64", "bfloat16", "int32", "uint8", "bool"]


def mixed(words):
    """MurmurHash3's finaliser on uint32."""
    words = (words ^ (words >> 16)) * np.uint32(0x85EBCA6B)
    words = (words ^ (words >> 13)) * np.uint32(0xC2B2AE35)
    return words ^ (words >> 16)


def placed(words):
    return mixed(words ^ mixed(np.arange(len(words), dtype=np.uint32)))


def words(array):
    """Its bits: a uint32 for each element, two for one of 8 bytes, the low half first."""
    array = np.ascontiguousarray(array).ravel()
    return array.view(np.uint32) if array.itemsize == 8 else array.view(f"u{array.itemsize}").astype(np.uint32)


def expected(*leaves):
    """The fingerprint of one group of leaves."""
    return placed(np.concatenate([words(leaf) for leaf in leaves])).sum(dtype=np.uint32)


def expected_of_batch(images, position):
    rows = [
        placed(words(image)).sum(dtype=np.uint32) ^ mixed(np.uint32([int(place) + 2**31 * domain]))[0]
        for domain, array in enumerate(images)
        for image, place in zip(array, position, strict=True)
    ]
    return mixed(np.uint32(rows)).sum(dtype=np.uint32)


def random(dtype, shape, seed=0):
    """An array whose bits are random, NaNs and all."""
    dtype = np.dtype(dtype)
    raw = np.random.default_rng(seed).bytes(int(np.prod(shape)) * dtype.itemsize)
    return (np.frombuffer(raw, np.uint8) % 2 == 1 if dtype.kind == "b" else np.frombuffer(raw, dtype)).reshape(shape)


def values(tree):
    return {group: int(value) for group, value in jax.jit(tree_fingerprint)(tree).items()}


@pytest.mark.parametrize("dtype", TYPES)
def test_tree_fingerprint_equals_a_plain_sum_of_mixed_words(x64, dtype):
    a, b = random(dtype, (3, 5)), random(dtype, (), 1)
    tree = {"net": {"count": np.int32(7), "params": {"a": a, "b": {"c": b}}}, "step": np.int32(3)}
    found = {group: int(value) for group, value in jax.jit(tree_fingerprint)(tree).items()}
    assert found == {"net.count": expected(np.int32(7)), "net.params": expected(a, b), "step": expected(np.int32(3))}


def altered(array):
    """`array` [n] with each of its bits flipped in turn, each two elements swapped, each two signs flipped."""
    bits = np.unpackbits(array.view(np.uint8))
    for i in range(7, len(bits), 8) if array.dtype.kind == "b" else range(len(bits)):  # of a bool only the last one
        flipped = bits.copy()
        flipped[i] ^= 1
        yield np.packbits(flipped).view(array.dtype)
    for i, j in itertools.combinations(range(len(array)), 2):
        if array[i].tobytes() != array[j].tobytes():
            order = np.arange(len(array))
            order[[i, j]] = j, i
            yield array[order]
        if jnp.issubdtype(array.dtype, jnp.floating):
            yield np.where(np.isin(np.arange(len(array)), (i, j)), -array, array)


@pytest.mark.parametrize("dtype", TYPES)
def test_tree_fingerprint_finds_flips_and_swaps(x64, dtype):
    array, run = random(dtype, 6), jax.jit(tree_fingerprint)
    others = list(altered(array))
    assert len(others) >= 6 * (1 if dtype == "bool" else 8 * array.itemsize)
    found = [int(run({"x": other})["x"]) for other in [array, *others]]
    assert len(set(found)) == len(found)


def test_tree_fingerprint_finds_swapped_leaves():
    a, b = random("int32", (2, 3)), random("int32", (2, 3), 1)
    first, second = (jax.jit(tree_fingerprint)({"net": {"params": pair}}) for pair in ([a, b], [b, a]))
    assert first["net.params"] != second["net.params"]


def test_tree_fingerprint_locates_differences():
    tree = {"a": {"x": {"p": np.zeros(2), "q": np.zeros(2)}, "y": np.zeros(2)}, "b": np.zeros(2)}
    other = {"a": {"x": {"p": np.zeros(2), "q": np.ones(2)}, "y": np.zeros(2)}, "b": np.zeros(2)}
    first, second = jax.jit(tree_fingerprint)(tree), jax.jit(tree_fingerprint)(other)
    assert {group: bool(first[group] == second[group]) for group in first} == {"a.x": False, "a.y": True, "b": True}


@pytest.mark.parametrize("num", [1, 2, 8])
def test_tree_fingerprint_ignores_placement(num):
    tree = {"net": {"params": random("int32", (16, 3)), "count": random("uint8", 8)}}
    reference = {"net.params": expected(tree["net"]["params"]), "net.count": expected(tree["net"]["count"])}
    mesh = parallel.make_mesh(jax.devices()[:num])
    for spec in (parallel.REPLICATED, parallel.SPLIT):
        found = jax.jit(tree_fingerprint)(jax.device_put(tree, NamedSharding(mesh, spec)))
        assert {group: int(value) for group, value in found.items()} == reference
    on_each = parallel.pmap(tree_fingerprint, mesh, parallel.REPLICATED, parallel.REPLICATED)(tree)
    for group, value in on_each.items():
        assert {int(shard.data) for shard in value.addressable_shards} == {int(reference[group])}


@pytest.mark.parametrize("dtype", TYPES)
def test_batch_fingerprint_covers_images_and_positions(x64, dtype):
    images, position = (random(dtype, (4, 2, 3, 1)), random(dtype, (4, 2, 3, 3), 1)), np.int32([5, 0, 2**30, 7])
    assert jax.jit(batch_fingerprint)(images, position) == expected_of_batch(images, position)


@pytest.mark.parametrize(("num", "several"), [(1, 1), (2, 1), (4, 1), (8, 1), (8, 3)])
def test_compile_fingerprint_covers_state_and_last_batch(num, several):
    images = random("uint8", (16, 4, 4, 1)), random("uint8", (16, 4, 4, 3), 1)
    pairs = images[::-1] if several > 1 or num == 2 else ()
    batch, state = Batch(images, np.arange(16, dtype=np.int32), pairs), {"net": np.ones(3, np.float32)}
    # [b, several, ...], as the loader stacks the batches of one call
    stacked = jax.tree.map(lambda leaf: np.stack([leaf + 1] * (several - 1) + [leaf], axis=1), batch)
    run = compile_fingerprint(parallel.make_mesh(jax.devices()[:num]), several)
    found = run(state, batch if several == 1 else stacked)
    wanted = values(state) | {"batch": int(expected_of_batch(images, batch.position))}
    wanted |= {"batch.pairs": int(expected_of_batch(pairs, batch.position))} if pairs else {}
    assert {name: int(value) for name, value in found.items()} == wanted


def test_batch_fingerprint_finds_any_difference():
    a, b, position = random("uint8", (4, 2, 2, 1)), random("uint8", (4, 2, 2, 1), 1), np.arange(4, dtype=np.int32)
    order, pixel = np.array([0, 3, 2, 1]), np.zeros((4, 2, 2, 1), np.uint8)
    pixel[2, 1, 0] = 1
    batches = [
        ((a, b), position), ((b, a), position), ((a[order], b), position), ((a, b[order]), position),
        ((a[order], b[order]), position), ((a, b ^ pixel), position), ((a, b), position + 1), ((a, a), position),
        ((a.swapaxes(1, 2), b), position),
    ]  # fmt: skip
    run = jax.jit(batch_fingerprint)
    assert len({int(run(*batch)) for batch in batches}) == len(batches)
    assert run((a[order], b[order]), position[order]) == run((a, b), position)  # each image at its place


# Replicas

LAST_BIT = np.float32(1 + 2**-23)


@pytest.fixture(scope="module")
def check_two():
    """The mesh of two devices, and its check."""
    mesh = parallel.make_mesh(jax.devices()[:2])
    return mesh, compile_check_replicas(mesh)


def replicas(mesh, *values):
    """An array that claims to be replicated, with a value of its own on each device."""
    parts = [jax.device_put(value, device) for value, device in zip(values, mesh.devices.flat, strict=True)]
    sharding = NamedSharding(mesh, parallel.REPLICATED)
    return jax.make_array_from_single_device_arrays(values[0].shape, sharding, parts)


@pytest.mark.parametrize("element", range(6))
def test_check_replicas_finds_a_single_bit(check_two, element):
    mesh, check = check_two
    one = np.ones(6, np.float32)
    other = np.where(np.arange(6) == element, LAST_BIT, one)
    check(4, {"net": {"mean": replicas(mesh, one, one), "scale": replicas(mesh, other, other)}})
    with pytest.raises(FloatingPointError) as caught:
        check(4, {"net": {"mean": replicas(mesh, one, one), "scale": replicas(mesh, one, other)}})
    assert "different states at step 4, which was not saved: net.scale on device 1 (process 0) is" in str(caught.value)


def test_check_replicas_finds_opposite_roundings(check_two):
    """A sum of values, or of their bits, would miss them."""
    mesh, check = check_two
    up, down = np.float32([LAST_BIT, 1, 5]), np.float32([1, LAST_BIT, 5])
    with pytest.raises(FloatingPointError, match="net.mean on device 1"):
        check(4, {"net": {"mean": replicas(mesh, up, down), "scale": replicas(mesh, up, up)}})


def test_check_replicas_names_the_first_leaf():
    mesh = parallel.make_mesh()
    check, same = compile_check_replicas(mesh), [np.zeros((2, 3), np.int32)] * 8
    late, early = ([*same[:i], np.ones((2, 3), np.int32), *same[i + 1 :]] for i in (6, 2))
    tree = {"b": replicas(mesh, *late), "c": replicas(mesh, *early)}
    check(1, {"a": replicas(mesh, *same), "b": replicas(mesh, *same), "c": replicas(mesh, *same)})
    with pytest.raises(FloatingPointError, match=r": b on device 6 \(process 0\)"):
        check(1, {"a": replicas(mesh, *same), **tree})


def test_check_replicas_costs_one_device_nothing():
    check = compile_check_replicas(parallel.make_mesh(jax.devices()[:1]))
    check(1, {"a": "no array, so any computation with it would fail"})
