"""Many devices: hand over inputs that lie on all of them, and each explains its part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from xai_traffic.parallel.mesh import DATA


def over_devices(
    params: Any, x, devices: Sequence[jax.Device] | None = None
) -> tuple[Any, jax.Array]:
    """Put parameters and inputs on every device, whole: methods given them share the work out.

    Each call of a model is then split along its batch, and `memory_budget` is of one device.

    Args:
        params: of the model, any tree of arrays.
        x: [B, ...], of any B.
        devices: of this process; None for all that it has.
    """
    devices = list(devices or jax.local_devices())
    mesh = jax.make_mesh((len(devices),), (DATA,), axis_types=(AxisType.Auto,), devices=devices)
    return jax.device_put((params, x), NamedSharding(mesh, PartitionSpec()))


def ways(x: jax.Array) -> int:
    """Return on how many devices x lies, 1 where JAX is tracing."""
    return 1 if isinstance(x, jax.core.Tracer) else len(x.sharding.device_set)


def split(like: jax.Array, array) -> jax.Array:
    """Split an array along its first axis over the devices that `like` lies on.

    Args:
        array: [n, ...], n a multiple of their number.
    """
    if ways(like) == 1:
        return array
    mesh = jax.make_mesh(
        (ways(like),),
        (DATA,),
        axis_types=(AxisType.Auto,),
        devices=sorted(like.sharding.device_set, key=lambda device: device.id),
    )
    return jax.device_put(array, NamedSharding(mesh, PartitionSpec(DATA)))
