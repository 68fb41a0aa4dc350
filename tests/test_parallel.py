import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from genjax import keys, parallel


def mesh_of(num):
    return parallel.make_mesh(jax.devices()[:num])


def step(state, batch, seed=0):
    """A per-device step with matrix products, so that another order of summation would show."""
    del seed
    grads = jax.grad(lambda w: jnp.mean(jnp.tanh(batch @ w) ** 2))(state)
    mean = lax.pmean(grads, "data")
    return state - 0.1 * mean, jnp.sum(mean)


def data(rows=16):
    rng = np.random.default_rng(0)
    return rng.normal(size=(5, 3)).astype(np.float32), rng.normal(size=(rows, 5)).astype(np.float32)


# jax.pmap says itself that it is in maintenance mode; here it is the reference.
@pytest.mark.filterwarnings("ignore:.*pmap.*:DeprecationWarning")
def test_pmap_train_equals_the_literal_pmap_bitwise():
    state, batch = data()
    literal = jax.pmap(step, "data", in_axes=(None, 0), out_axes=(None, None))
    mesh = parallel.make_mesh()
    ours = parallel.pmap_train(step, mesh)
    expected, got = state, parallel.replicate(mesh, lambda: jnp.asarray(state))
    for _ in range(3):
        expected = np.asarray(literal(expected, batch.reshape(8, 2, 5))[0])
        got = jax.block_until_ready(ours(got, parallel.shard_batch(mesh, batch), jnp.int32(0))[0])
    np.testing.assert_array_equal(expected, np.asarray(got))


def test_pmap_train_donates_the_state():
    state, batch = data()
    mesh = parallel.make_mesh()
    old = parallel.replicate(mesh, lambda: jnp.asarray(state))
    jax.block_until_ready(parallel.pmap_train(step, mesh)(old, parallel.shard_batch(mesh, batch), jnp.int32(0)))
    assert old.is_deleted()


@pytest.mark.parametrize("num", [1, 2, 4, 8])
def test_pmap_eval_returns_rows_in_order_on_every_device(num):
    mesh = mesh_of(num)
    rows = parallel.pmap_eval(lambda scale, batch: scale * batch, mesh)(
        jnp.float32(2), parallel.shard_batch(mesh, np.arange(16, dtype=np.float32))
    )
    for shard in rows.addressable_shards:
        np.testing.assert_array_equal(np.asarray(shard.data), 2 * np.arange(16))


def random_rows(shared, rows):
    weights, key = shared
    noise = jax.vmap(lambda k: jax.random.normal(k, (33,)))(keys.per_example(key, rows))
    return jnp.tanh(noise @ weights)


@pytest.mark.parametrize("num", [1, 2, 8])
def test_pmap_sample_gives_a_row_the_same_bits_in_any_call_on_any_devices(num):
    shared = (np.random.default_rng(1).normal(size=(33, 17)).astype(np.float32), keys.root_key(0))
    whole = parallel.pmap_sample(random_rows, mesh_of(1))(shared, np.arange(130))
    run = parallel.pmap_sample(random_rows, mesh_of(num))
    pieces = [run(shared, np.arange(start, stop)) for start, stop in [(0, 1), (1, 64), (64, 129), (129, 130)]]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_examples_that_differ_in_number_are_refused():
    run = parallel.pmap_sample(lambda shared, rows: rows[0] + rows[1], parallel.make_mesh(), chunk=2)
    for other in (1, 5):
        with pytest.raises(ValueError, match=f"examples and their positions differ in number: 4 and {other}"):
            run((), (np.zeros(4), np.zeros(other)))


def test_batch_that_does_not_divide_is_refused_with_numbers_that_do():
    with pytest.raises(ValueError, match=r"batch_size 12 .* 8 devices.* 8 or 16"):
        parallel.check_batch_size(parallel.make_mesh(), 12)
    parallel.check_batch_size(parallel.make_mesh(), 16)


def test_abstract_describes_what_replicate_makes():
    mesh = parallel.make_mesh()
    make = lambda: {"w": jnp.ones((2, 3)), "n": jnp.int32(1)}  # noqa: E731
    for spec, array in zip(*map(jax.tree.leaves, (parallel.abstract(mesh, make), parallel.replicate(mesh, make)))):  # noqa: B905
        assert (spec.shape, spec.dtype, spec.sharding) == (array.shape, array.dtype, array.sharding)


@pytest.mark.parametrize("num", [1, 2, 8])
def test_the_mean_over_devices_is_that_of_their_parts_and_costs_one_device_nothing(num):
    mesh = mesh_of(num)

    def parts(state, batch, seed):
        return state, parallel.mean_over_devices({"sum": jnp.sum(batch), "rows": jnp.float32(len(batch))})

    fn = parallel.pmap_train(parts, mesh)
    batch = parallel.shard_batch(mesh, np.arange(16, dtype=np.float32))
    compiled = fn.lower(jnp.float32(0), batch, jnp.int32(0)).compile()
    assert ("all-reduce" in compiled.as_text()) == (num > 1)
    means = jax.block_until_ready(compiled(parallel.replicate(mesh, lambda: jnp.float32(0)), batch, jnp.int32(0))[1])
    assert {name: float(value) for name, value in means.items()} == {"sum": 120 / num, "rows": 16 / num}
