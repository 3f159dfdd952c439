"""Let the processes of a training agree."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from xai_traffic.parallel.sharding import replicated


class Agreement:
    """Tell all processes alike whether any of them says yes, without making one wait.

    With several processes the answer is that to the call before: by then the devices have it, in
    the order of their work. With one it is the answer to this call.

    Args:
        mesh: of the devices that all processes use.
        ours: what this process says.
    """

    def __init__(self, mesh: Mesh, ours: Callable[[], bool]):
        self._ours = ours
        self._alone = jax.process_count() == 1
        self._sharding = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self._votes = len(mesh.local_devices)
        self._any = jax.jit(jnp.any, out_shardings=replicated(mesh))
        self._pending: jax.Array | None = None

    def __call__(self) -> bool:
        """Return whether any process said yes; every process must call it alike."""
        yes = self._ours()
        if self._alone:
            return yes
        told = self._pending
        votes = jax.make_array_from_process_local_data(self._sharding, np.full(self._votes, yes))
        self._pending = self._any(votes)
        return told is not None and bool(told.addressable_data(0))
