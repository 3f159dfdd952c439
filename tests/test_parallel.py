"""One device, eight and two processes train alike; start-up is read from the environment."""

import csv
import os
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from small_dataset import make_dataset, tiny_config

from xai_traffic.errors import ConfigError
from xai_traffic.parallel.compilation import cache_folder
from xai_traffic.parallel.mesh import check_batch, make_mesh
from xai_traffic.parallel.sharding import fits, local, put, put_batch, replicated
from xai_traffic.parallel.startup import Start, find_start
from xai_traffic.training.loop import train

EXPLICIT = {
    "XAI_TRAFFIC_COORDINATOR": "node0:1234",
    "XAI_TRAFFIC_PROCESSES": "4",
    "XAI_TRAFFIC_PROCESS_ID": "3",
}
SLURM = {"SLURM_STEP_NODELIST": "node[1-2]", "SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("parallel") / "dataset")


@pytest.fixture(scope="module")
def losses_of_one(dataset, tmp_path_factory):
    run = tmp_path_factory.mktemp("parallel") / "one"
    train(tiny_config(dataset, **{"mesh.data": 1}), run)
    return losses(run)


def losses(run):
    with open(run / "metrics.csv", encoding="utf-8") as file:
        return np.array(
            [float(row["train/loss"] or row["validation/loss"]) for row in csv.DictReader(file)]
        )


def test_eight_devices_give_the_losses_of_one(dataset, losses_of_one, tmp_path):
    train(tiny_config(dataset, **{"mesh.data": 8}), tmp_path)
    np.testing.assert_allclose(losses(tmp_path), losses_of_one, rtol=1e-4)


def test_two_processes_give_the_losses_of_one(dataset, losses_of_one, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    here = pathlib.Path(__file__).parent
    workers = [
        subprocess.Popen(
            [sys.executable, here / "train_worker.py", dataset.path, tmp_path / "run"],
            env={
                **os.environ,
                "XLA_FLAGS": "",
                "PYTHONPATH": f"{here}{os.pathsep}{here.parent}",
                "XAI_TRAFFIC_COORDINATOR": f"127.0.0.1:{port}",
                "XAI_TRAFFIC_PROCESSES": "2",
                "XAI_TRAFFIC_PROCESS_ID": str(index),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    told = []
    for worker in workers:
        out, error = worker.communicate(timeout=280)
        assert worker.returncode == 0, error
        told.append(out.strip().splitlines()[-1])
    assert [line.partition(":")[0] for line in sorted(told)] == ["0 of 2", "1 of 2"]
    assert len({line.partition(":")[2] for line in told}) == 1
    np.testing.assert_allclose(losses(tmp_path / "run"), losses_of_one, rtol=1e-4)


def test_batch_is_split_and_state_is_not():
    mesh = make_mesh(4)
    batch = put_batch({"labels": np.arange(8, dtype=np.int32)}, mesh)["labels"]
    assert [shard.data.tolist() for shard in batch.addressable_shards] == [
        [0, 1],
        [2, 3],
        [4, 5],
        [6, 7],
    ]
    state = put({"kernel": np.ones((3, 2), np.float32)}, replicated(mesh))
    assert all(shard.data.shape == (3, 2) for shard in state["kernel"].addressable_shards)
    assert local(state)["kernel"].tolist() == np.ones((3, 2)).tolist()


def test_what_stays_on_the_devices_is_within_the_budget():
    for devices in (1, 4):  # of a CPU they share one memory
        assert fits(100, 100 * devices, make_mesh(devices))
        assert not fits(101, 100 * devices, make_mesh(devices))


def test_mesh_and_batch_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="mesh.data is 99 and there are 8 devices"):
        make_mesh(99)
    with pytest.raises(ConfigError, match="--config.batch_size=8 or 16"):
        check_batch(10, make_mesh(8))
    check_batch(16, make_mesh(8))
    assert set(make_mesh(2).axis_types) == {jax.sharding.AxisType.Auto}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"SLURM_NTASKS": "12", "SLURM_JOB_ID": "7"}, None),  # sbatch without srun
        ({**SLURM, "SLURM_STEP_NUM_TASKS": "1"}, None),
        (SLURM, Start("Slurm")),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_MCA_orte_hnp_uri": "1.0;tcp"}, Start("Open MPI")),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, None),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, Start("TPU")),
        ({"TPU_WORKER_HOSTNAMES": "a"}, None),
        (EXPLICIT, Start("environment", "node0:1234", 4, 3)),
        (
            {
                "XAI_TRAFFIC_COORDINATOR": "j:1",
                "XAI_TRAFFIC_PROCESSES": "2",
                "JOB_COMPLETION_INDEX": "1",
            },
            Start("environment", "j:1", 2, 1),
        ),
        ({"JOB_COMPLETION_INDEX": "1"}, None),
        ({"XAI_TRAFFIC_COORDINATOR": "auto"}, Start("environment")),
        ({**SLURM, "XAI_TRAFFIC_PROCESSES": "1"}, None),
    ],
)
def test_start_is_read_from_the_environment(environment, expected):
    assert find_start(environment) == expected


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "XAI_TRAFFIC_COORDINATOR=HOST:PORT"),
        ({"XAI_TRAFFIC_PROCESSES": "2"}, "XAI_TRAFFIC_COORDINATOR, XAI_TRAFFIC_PROCESS_ID"),
        ({**EXPLICIT, "XAI_TRAFFIC_PROCESS_ID": "4"}, "must be 0 to 3"),
        ({**EXPLICIT, "XAI_TRAFFIC_PROCESSES": "many"}, "must be a number"),
        ({"XAI_TRAFFIC_PROCESS_ID": "0"}, "set XAI_TRAFFIC_COORDINATOR"),
    ],
)
def test_incomplete_start_is_refused(environment, message):
    with pytest.raises(ConfigError, match=message):
        find_start(environment)


def test_compiled_programs_are_kept_where_the_setting_says(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert cache_folder("auto") == pathlib.Path("/cache/xai_traffic/compiled")
    assert cache_folder("off") is None
    assert cache_folder("/else/where") == pathlib.Path("/else/where")
