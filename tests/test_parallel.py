from dataclasses import astuple, dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from genjax import parallel


def mesh_of(num):
    return parallel.make_mesh(jax.devices()[:num])


def step(state, batch):
    """A per-device step with matrix products, so that another order of summation would show."""
    grads = jax.grad(lambda w: jnp.mean(jnp.tanh(batch @ w) ** 2))(state)
    mean = lax.pmean(grads, "data")
    return state - 0.1 * mean, jnp.sum(mean)


def compiled(fn, mesh):
    return parallel.pmap(fn, mesh, (parallel.REPLICATED, parallel.SPLIT), parallel.REPLICATED, donate=(0,))


def data(rows=16):
    rng = np.random.default_rng(0)
    return rng.normal(size=(5, 3)).astype(np.float32), rng.normal(size=(rows, 5)).astype(np.float32)


# jax.pmap says itself that it is in maintenance mode; here it is the reference.
@pytest.mark.filterwarnings("ignore:.*pmap.*:DeprecationWarning")
def test_pmap_equals_the_literal_jax_pmap_bitwise():
    state, batch = data()
    literal = jax.pmap(step, "data", in_axes=(None, 0), out_axes=(None, None))
    mesh = parallel.make_mesh()
    ours = compiled(step, mesh)
    expected, got = state, parallel.replicate(mesh, lambda: jnp.asarray(state))
    for _ in range(3):
        expected = np.asarray(literal(expected, batch.reshape(8, 2, 5))[0])
        got = jax.block_until_ready(ours(got, parallel.shard_batch(mesh, batch))[0])
    np.testing.assert_array_equal(expected, np.asarray(got))


@dataclass(frozen=True)
class Device:
    """What a mesh knows of a device, for machines that are not there."""

    process_index: int
    id: int


def devices_of(*processes):
    """Devices with ids 0, 1, ... that belong to the given processes."""
    return [Device(process, i) for i, process in enumerate(processes)]


def test_make_mesh_orders_devices_by_process():
    mixed = [Device(1, 0), Device(0, 3), Device(1, 2), Device(0, 1)]
    mesh = parallel.make_mesh(mixed)
    assert [astuple(device) for device in mesh.devices.flat] == [(0, 1), (0, 3), (1, 0), (1, 2)]


def test_make_mesh_refuses_unequal_numbers_of_devices():
    assert parallel.make_mesh(devices_of(0, 1, 0, 1)).size == 4
    with pytest.raises(ValueError, match="equal numbers of devices, but process 0 has 2, process 1 has 1: start"):
        parallel.make_mesh(devices_of(1, 0, 0))


def test_pmap_donates_the_state():
    state, batch = data()
    mesh = parallel.make_mesh()
    old = parallel.replicate(mesh, lambda: jnp.asarray(state))
    jax.block_until_ready(compiled(step, mesh)(old, parallel.shard_batch(mesh, batch)))
    assert old.is_deleted()


def test_check_batch_size_names_sizes_that_divide():
    with pytest.raises(ValueError, match=r"batch-size 12 .* 8 devices.* 8 or 16"):
        parallel.check_batch_size(parallel.make_mesh(), 12)
    parallel.check_batch_size(parallel.make_mesh(), 16)
    with pytest.raises(ValueError, match=r"batch-size 24 .* 8 devices in 2 parts each.* 16 or 32"):
        parallel.check_batch_size(parallel.make_mesh(), 24, num_parts=2)
    parallel.check_batch_size(parallel.make_mesh(), 32, num_parts=2)


def test_abstract_describes_what_replicate_makes():
    mesh = parallel.make_mesh()
    make = lambda: {"w": jnp.ones((2, 3)), "n": jnp.int32(1)}  # noqa: E731
    for spec, array in zip(*map(jax.tree.leaves, (parallel.abstract(mesh, make), parallel.replicate(mesh, make)))):  # noqa: B905
        assert (spec.shape, spec.dtype, spec.sharding) == (array.shape, array.dtype, array.sharding)


@pytest.mark.parametrize("num", [1, 2, 8])
def test_mean_over_devices_costs_one_device_nothing(num):
    mesh = mesh_of(num)

    def parts(state, batch):
        return state, parallel.mean_over_devices({"sum": jnp.sum(batch), "rows": jnp.float32(len(batch))})

    batch = parallel.shard_batch(mesh, np.arange(16, dtype=np.float32))
    program = compiled(parts, mesh).lower(jnp.float32(0), batch).compile()
    assert ("all-reduce" in program.as_text()) == (num > 1)
    means = jax.block_until_ready(program(parallel.replicate(mesh, lambda: jnp.float32(0)), batch)[1])
    assert {name: float(value) for name, value in means.items()} == {"sum": 120 / num, "rows": 16 / num}


@pytest.mark.parametrize("where", ["localhost:1234,2,2", "localhost:abc,1,0", "localhost:99999,1,0", ":1234,1,0"])
def test_connect_refuses_impossible_addresses(where):
    with pytest.raises(ValueError, match="give auto, or HOST:PORT,NUM,ID with ID below NUM"):
        parallel.connect(where)
