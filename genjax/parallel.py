"""Devices, meshes and processes: other files use a mesh and the axis name "data", and know no more of them.

Functions are written per device: each sees its slice of the batch and uses the axis name "data" in `lax.pmean` or
`lax.all_gather`. `pmap` compiles them for a mesh.
"""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

T = TypeVar("T")

REPLICATED, SPLIT = P(), P("data")

PyTree = Any  # any nesting of tuples, dictionaries and NamedTuples, with arrays as leaves

HEARTBEAT_SECONDS = 10  # heartbeat timeout: the job aborts when a process is silent for this long


def connect(where: str) -> None:
    """Connects this process to the others of a run; call it before any other use of JAX.

    `where` is "auto" if JAX can find the others itself (Cloud TPU, GKE, Slurm, Open MPI), else "HOST:PORT,NUM,ID": the
    address of process 0, the number of processes, and the index of this one. Raises ValueError for any other value.
    """
    if where == "auto":
        try:
            jax.distributed.initialize(heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
        except ValueError as error:
            raise ValueError(f"JAX finds no cluster here ({error}): give HOST:PORT,NUM,ID instead of auto") from error
        return
    # A malformed number and a number out of range get the same message.
    try:
        address, num, process = where.split(",")
        num_processes, process_id = int(num), int(process)
        host, _, port = address.rpartition(":")  # at the last colon, as an IPv6 address has its own
        named = bool(host) and 0 < int(port) < 2**16 and 0 <= process_id < num_processes
    except ValueError:
        named = False
    if not named:
        raise ValueError(f"cannot join other processes at {where!r}: give auto, or HOST:PORT,NUM,ID with ID below NUM")
    jax.distributed.initialize(address, num_processes, process_id, heartbeat_timeout_seconds=HEARTBEAT_SECONDS)


def make_mesh(devices: list[jax.Device] | None = None) -> Mesh:
    """Makes a mesh with one axis, "data", over `devices` (default: every device of every process).

    Devices are sorted by process, which `process_rows` relies on: on a TPU slice, sorted ids would mix processes. It
    also relies on equal numbers of devices: raises ValueError, the same in each process, if the numbers differ.
    """
    in_order = sorted(
        jax.devices() if devices is None else devices, key=lambda device: (device.process_index, device.id)
    )
    numbers = Counter(device.process_index for device in in_order)
    if len(set(numbers.values())) > 1:
        listed = ", ".join(f"process {process} has {number}" for process, number in numbers.items())
        raise ValueError(f"processes need equal numbers of devices, but {listed}: start all of them with as many")
    return Mesh(np.array(in_order), ("data",))


def pmap(fn: Callable, mesh: Mesh, in_specs: PyTree, out_specs: PyTree, donate: tuple[int, ...] = ()) -> Callable:
    """Compiles the per-device function `fn` for `mesh`, as `jax.pmap` does, but without a stacked leading axis.

    Outputs marked `REPLICATED` are not checked: `fn` has to make them equal on all devices.
    """
    # With check_vma=True, gradients of replicated parameters would arrive summed, and a mean over devices be a sum.
    mapped = jax.shard_map(fn, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)
    return jax.jit(mapped, donate_argnums=donate)


def mean_over_devices(tree: T) -> T:
    """Averages each leaf of `tree` over the devices, inside a per-device function."""
    # XLA's CPU compiler copies each leaf for a mean over one device.
    return tree if lax.axis_size("data") == 1 else lax.pmean(tree, "data")


def check_batch_size(mesh: Mesh, batch_size: int, num_parts: int = 1) -> None:
    """Raises ValueError unless the global `batch_size` splits evenly over the mesh, and each share into `num_parts`."""
    divisor = mesh.size * num_parts
    if batch_size % divisor:
        lower = batch_size - batch_size % divisor
        remedy = f"{lower} or {lower + divisor}" if lower else f"{divisor}"
        parts = f" in {num_parts} parts each" if num_parts > 1 else ""
        raise ValueError(
            f"--data.batch-size {batch_size} does not divide over {mesh.size} devices{parts}: give a multiple, such as "
            f"{remedy}"
        )


def process_rows(batch_size: int) -> slice:
    """Returns the slice of a global batch that this process loads."""
    # Devices of one process are neighbours in the mesh, so its rows are one slice.
    share = batch_size // jax.process_count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


def shard_batch(mesh: Mesh, batch: PyTree) -> PyTree:
    """Puts this process's rows of a batch (leaves [rows, ...]) on its devices, as parts of global arrays."""
    sharding = NamedSharding(mesh, SPLIT)
    with jax.transfer_guard_host_to_device("allow"):  # with several processes, JAX counts this as an implicit transfer
        return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, leaf), batch)


def replicate_scalar(mesh: Mesh, value: int) -> jax.Array:
    """Puts `value`, the same in every process, on every device of the mesh, as an int32 scalar."""
    with jax.transfer_guard_host_to_device("allow"):  # as in shard_batch
        return jax.make_array_from_process_local_data(NamedSharding(mesh, REPLICATED), np.asarray(value, np.int32))


def replicate_arrays(mesh: Mesh, tree: T) -> T:
    """Puts the host arrays of `tree`, the same in every process, on every device of the mesh."""
    sharding = NamedSharding(mesh, REPLICATED)
    with jax.transfer_guard_host_to_device("allow"):  # as in shard_batch
        return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, leaf), tree)


def replicate(mesh: Mesh, make: Callable[..., T], *arguments: PyTree) -> T:
    """Calls `make(*arguments)` on every device of the mesh and returns its arrays, replicated."""
    return jax.jit(make, out_shardings=NamedSharding(mesh, REPLICATED))(*arguments)


def abstract(mesh: Mesh, make: Callable[[], T]) -> T:
    """Describes the arrays that `make()` returns, replicated on the mesh; nothing is computed."""
    # The sharding in a leaf tells Orbax where to restore it, whichever devices saved it.
    sharding = NamedSharding(mesh, REPLICATED)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), jax.eval_shape(make)
    )


def is_main_process() -> bool:
    """True in the one process that writes logs and pictures."""
    return jax.process_index() == 0


def broadcast(value: T) -> T:
    """Returns process 0's `value` (anything JSON can hold) in every process; all processes must call it."""
    # Arrays alone can be broadcast, and only of a size that all processes know: first the length, then the text.
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    # What the other processes pass is ignored: it only has to have the size.
    return json.loads(bytes(multihost_utils.broadcast_one_to_all(np.resize(text, size))))


def all_processes(condition: bool) -> bool:
    """Returns True if `condition` holds in every process; all processes must call it."""
    return bool(np.all(multihost_utils.process_allgather(np.asarray(condition))))


def wait_for_all(point: str) -> None:
    """Waits until every process has reached the `point` in the program."""
    multihost_utils.sync_global_devices(point)
