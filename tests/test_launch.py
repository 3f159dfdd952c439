"""The launch scripts, as far as a machine without a cluster can judge them."""

import pathlib
import re
import shutil
import subprocess
import time

import pytest
import yaml

from xai_traffic.training.config import load_config

ROOT = pathlib.Path(__file__).parents[1]
LAUNCH = ROOT / "launch"
SOAK = ROOT / "benchmarks" / "soak"
SCRIPTS = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch"), *SOAK.glob("*.sh")])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_parses(script):
    subprocess.run(["bash", "-n", script], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "-x", "--severity=warning", script], cwd=ROOT, check=True)


def test_installs_again_only_when_what_is_built_changes(tmp_path):
    """Source venv.sh beside a stand-in for the environment's Python that notes its arguments."""
    tree, noted = tmp_path / "tree", tmp_path / "noted"
    native = pathlib.Path("xai_traffic/capture/native")
    shutil.copytree(ROOT / native, tree / native)
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tree)
    python = tree / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$@" >> {noted}\n')
    python.chmod(0o755)
    command = f"set -euo pipefail; source {LAUNCH}/venv.sh; install_into_venv '.[test]'"
    for _ in range(2):
        subprocess.run(["bash", "-c", command], cwd=tree, check=True)
    assert len(noted.read_text().splitlines()) == 1 and "--editable .[test]" in noted.read_text()
    with open(tree / native / "core.c", "a") as source:
        source.write("/* changed */\n")
    subprocess.run(["bash", "-c", command], cwd=tree, check=True)
    assert len(noted.read_text().splitlines()) == 2


