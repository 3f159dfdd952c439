"""The mesh of devices that share a batch."""

from __future__ import annotations

import jax
from jax.sharding import AxisType, Mesh

from xai_traffic.errors import ConfigError

DATA = "data"
"""Mesh axis along which a batch is split."""


def make_mesh(data: int = 0) -> Mesh:
    """Return a mesh of the first `data` devices (0: of all), with one axis DATA.

    Args:
        data: devices; with many processes only all of them can take part.

    Raises:
        ConfigError: there are not as many devices.
    """
    devices = jax.devices()
    data = data or len(devices)
    if data > len(devices):
        raise ConfigError(
            f"mesh.data is {data} and there are {len(devices)} devices: set --config.mesh.data=0"
        )
    if jax.process_count() > 1 and data != len(devices):
        raise ConfigError(
            f"mesh.data is {data} and the processes have {len(devices)} devices together, which "
            "must all take part: set --config.mesh.data=0"
        )
    # Explicit axes, JAX's default, make convolutions fail on more than one device.
    return jax.make_mesh((data,), (DATA,), axis_types=(AxisType.Auto,), devices=devices[:data])


def check_batch(batch_size: int, mesh: Mesh) -> None:
    """Refuse a batch that the mesh cannot share equally.

    Raises:
        ConfigError: the message names the nearest batch sizes that can.
    """
    devices = mesh.shape[DATA]
    if batch_size % devices:
        below = batch_size - batch_size % devices
        fitting = " or ".join(str(size) for size in (below, below + devices) if size)
        raise ConfigError(
            f"batch_size {batch_size} cannot be shared by {devices} devices: set "
            f"--config.batch_size={fitting}, or --config.mesh.data"
        )
