"""Arrays to the devices of a mesh and back."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from xai_traffic.parallel.mesh import DATA


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding of what lies whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """Return the sharding of a batch: its first axis split over the devices."""
    return NamedSharding(mesh, PartitionSpec(DATA))


def put_batch(batch: Any, mesh: Mesh) -> Any:
    """Move this process' share of a batch to its devices.

    Args:
        batch: tree of arrays [B / count, ...], the part that `mesh.share_of_batch` names; the
            parts in order make the batch.

    Returns:
        global arrays [B, ...] in the same tree.
    """
    sharding = split(mesh)
    return jax.tree.map(
        lambda array: jax.make_array_from_process_local_data(sharding, array), batch
    )


def put(tree: Any, shardings: Any) -> Any:
    """Put a tree of host arrays, equal in every process, where it shall lie.

    Args:
        shardings: a sharding for all, or a tree of them.
    """

    def place(leaf: Any, sharding: Sharding) -> jax.Array:
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(place, tree, _for_each(shardings, tree))


def shapes_at(tree: Any, shardings: Any) -> Any:
    """Return the shapes and dtypes of a tree with where its arrays shall lie; see `put`."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        tree,
        _for_each(shardings, tree),
    )


def _for_each(shardings: Any, tree: Any) -> Any:
    if isinstance(shardings, Sharding):
        return jax.tree.map(lambda _: shardings, tree)
    return shardings


def local(tree: Any) -> Any:
    """Return a tree as host arrays, whole; every process must call it alike."""

    def fetch(leaf: jax.Array) -> np.ndarray:
        if leaf.is_fully_replicated:
            return np.asarray(leaf.addressable_data(0))
        if leaf.is_fully_addressable:
            return np.asarray(leaf)
        return multihost_utils.process_allgather(leaf, tiled=True)

    return jax.tree.map(fetch, tree)


def on_one_device(tree: Any) -> Any:
    """Return a tree whole on this process' first device; every process must call it alike.

    What lies there already is not copied: it must be let go of before it is given up to a step.
    """
    device = jax.local_devices()[0]

    def place(leaf: jax.Array) -> jax.Array:
        whole = leaf.addressable_data(0) if leaf.is_fully_replicated else local(leaf)
        return jax.device_put(whole, device)

    return jax.tree.map(place, tree)


def fits(bytes_a_device: int, budget: int, mesh: Mesh) -> bool:
    """Return whether every device can hold so many bytes more; the same in every process.

    Args:
        bytes_a_device: of an array that lies whole on every device.
        budget: most of them; where devices tell their free memory, half of that is the most.
    """
    ours = [device for device in mesh.devices.flat if device.process_index == jax.process_index()]
    if ours[0].platform == "cpu":
        budget //= len(ours)  # they share the host's memory
    for device in ours:
        stats = device.memory_stats() or {}
        if "bytes_limit" in stats:
            budget = min(budget, (stats["bytes_limit"] - stats.get("bytes_in_use", 0)) // 2)
    fitting = bytes_a_device <= budget
    if jax.process_count() > 1:  # one process may have less left, and all run the same program
        fitting = bool(multihost_utils.process_allgather(np.array(fitting)).all())
    return fitting
