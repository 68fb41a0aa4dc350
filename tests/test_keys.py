import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import keys
from genjax.keys import Draw, Stream


def bits(key):
    return np.asarray(jax.random.key_data(key))


def test_per_example_depends_on_position_alone():
    key = keys.for_step(keys.root_key(3), Stream.TRAIN, 5)
    whole = bits(keys.per_example(key, np.arange(8)))
    part = bits(keys.per_example(key, np.arange(4, 8)))
    np.testing.assert_array_equal(whole[4:], part)
    assert len({tuple(row) for row in whole}) == 8


@pytest.mark.parametrize("size", [1, 4, 33, 100])
def test_normal_has_equal_bits_in_any_batch(size):
    draw = jax.jit(lambda position: keys.normal(keys.per_example(keys.root_key(0), position), size))
    whole = np.asarray(draw(np.arange(16)))
    for rows in (1, 2, 4, 8):
        parts = [draw(np.arange(start, start + rows)) for start in range(0, 16, rows)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_normal_equals_jax_random_normal():
    expected = jax.vmap(lambda key: jax.random.normal(key, (7,)))(keys.per_example(keys.root_key(0), np.arange(5)))
    got = keys.normal(keys.per_example(keys.root_key(0), np.arange(5)), 7)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(1,), (7,), (28, 28, 1), (5, 0, 3)])
def test_uniform_equals_jax_random_uniform_bitwise(shape):
    example_keys = keys.per_example(keys.root_key(3), np.arange(6))
    expected = jax.vmap(lambda key: jax.random.uniform(key, shape))(jax.random.clone(example_keys))
    for draw in (keys.uniform, jax.jit(keys.uniform, static_argnums=1)):
        np.testing.assert_array_equal(draw(example_keys, shape), expected)


@pytest.mark.parametrize(
    "key, place, words",
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
    ids=["zeros", "ones", "pi"],
)
def test_threefry_gives_the_words_that_its_authors_publish(key, place, words):
    assert int(keys.threefry(*jnp.uint32(key), *jnp.uint32(place))) == words[0] ^ words[1]


def test_root_key_takes_any_integer_below_2_to_the_31():
    last = bits(keys.root_key(2**31 - 1))
    for kind in (np.int64, np.uint32, np.asarray):
        np.testing.assert_array_equal(bits(keys.root_key(kind(2**31 - 1))), last)
        with pytest.raises(ValueError, match=r"a seed must lie in \[0, 2\*\*31\), got 2147483648"):
            keys.root_key(kind(2**31))
    with pytest.raises(ValueError, match="got -1"):
        keys.root_key(np.int32(-1))


def test_every_address_has_its_own_key():
    addresses = [(seed, stream, step) for seed in (0, 1) for stream in Stream for step in range(50)]
    found = {tuple(bits(keys.for_step(keys.root_key(seed), stream, step))) for seed, stream, step in addresses}
    assert len(found) == len(addresses)


def test_keys_are_pinned():
    # Results recorded with one version must come out the same in the next: this may never change.
    assert bits(keys.for_step(keys.root_key(7), Stream.SAMPLE, 2)).tolist() == [3705276586, 2656375836]
    step_key = keys.for_step(keys.root_key(7), Stream.TRAIN, 2)
    assert bits(keys.for_draw(step_key, Draw.POOL_A)).tolist() == [303484072, 232405139]


def test_implementation_does_not_follow_the_environment():
    with jax.default_prng_impl("rbg"):
        assert str(jax.random.key_impl(keys.root_key(0))) == "threefry2x32"


@pytest.mark.parametrize("seed", [-1, 2**31, 2**32, 2**64])
def test_root_key_refuses_ambiguous_seeds(seed):
    with pytest.raises(ValueError, match=rf"a seed must lie in \[0, 2\*\*31\), got {seed}"):
        keys.root_key(seed)


@pytest.mark.parametrize(("kind", "names"), [
    (Draw, (
        "IMAGES_A IMAGES_B ELEMENT POOL_A POOL_B FRACTION_A FRACTION_B FOOLED_A FOOLED_B REAL_A "
        "REAL_B FAKE_A FAKE_B CLASSIFIED_A CLASSIFIED_B PATCHES MIRRORED PAIRS LATENTS"
    )),
    (Stream, (
        "INIT TRAIN VALIDATION TEST SAMPLE SHUFFLE_FIRST SHUFFLE_SECOND BINARIZE PRIOR RECONSTRUCT "
        "RESTORE MASK CROP_FIRST CROP_SECOND LIKELIHOOD OBSERVE ENCODE FIT SHUFFLE_PAIRS CROP_PAIRS"
    )),
])  # fmt: skip
def test_addresses_stay(kind, names):
    """A key is derived from these numbers, so another number is other noise, and another digest."""
    assert [(address.name, address.value) for address in kind] == [(name, i) for i, name in enumerate(names.split())]


def test_as_root_takes_seeds_and_keys_alone():
    assert keys.as_root(7) == keys.as_root(np.uint8(7)) == keys.root_key(7)
    key = keys.root_key(8)
    assert keys.as_root(key) is key
    for other, said in ((0.5, "got float"), (None, "got NoneType"), (jax.random.PRNGKey(0), r"got uint32 \[2\]"),
                        (jax.random.split(key), r"got key<fry> \[2\]"), (-1, "2\\*\\*31")):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            keys.as_root(other)


def test_positions_are_those_given_or_the_first():
    for given, expected in ((3, [0, 1, 2]), ([5, 2], [5, 2]), (np.arange(2, 4), [2, 3]), (np.int64(1), [0]), (0, [])):
        found = keys.positions(given)
        assert found.dtype == np.int32 and found.tolist() == expected
    for other in (1.5, [0.0], [[1]], -1, [2, -1], "three", True, None):
        with pytest.raises(ValueError, match="expected a number of images, or their positions"):
            keys.positions(other)
