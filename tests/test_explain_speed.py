"""The benchmark of explanations: our side runs without peers, and what its tables tell."""

import importlib
import json
import os
import pathlib
import subprocess
import sys

import pytest

FOLDER = pathlib.Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def part(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


@pytest.mark.slow
def test_the_cases_run_without_peers(tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    command = [sys.executable, FOLDER / "explain.py", "--size", "debug", "--rounds", "1"]
    command += ["--models", "vit", "--cases", "fixed,grad_cam,rates,memory", "--out", tmp_path]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    records = [json.loads(line) for line in (tmp_path / "explain.jsonl").read_text().splitlines()]
    ours = {record["what"]: record for record in records[1:] if record["name"] == "xai-traffic"}
    assert set(ours) == {"fixed", "grad_cam", "rates", "memory"}
    assert ours["fixed"]["sessions"] == 4 and ours["fixed"]["busy"] > 0
    assert ours["grad_cam"]["forward"] > 0
    assert ours["memory"]["lift"] < ours["memory"]["budget"]
    assert all(method["share_busy"] > 0 for method in ours["rates"]["methods"].values())
    absent = [record["absent"] for record in records if "absent" in record]
    assert absent == ["no --peers DIR with captum was given"] * 2
    tables = (tmp_path / "explain.txt").read_text()
    assert tables in shown.stdout + "\n" and "absent: no --peers" in tables


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
