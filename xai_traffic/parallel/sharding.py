"""Where arrays lie: state on every device, batches split along the mesh."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from xai_traffic.parallel.mesh import DATA


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding of state: whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """Return the sharding of a batch: its first axis split over the devices."""
    return NamedSharding(mesh, PartitionSpec(DATA))


def put_batch(batch: Any, mesh: Mesh) -> Any:
    """Move this process' share of a batch to its devices.

    Args:
        batch: tree of arrays [B / processes, ...]; the shares of the processes in order make the
            batch.

    Returns:
        global arrays [B, ...] in the same tree.
    """
    sharding = split(mesh)
    return jax.tree.map(
        lambda array: jax.make_array_from_process_local_data(sharding, array), batch
    )


def put_state(tree: Any, mesh: Mesh) -> Any:
    """Put a tree of host arrays, equal in every process, on every device."""
    return jax.tree.map(
        lambda leaf: jax.make_array_from_callback(
            np.shape(leaf), replicated(mesh), lambda index, leaf=leaf: np.asarray(leaf)[index]
        ),
        tree,
    )


def local(tree: Any) -> Any:
    """Return a replicated tree as host arrays."""
    return jax.tree.map(lambda leaf: np.asarray(leaf.addressable_data(0)), tree)


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