def stand_in(folder, name, script):
    """Put a command into a folder that comes first in the PATH of `environment`."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/usr/bin/env bash\n{script}\n")
    (folder / name).chmod(0o755)


def environment(commands, **variables):
    return {"PATH": f"{commands}:/usr/bin:/bin", **variables}


def seed_names():
    done = subprocess.run(
        ["bash", LAUNCH / "seed_run.sh", "list"], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_twelve_runs_and_their_configs(tmp_path):
    stand_in(tmp_path, "xai-traffic", 'echo "$@"')
    env = environment(tmp_path, DATASETS="data", RUNS="runs")
    names = seed_names()
    assert len(names) == len(set(names)) == 12
    for index, name in enumerate(names):
        done = subprocess.run(
            ["bash", LAUNCH / "seed_run.sh", str(index), "--config.epochs=3"],
            env=env,
            capture_output=True,
            text=True,
            check=True,
        )
        verb, _, spec, data, _, workdir, override = done.stdout.split()
        model, task, mask = name.split("-")
        assert (verb, data) == ("train", f"--config.data.path=data/{mask}")
        assert (workdir, override) == (f"runs/{name}", "--config.epochs=3")
        assert spec.endswith(f"/{model}.py:{task},{mask},seed,full")
        config = load_config(spec)
        assert (config.model.name, config.task, config.data.mask) == (model, task, mask)
    assert {tuple(name.split("-")) for name in names} == {
        (model, task, mask)
        for model in ("xception", "vgg19", "vit")
        for task in ("binary", "multiclass")
        for mask in ("none", "header")
    }


def test_convert_array_makes_all_shards(tmp_path):
    """Run the job script with `srun` replaced by `echo`, as an array and for one task again."""
    (tmp_path / "srun").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "srun").chmod(0o755)
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin", "LIST": "captures.txt", "SHARDS": "shards"}
    for task, count, number in ((0, "512", None), (511, "512", None), (17, "2", "512")):
        env = path | {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_COUNT": count}
        env |= {"NUMBER": number} if number else {}
        command = ["bash", LAUNCH / "convert_array.sbatch", "--split", "hash:70/10/20"]
        done = subprocess.run(
            command, env=env, cwd=LAUNCH.parent, capture_output=True, text=True, check=True
        )
        assert done.stdout == (
            "--cpus-per-task=1 .venv/bin/xai-traffic convert --list captures.txt "
            f"--shard {task}/512 --out shards/{task} --split hash:70/10/20\n"
        )
    lacking = subprocess.run(["bash", command[1]], env=path, capture_output=True, text=True)
    assert lacking.returncode and "as an array" in lacking.stderr


@pytest.mark.parametrize("argument", ["12", "-1", "vit", ""])
def test_a_run_that_is_none_of_the_twelve_is_wrong_usage(argument):
    done = subprocess.run(
        ["bash", LAUNCH / "seed_run.sh", argument], capture_output=True, text=True
    )
    assert done.returncode == 2 and "Usage:" in done.stderr


def run_slurm_script(folder, status, state="RUNNING", script="slurm.sbatch", **variables):
    """Run a job script where srun ends with a status; return its status and what was called."""
    noted = folder / "noted"
    noted.unlink(missing_ok=True)
    devices = 'echo "devices ${JAX_LOCAL_DEVICE_IDS:-}"'
    stand_in(folder, "srun", f'{{ echo "srun $@"; {devices}; }} >>{noted}; exit {status}')
    stand_in(folder, "squeue", f"echo {state}")
    stand_in(folder, "scontrol", f'echo "scontrol $@" >>{noted}')
    env = environment(folder, SLURM_JOB_ID="70", SLURM_SUBMIT_DIR=str(LAUNCH.parent), **variables)
    command = ["bash", LAUNCH / script, "--config.epochs=3"]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    return done.returncode, noted.read_text().splitlines()


def test_slurm_gives_each_task_of_the_array_its_run(tmp_path):
    first, last = re.search(
        r"^#SBATCH --array=(\d+)-(\d+)$", (LAUNCH / "slurm.sbatch").read_text(), re.M
    ).groups()
    assert (int(first), int(last)) == (0, len(seed_names()) - 1)
    status, called = run_slurm_script(tmp_path, 0, SLURM_ARRAY_TASK_ID="5", SLURM_CPUS_PER_TASK="8")
    assert status == 0 and called == [
        "srun --kill-on-bad-exit=0 --wait=60 --cpus-per-task=8 "
        "bash launch/seed_run.sh 5 --config.epochs=3",
        "devices ",
    ]


@pytest.mark.parametrize(
    ("gpus", "processes", "devices"), [("4", "1", "0,1,2,3"), ("4", "4", ""), ("0", "1", "")]
)
def test_slurm_one_process_takes_all_gpus_of_its_node(gpus, processes, devices, tmp_path):
    _, called = run_slurm_script(
        tmp_path, 0, SLURM_GPUS_ON_NODE=gpus, SLURM_NTASKS_PER_NODE=processes
    )
    assert called[-1] == f"devices {devices}"


@pytest.mark.parametrize(
    ("status", "state", "restarts", "requeued"),
    [
        (0, "RUNNING", "0", False),
        (1, "RUNNING", "0", False),  # a wrong config, a loss that is not finite
        (2, "RUNNING", "0", False),
        (130, "RUNNING", "0", True),  # told to stop, it saved
        (137, "RUNNING", "2", True),  # killed, or out of memory
        (139, "RUNNING", "3", False),  # once more than RESTARTS
        (143, "CANCELLED", "0", False),  # by its owner
        (143, "", "0", False),
    ],
)
def test_slurm_requeues_what_a_signal_ended(status, state, restarts, requeued, tmp_path):
    array = {"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "11"}
    counts = {"SLURM_RESTART_COUNT": restarts, "RESTARTS": "3"}
    ended, called = run_slurm_script(tmp_path, status, state, **array, **counts)
    assert ended == status
    # 70 alone would be every task of the array.
    assert called[2:] == (["scontrol requeue 70_11"] if requeued else [])


def test_slurm_requeues_a_job_that_is_no_array(tmp_path):
    assert run_slurm_script(tmp_path, 137)[1][-1] == "scontrol requeue 70"


@pytest.mark.parametrize(("status", "requeued"), [(0, False), (1, False), (130, True)])
def test_slurm_requeues_a_shard_that_was_stopped(status, requeued, tmp_path):
    array = {"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "9"}
    files = {"LIST": "captures.txt", "SHARDS": "shards"}
    ended, called = run_slurm_script(
        tmp_path, status, script="convert_array.sbatch", **array, **files
    )
    assert ended == status
    assert called[2:] == (["scontrol requeue 70_3"] if requeued else [])


STAND_IN = """
echo "$1 ${@: -1}" >>"$NOTED"
case $1 in
train)
    run=$6
    [ "${run##*/}" != "${FAILS:-}" ] || exit 1
    [ -z "${SLOW:-}" ] || { sleep 60 & trap 'echo told >>"$NOTED"; kill $!; exit 130' TERM; wait; }
    mkdir -p "$run" && touch "$run/result.json" ;;
