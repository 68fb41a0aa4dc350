"""The only file that knows about devices.

Functions are written per device: each sees its slice of the batch and names the axis "data" in `lax.psum` or
`lax.all_gather`. The presets below compile them for a mesh.
"""

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

REPLICATED, SPLIT = P(), P("data")
BY_SEED, BY_SEED_AND_DATA = P("seed"), P("seed", "data")

HEARTBEAT_SECONDS = 10
"""A process that has not been heard of for as long is dead to the others, which then end too."""


def connect(where: str) -> None:
    """Joins this process to the others of one run; to be called before JAX is used for anything else.

    `where` is "auto" where JAX itself can tell (Cloud TPU, GKE, Slurm, Open MPI), else "HOST:PORT,NUM,ID": where
    process 0 listens, how many processes there are, and which one this is. Raises ValueError if it is neither, or if
    JAX cannot tell.
    """
    if where == "auto":
        try:
            jax.distributed.initialize(heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
        except ValueError as error:
            raise ValueError(f"JAX finds no cluster here ({error}): give HOST:PORT,NUM,ID instead of auto") from error
        return
    try:
        address, num, process = where.split(",")
        num_processes, process_id = int(num), int(process)
        host, _, port = address.rpartition(":")
        named = bool(host) and 0 < int(port) < 2**16 and 0 <= process_id < num_processes
    except ValueError:
        named = False
    if not named:
        raise ValueError(f"cannot join other processes at {where!r}: give auto, or HOST:PORT,NUM,ID with ID below NUM")
    jax.distributed.initialize(address, num_processes, process_id, heartbeat_timeout_seconds=HEARTBEAT_SECONDS)


def make_mesh(devices: list[jax.Device] | None = None) -> Mesh:
    """A mesh with the one axis "data" over `devices` (default: every device of every process).

    Those of one process stand side by side, as `process_rows` supposes; on a TPU slice their numbers need not.
    """
    in_order = sorted(
        jax.devices() if devices is None else devices, key=lambda device: (device.process_index, device.id)
    )
    return Mesh(np.array(in_order), ("data",))


def pmap(fn: Callable, mesh: Mesh, in_specs: Any, out_specs: Any, donate: tuple[int, ...] = ()) -> Callable:
    """Compiles the per-device `fn` for `mesh`.

    What `jax.pmap` itself lowers to since JAX 0.10, without its stacked leading axis. `check_vma=False` means that
    outputs marked `REPLICATED` are trusted to be equal on all devices: `fn` has to make them so.
    """
    mapped = jax.shard_map(fn, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)
    return jax.jit(mapped, donate_argnums=donate)


def pmap_train(step: Callable, mesh: Mesh) -> Callable:
    """`step(state, batch, seed) -> (state, metrics)`: the batch is split, all else replicated, the state donated."""
    return pmap(step, mesh, (REPLICATED, SPLIT, REPLICATED), (REPLICATED, REPLICATED), donate=(0,))


def mean_over_devices(tree: Any) -> Any:
    """The mean of each leaf over the devices along "data", inside a function that is compiled for a mesh.

    On one device it is the leaf itself, which XLA's CPU compiler would copy.
    """
    return tree if lax.axis_size("data") == 1 else lax.pmean(tree, "data")


def make_seed_mesh(num_seeds: int, devices: list[jax.Device] | None = None) -> Mesh:
    """A mesh with the axes "seed" and "data" for as many runs at once, over `devices` (default: all).

    As many rows of it as divide both the runs and the devices: each row trains its share of the runs, one after another
    within a step, and splits their batches over its devices.
    """
    devices = jax.devices() if devices is None else devices
    rows = math.gcd(num_seeds, len(devices))
    return Mesh(np.array(devices).reshape(rows, -1), ("seed", "data"))


def pmap_seeds(step: Callable, mesh: Mesh, donate: tuple[int, ...] = ()) -> Callable:
    """Compiles `step(state, batch, seed) -> pytree` for many runs at once, as a function of what `shard_seeds` made.

    Runs that share a row of the mesh are unrolled in the program, not batched: so each has the bits that it has alone.
    """

    def unrolled(states: Any, batches: Any, seeds: Any) -> Any:
        runs = zip(*jax.tree.map(lambda leaf: leaf[0], (states, batches, seeds)), strict=True)
        return [jax.tree.map(lambda leaf: leaf[None], step(*run)) for run in runs]

    return pmap(unrolled, mesh, (BY_SEED, BY_SEED_AND_DATA, BY_SEED), BY_SEED, donate)


def shard_seeds(mesh: Mesh, runs: Sequence[Any], spec: P) -> list[Any]:
    """The pytrees of host arrays of many runs on a seed mesh: entry j has the j-th run of each row, leaves [rows, ...].

    `spec` is BY_SEED, or for batches BY_SEED_AND_DATA.
    """
    rows, sharding = mesh.shape["seed"], NamedSharding(mesh, spec)
    placed = lambda *leaves: jax.device_put(np.stack(leaves), sharding)  # noqa: E731
    return [jax.tree.map(placed, *runs[start : start + rows]) for start in range(0, len(runs), rows)]


def split_seeds(mesh: Mesh, groups: Sequence[Any]) -> list[Any]:
    """The inverse of `shard_seeds` for states: each run's, replicated on the devices of its row; nothing is moved."""
    runs = []
    for group in groups:
        for devices in mesh.devices:
            sharding = NamedSharding(make_mesh(list(devices)), REPLICATED)

            def of_row(leaf: jax.Array, devices: Any = devices, sharding: NamedSharding = sharding) -> jax.Array:
                shape = leaf.shape[1:]
                shards = [shard.data.reshape(shape) for shard in leaf.addressable_shards if shard.device in devices]
                return jax.make_array_from_single_device_arrays(shape, sharding, shards)

            runs.append(jax.tree.map(of_row, group))
    return runs


def by_run(groups: Sequence[Any]) -> list[Any]:
    """What each run has, on the host, of groups of runs: leaves [] of one run, or [rows, ...] of several."""
    found = []
    for group in jax.device_get(list(groups)):
        rows = jax.tree.map(np.atleast_1d, group)
        num = len(jax.tree.leaves(rows)[0])
        found += [jax.tree.map(lambda leaf, row=row: leaf[row], rows) for row in range(num)]
    return found


def pmap_eval(step: Callable, mesh: Mesh) -> Callable:
    """`step(shared, batch) -> pytree of [b, ...]`: the batch is split, each process gets the whole result."""

    def gathered(shared: Any, batch: Any) -> Any:
        return lax.all_gather(step(shared, batch), "data", tiled=True)

    return pmap(gathered, mesh, (REPLICATED, SPLIT), REPLICATED)


def pmap_sample(fn: Callable, mesh: Mesh, chunk: int = 64) -> Callable:
    """Compiles `fn(shared, examples) -> pytree of [n, ...]` for any n.

    `shared` is replicated; each leaf of `examples` is a host array [n, ...]. Every device always works on `chunk`
    examples (the last ones are padded), so an example's result has the same bits whatever n, the calls it is spread
    over, or the number of devices.
    """
    compiled = pmap_eval(fn, mesh)
    width = chunk * mesh.size

    def run(shared: Any, examples: Any) -> Any:
        num, *others = (len(leaf) for leaf in jax.tree.leaves(examples))
        if num == 0:
            raise ValueError("there are no examples: at least one is needed")
        if any(other != num for other in others):
            raise ValueError(f"examples and their positions differ in number: {num} and {', '.join(map(str, others))}")
        parts = []
        for start in range(0, num, width):
            rows = np.minimum(np.arange(start, start + width), num - 1)[process_rows(width)]
            part = compiled(shared, shard_batch(mesh, jax.tree.map(lambda leaf, rows=rows: leaf[rows], examples)))
            parts.append(jax.device_get(part))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:num], *parts)

    return run


