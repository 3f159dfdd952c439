"""The mesh of devices that share a training."""

from __future__ import annotations

import jax
from jax.sharding import AxisType, Mesh

from xai_traffic.errors import ConfigError

DATA = "data"
"""Mesh axis along which a batch is split, and parameters too where they are fully sharded."""

MODEL = "model"
"""Mesh axis along which a layer is split."""


def make_mesh(data: int = 0, model: int = 1) -> Mesh:
    """Return a mesh [data, model] of the first devices; neighbours share a layer.

    There is no switch to `jax.pmap`: it is `jit` with shardings inside and could only split
    batches.

    Args:
        data: parts of a batch (0: as many as devices allow); with many processes all devices
            must take part.
        model: devices that share a layer.

    Raises:
        ConfigError: the devices cannot be arranged so.
    """
    devices = jax.devices()
    if len(devices) % model and not data or model > len(devices):
        raise ConfigError(
            f"mesh.model is {model} and there are {len(devices)} devices: set --config.mesh.model "
            "to a number that divides them"
        )
    data = data or len(devices) // model
    told = f"mesh.data is {data}" + (f", mesh.model is {model}," if model > 1 else "")
    if data * model > len(devices):
        raise ConfigError(f"{told} and there are {len(devices)} devices: set --config.mesh.data=0")
    if jax.process_count() > 1 and data * model != len(devices):
        raise ConfigError(
            f"{told} and the processes have {len(devices)} devices together, which "
            "must all take part: set --config.mesh.data=0"
        )
    # Explicit axes, JAX's default, make convolutions fail on more than one device.
    return jax.make_mesh(
        (data, model),
        (DATA, MODEL),
        axis_types=(AxisType.Auto, AxisType.Auto),
        devices=devices[: data * model],
    )


def share_of_batch(mesh: Mesh) -> tuple[int, int]:
    """Return (index, count): which of how many equal parts of a batch this process feeds.

    Processes whose devices share a layer feed the same part.

    Raises:
        ConfigError: the processes' devices cannot be arranged in equal parts.
    """
    ours = sorted(
        {
            place
            for place, row in enumerate(mesh.devices)
            if any(device.process_index == jax.process_index() for device in row)
        }
    )
    size = len(ours)
    if not ours or ours[-1] - ours[0] + 1 != size or mesh.shape[DATA] % size or ours[0] % size:
        raise ConfigError(
            f"mesh.model is {mesh.shape[MODEL]}, and process {jax.process_index()} would feed the "
            f"parts {ours} of {mesh.shape[DATA]} of a batch: set --config.mesh.model so that it "
            "divides the devices of a process, or is a multiple of them"
        )
    return ours[0] // size, mesh.shape[DATA] // size


def check_batch(batch_size: int, mesh: Mesh) -> None:
    """Refuse a batch that the mesh cannot share equally.

    Raises:
        ConfigError: the message names the nearest batch sizes that can.
    """
    parts = mesh.shape[DATA]
    if batch_size % parts:
        below = batch_size - batch_size % parts
        fitting = " or ".join(str(size) for size in (below, below + parts) if size)
        raise ConfigError(
            f"batch_size {batch_size} cannot be shared by {parts} devices: set "
            f"--config.batch_size={fitting}, or --config.mesh.data"
        )
