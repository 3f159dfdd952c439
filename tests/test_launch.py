"""The launch scripts, as far as a machine without a cluster can judge them."""

import pathlib
import re
import shutil
import subprocess

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[1]
LAUNCH = ROOT / "launch"
SCRIPTS = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_parses(script):
    subprocess.run(["bash", "-n", script], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "--severity=warning", script], check=True)


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


def test_slurm_array_is_the_twelve_runs(tmp_path):
    """Run the job script with `srun` replaced by `echo`, once a task, and collect the commands."""
    (tmp_path / "srun").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "srun").chmod(0o755)
    script = LAUNCH / "slurm.sbatch"
    first, last = re.search(r"--array=(\d+)-(\d+)", script.read_text()).groups()
    commands = set()
    for task in range(int(first), int(last) + 1):
        env = {
            "PATH": f"{tmp_path}:/usr/bin:/bin",
            "DATASETS": "data",
            "RUNS": "runs",
            "SLURM_ARRAY_TASK_ID": str(task),
            "SLURM_GPUS_ON_NODE": "4",
        }
        done = subprocess.run(
            ["bash", script], env=env, cwd=tmp_path, capture_output=True, text=True, check=True
        )
        commands.add(re.search(r"configs/(\w+)\.py:(\w+),(\w+),seed", done.stdout).groups())
    assert len(commands) == 12
    assert {model for model, _, _ in commands} == {"xception", "vgg19", "vit"}
    assert {(task, mask) for _, task, mask in commands} == {
        (task, mask) for task in ("binary", "multiclass") for mask in ("none", "header")
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
            command, env=env, cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert done.stdout == (
            "--cpus-per-task=1 .venv/bin/xai-traffic convert --list captures.txt "
            f"--shard {task}/512 --out shards/{task} --split hash:70/10/20\n"
        )
    lacking = subprocess.run(["bash", command[1]], env=path, capture_output=True, text=True)
    assert lacking.returncode and "as an array" in lacking.stderr


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
