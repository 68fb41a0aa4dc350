import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import keys, parallel, vae
from genjax.compiled import compile_eval, compile_rows, compile_train_step
from genjax.data.batches import Batch
from genjax.keys import Stream
from genjax.train import preemption


def mesh_of(num):
    return parallel.make_mesh(jax.devices()[:num])


def batch_of(num):
    return Batch((np.arange(num, dtype=np.uint8).reshape(-1, 1, 1, 1),), np.arange(num, dtype=np.int32))


@pytest.mark.parametrize("num", [1, 8])
def test_compile_eval_returns_rows_in_order(make_run, num):
    run = compile_eval(lambda config, state, batch, key: state * batch.position, make_run(), mesh_of(num))
    rows = run(jnp.int32(2), batch_of(16), Stream.TEST, 0)
    for shard in rows.addressable_shards:
        np.testing.assert_array_equal(np.asarray(shard.data), 2 * np.arange(16))


def test_compile_eval_keys_follow_stream_seed_and_draw(make_run):
    def draw(config, state, batch, key):
        return jnp.broadcast_to(jax.random.uniform(key), batch.position.shape)

    run = compile_eval(draw, make_run(), mesh_of(2))
    for stream, seed, number in (
        (Stream.TEST, 0, 0),
        (Stream.VALIDATION, 0, 0),
        (Stream.TEST, 5, 0),
        (Stream.TEST, 0, 3),
    ):
        expected = jax.random.uniform(keys.for_step(keys.root_key(seed), stream, number))
        for state in (0, 1):
            drawn = np.asarray(run(jnp.int32(state), batch_of(4), stream, seed, number))
            assert set(drawn.tolist()) == {float(expected)}


def random_rows(config, weights, key, rows):
    noise = jax.vmap(lambda k: jax.random.normal(k, (33,)))(keys.per_example(key, rows))
    return jnp.tanh(noise @ weights)


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("num", [1, 2, 8])
def test_compile_rows_gives_equal_bits_anywhere(make_run, num):
    shared = (np.random.default_rng(1).normal(size=(33, 17)).astype(np.float32), keys.root_key(0))
    whole = compile_rows(random_rows, make_run(), mesh_of(1))(shared, (np.arange(130),))
    run = compile_rows(random_rows, make_run(), mesh_of(num))
    pieces = [run(shared, (np.arange(start, stop),)) for start, stop in [(0, 1), (1, 64), (64, 129), (129, 130)]]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_compile_rows_refuses_leaves_of_different_lengths(make_run):
    run = compile_rows(lambda config, a, b: a + b, make_run(), parallel.make_mesh(), chunk=2)
    for other in (1, 5):
        with pytest.raises(ValueError, match=f"examples and their positions differ in number: 4 and {other}"):
            run((), (np.zeros(4), np.zeros(other)))
    with pytest.raises(ValueError, match="there are no examples"):
        run((), (np.zeros(0), np.zeros(0)))


def test_compile_train_step_shares_signals_with_all_devices(make_run):
    config, mesh = make_run(), mesh_of(8)
    task = vae.TASK._replace(train_step=lambda config, state, batch, key: (state, {"step": state.step}))
    step, signals = compile_train_step(task, config, mesh), preemption.per_device(mesh)
    one = jax.make_array_from_single_device_arrays(  # of eight devices, the third has got signal 15
        (8,), signals[0].sharding, [signals[15 if i == 2 else 0].addressable_shards[i].data for i in range(8)]
    )
    for signal, expected in ((signals[0], 0), (signals[15], 15), (one, 15)):
        state = parallel.replicate(mesh, lambda: vae.TASK.init(config, keys.root_key(0)))
        batch = parallel.shard_batch(mesh, batch_of(16))
        *_, seen = step(state, batch, parallel.replicate_scalar(mesh, 0), signal)
        assert [int(shard.data) for shard in seen.addressable_shards] == [expected] * 8


@pytest.mark.parametrize(("precision", "expected"), [("float32", "HIGHEST"), ("tensorfloat32", "HIGH")])
def test_compiled_functions_have_precision_of_config(make_run, precision, expected):
    config, mesh, seen = make_run(precision=precision), mesh_of(1), []

    def product(batch):
        found = jax.make_jaxpr(lambda x: x @ x)(jnp.ones((2, 2)))
        seen.append(found.eqns[0].params["precision"][0].name)
        return batch.position

    def train_step(config, state, batch, key):
        return state, {"step": jnp.sum(product(batch))}

    task = vae.TASK._replace(train_step=train_step, load_constants=None)
    step = compile_train_step(task, config, mesh)
    state = jax.eval_shape(lambda: task.init(config, keys.root_key(0)))
    jax.eval_shape(step, state, batch_of(4), jnp.int32(0), jnp.zeros(1, jnp.int32))
    compile_eval(lambda config, state, batch, key: product(batch), config, mesh)(0, batch_of(4), Stream.TEST, 0)
    compile_rows(lambda config, batch: product(batch), config, mesh, chunk=4)((), (batch_of(4),))
    assert seen == 3 * [expected]