evaluate) touch "$2/evaluation-test.json" ;;
compare) echo "the table" ;;
esac
"""


def start_seed_grid(folder, **variables):
    stand_in(folder, "xai-traffic", STAND_IN)
    (folder / "noted").write_text("")
    env = environment(folder, NOTED=str(folder / "noted"), **variables)
    return subprocess.Popen(
        ["bash", LAUNCH / "seed_grid.sh", "data", folder / "runs"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def called_verbs(folder):
    return [line.split()[0] for line in (folder / "noted").read_text().splitlines()]


@pytest.mark.parametrize("jobs", ["1", "5"])
def test_seed_grid_trains_scores_and_compares_once(jobs, tmp_path):
    with start_seed_grid(tmp_path, JOBS=jobs) as process:
        table, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and table == "the table\n"
    verbs = called_verbs(tmp_path)
    assert (verbs.count("train"), verbs.count("evaluate"), verbs[-1]) == (12, 12, "compare")
    (tmp_path / "runs" / seed_names()[7] / "evaluation-test.json").unlink()
    with start_seed_grid(tmp_path, JOBS=jobs) as process:
        process.communicate(timeout=60)
    assert called_verbs(tmp_path) == ["evaluate", "compare"]


def test_seed_grid_goes_on_behind_a_run_that_fails(tmp_path):
    with start_seed_grid(tmp_path, JOBS="2", FAILS=seed_names()[4]) as process:
        _, told = process.communicate(timeout=60)
    assert process.returncode == 1 and "some of the runs failed" in told
    verbs = called_verbs(tmp_path)
    assert (verbs.count("train"), verbs.count("evaluate"), verbs.count("compare")) == (12, 11, 0)


def test_seed_grid_hands_the_signal_on(tmp_path):
    with start_seed_grid(tmp_path, JOBS="2", SLOW="yes") as process:
        until = time.monotonic() + 30
        while called_verbs(tmp_path).count("train") < 2 and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.5)  # until the stand-ins wait for it
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == 143
    verbs = called_verbs(tmp_path)
    assert sorted(verbs) == ["told", "told", "train", "train"]


def test_jobset_names_its_coordinator_and_counts_its_processes():
    job_set = yaml.safe_load((LAUNCH / "k8s.yaml").read_text())
    assert job_set["apiVersion"].startswith("jobset.x-k8s.io/") and job_set["kind"] == "JobSet"
    (replicated,) = job_set["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    assert job["completionMode"] == "Indexed" and job["parallelism"] == job["completions"]
    (container,) = job["template"]["spec"]["containers"]
    env = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert int(env["XAI_TRAFFIC_PROCESSES"]) == job["completions"]
    host, port = env["XAI_TRAFFIC_COORDINATOR"].split(":")
    name, subdomain = job_set["metadata"]["name"], job_set["spec"]["network"]["subdomain"]
    assert host == f"{name}-{replicated['name']}-0-0.{subdomain}"
    assert int(port) in [entry["containerPort"] for entry in container["ports"]]
