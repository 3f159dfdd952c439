"""Where arrays lie: state on every device, batches split along the mesh."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from xai_traffic.parallel.mesh import DATA


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding of state: whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """Return the sharding of a batch: its first axis split over the devices."""
    return NamedSharding(mesh, PartitionSpec(DATA))


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Move this process' share of a batch to its devices.

    Args:
        batch: arrays [B / processes, ...]; the shares of the processes in order make the batch.

    Returns:
        global arrays [B, ...].
    """
    sharding = split(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, array)
        for name, array in batch.items()
    }


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
