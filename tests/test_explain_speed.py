"""The benchmark of explanations: our side runs without peers, and what its tables tell."""

import importlib
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def part(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


@pytest.mark.slow
def test_the_cases_run_at_debug_size(part, tmp_path, monkeypatch):
    ours = part("explain_ours")
    monkeypatch.setattr(ours, "TRIED", (8,))
    monkeypatch.setattr(ours, "SAMPLES", 64)
    assert ours.prepare(tmp_path, "vit", "debug", 4, 0)["weights"] == "random"
    fixed = ours.integrated_gradients("fixed", tmp_path, "vit", 1)
    assert fixed["sessions"] == 4 and fixed["busy"] > 0
    assert np.isfinite(fixed["error"])
    assert ours.grad_cam(tmp_path, "vit", 1)["forward"] > 0
    shares = ours.rates(tmp_path, "vit", 1)["methods"]
    assert len(shares) == 4 and all(method["share_busy"] > 0 for method in shares.values())
    lifted = ours.memory(tmp_path, "vit", "occlusion", 1 << 28)
    assert lifted["lift"] < lifted["budget"]


@pytest.mark.slow
def test_the_script_runs_without_peers(tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    command = [sys.executable, FOLDER / "explain.py", "--size", "debug", "--rounds", "1"]
    command += ["--models", "vit", "--cases", "grad_cam", "--out", tmp_path]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    records = [json.loads(line) for line in (tmp_path / "explain.jsonl").read_text().splitlines()]
    ours, theirs = records[1:]
    assert ours["what"] == "grad_cam" and ours["busy"] > 0
    assert theirs["absent"] == "no --peers DIR with captum was given"
    assert (tmp_path / "explain.txt").read_text() in shown.stdout + "\n"


def test_tables_tell_ratios_of_rounds(part):
    report = part("explain_report")
    about = {"case": "about", "date": "today", "threads": 2, "processor": "P", "memory": 2**34}
    about |= {"system": "L", "load": 0.1, "versions": {"jax": "0.10"}, "seed": 0}
    common = {"case": "fixed, vit", "what": "fixed", "model": "vit", "size": "cpu"}
    common |= {"weights": "trained", "packets": 3.1, "sessions": 8, "error": 1e-3, "steps": 50}
    runs = [
        {**common, "name": name, "round": number, "seconds": took, "busy": took}
        for name, all_of_them in (("xai-traffic", (1.0, 2.0)), ("captum", (3.0, 8.0)))
        for number, took in enumerate(all_of_them)
    ]
    lines = report.tables([about, *runs]).splitlines()
    assert any(line.endswith("| 3.5 x (3 - 4) | 3.5 x (3 - 4) |") for line in lines)
    assert lines[-1].endswith("jax 0.10; seed 0")


def test_the_command_line_knows_its_cases(part, capsys):
    bench = part("explain")
    options = bench.parse(["--size", "cpu", "--cases", "fixed"])
    assert options.budgets == [256] and options.sessions == 16 and options.cases == ["fixed"]
    with pytest.raises(SystemExit):
        bench.parse(["--models", "resnet"])
    assert "choose of xception" in capsys.readouterr().err