def check_batch_size(mesh: Mesh, batch_size: int) -> None:
    """Raises ValueError unless the global `batch_size` splits evenly over the mesh."""
    if batch_size % mesh.size:
        lower = batch_size - batch_size % mesh.size
        remedy = f"{lower} or {lower + mesh.size}" if lower else f"{mesh.size}"
        raise ValueError(
            f"batch_size {batch_size} does not divide over {mesh.size} devices: use a multiple of it, as {remedy}"
        )


def process_rows(batch_size: int) -> slice:
    """The rows of a global batch that this process loads."""
    share = batch_size // jax.process_count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


def shard_batch(mesh: Mesh, batch: Any) -> Any:
    """Puts this process's rows of a batch (leaves [rows, ...]) on its devices, as parts of one global array each."""
    sharding = NamedSharding(mesh, SPLIT)
    with jax.transfer_guard_host_to_device("allow"):  # with several processes, JAX takes this for an implicit transfer
        return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, leaf), batch)


def put(mesh: Mesh, value: int) -> jax.Array:
    """`value`, the same in every process, as an int32 scalar on every device of the mesh."""
    with jax.transfer_guard_host_to_device("allow"):  # as in shard_batch
        return jax.make_array_from_process_local_data(NamedSharding(mesh, REPLICATED), np.asarray(value, np.int32))


def replicate(mesh: Mesh, make: Callable[..., Any], *arguments: Any) -> Any:
    """The arrays that `make(*arguments)` returns, made on every device of the mesh."""
    return jax.jit(make, out_shardings=NamedSharding(mesh, REPLICATED))(*arguments)


def abstract(mesh: Mesh, make: Callable[[], Any]) -> Any:
    """The shapes and types that `make()` returns, placed on every device of the mesh; nothing is computed."""
    sharding = NamedSharding(mesh, REPLICATED)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), jax.eval_shape(make)
    )


def is_main_process() -> bool:
    """True in the one process that writes logs and pictures."""
    return jax.process_index() == 0


def from_main(value: Any) -> Any:
    """`value` of process 0, anything that JSON can write, in every process; all have to call it."""
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    return json.loads(bytes(multihost_utils.broadcast_one_to_all(np.resize(text, size))))


def everywhere(condition: bool) -> bool:
    """Whether `condition` holds in every process; all have to call it."""
    return bool(np.all(multihost_utils.process_allgather(np.asarray(condition))))


def wait_for_all(point: str) -> None:
    """Returns when every process has come to the `point` in the program."""
    multihost_utils.sync_global_devices(point)
