"""Start-up of one process or many, decided from what the launcher left in the environment."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping

import jax

from xai_traffic.errors import ConfigError

COORDINATOR = "XAI_TRAFFIC_COORDINATOR"
PROCESSES = "XAI_TRAFFIC_PROCESSES"
PROCESS_ID = "XAI_TRAFFIC_PROCESS_ID"


@dataclasses.dataclass(frozen=True)
class Start:
    """How the processes of a job find each other.

    Args:
        launcher: what decided it, for messages.
        coordinator: "host:port" of process 0, None where JAX finds it by itself.
        count: processes of the job, None where JAX finds it by itself.
        index: this process, 0-based, None where JAX finds it by itself.
    """

    launcher: str
    coordinator: str | None = None
    count: int | None = None
    index: int | None = None


def find_start(environment: Mapping[str, str]) -> Start | None:
    """Return how to join the other processes, None for a process that is alone.

    Told by hand (or by `launch/k8s.yaml`): XAI_TRAFFIC_COORDINATOR=HOST:PORT,
    XAI_TRAFFIC_PROCESSES=N and XAI_TRAFFIC_PROCESS_ID=I (in an indexed Kubernetes job
    JOB_COMPLETION_INDEX serves); XAI_TRAFFIC_COORDINATOR=auto asks JAX, XAI_TRAFFIC_PROCESSES=1
    forces a single process. Found: Slurm steps (under `srun`) and Open MPI jobs of several
    processes, and TPU slices of several workers.

    Raises:
        ConfigError: the variables are incomplete or contradict each other.
    """
    told = _told(environment)
    if told is not None:
        return told if told.count != 1 else None
    tasks = environment.get("SLURM_STEP_NUM_TASKS", environment.get("SLURM_NTASKS"))
    if "SLURM_STEP_NODELIST" in environment and _number(tasks, "SLURM_STEP_NUM_TASKS") > 1:
        return Start("Slurm")
    if _number(environment.get("OMPI_COMM_WORLD_SIZE"), "OMPI_COMM_WORLD_SIZE") > 1:
        if "OMPI_MCA_orte_hnp_uri" not in environment:
            raise ConfigError(
                "this Open MPI (5 or later) does not tell where process 0 is: set "
                f"{COORDINATOR}=HOST:PORT, {PROCESSES}=$OMPI_COMM_WORLD_SIZE and "
                f"{PROCESS_ID}=$OMPI_COMM_WORLD_RANK in each process"
            )
        return Start("Open MPI")
    workers = environment.get("TPU_WORKER_HOSTNAMES", environment.get("TPU_PROCESS_ADDRESSES", ""))
    if "," in workers:
        return Start("TPU")
    return None


def start_processes() -> None:
    """Join the other processes of the job, once; must come before anything touches a device.

    Raises:
        ConfigError: see `find_start`.
    """
    if jax.distributed.is_initialized():
        return
    start = find_start(os.environ)
    if start is not None:
        jax.distributed.initialize(start.coordinator, start.count, start.index)


def _told(environment: Mapping[str, str]) -> Start | None:
    coordinator, count = environment.get(COORDINATOR), environment.get(PROCESSES)
    index = environment.get(PROCESS_ID, environment.get("JOB_COMPLETION_INDEX"))
    if count == "1":
        return Start("environment", count=1)
    if coordinator is None and count is None:
        if PROCESS_ID in environment:
            raise ConfigError(f"{PROCESS_ID} is set: set {COORDINATOR} and {PROCESSES} too")
        return None
    if coordinator == "auto":
        return Start("environment")
    missing = [
        name
        for name, value in ((COORDINATOR, coordinator), (PROCESSES, count), (PROCESS_ID, index))
        if not value
    ]
    if missing:
        raise ConfigError(f"{', '.join(missing)} must be set too, to join the other processes")
    start = Start("environment", coordinator, _number(count, PROCESSES), _number(index, PROCESS_ID))
    if not 0 <= start.index < start.count:
        raise ConfigError(
            f"{PROCESS_ID} is {start.index}: it must be 0 to {start.count - 1} ({PROCESSES} - 1)"
        )
    return start


def _number(text: str | None, name: str) -> int:
    try:
        return int(text or 0)
    except ValueError:
        raise ConfigError(f"{name} is {text!r}: it must be a number") from None
