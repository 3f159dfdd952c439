"""The benchmarks' own parts: the forest beside the models, the table of the README, shards."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import pytest
from small_dataset import make_dataset

FILE = pathlib.Path(__file__).parents[1] / "benchmarks" / "ustc.py"


@pytest.fixture(scope="module")
def ustc():
    spec = importlib.util.spec_from_file_location("ustc", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_forest_and_table(ustc, tmp_path, capsys):
    dataset = make_dataset(tmp_path / "data")
    cell = ustc.forest_cell(dataset, seed=0)
    # The planted bytes tell the classes apart; nine sessions are in the test split.
    assert (cell["accuracy"], cell["accuracy_std"], cell["macro_f1"]) == (1.0, 0.0, 1.0)
    assert cell["sessions"] == len(dataset.rows("test")) == 9
    network = {**cell, "model": "vit", "accuracy": 0.5, "runs": 1, "parameters": 1_250_000}
    network["seconds"] = 90.0
    cells = [{"mask": "none", **row} for row in (cell, network)]
    ustc.print_table(cells, {"none": dataset}, seed=0)
    lines = capsys.readouterr().out.splitlines()
    assert "| model | parameters | none (9) |" in lines
    assert any("| 100.00 ± 0.00 / 100.00 ± 0.00 (0.0 min) |" in line for line in lines)
    assert "| vit | 1.25 M | 50.00 / 100.00 (1.5 min) |" in lines
    assert lines[-1].endswith("seed 0")


def test_masks_are_known(ustc):
    from xai_traffic.capture.masking import parse_mask

    assert all(parse_mask(mask) for mask in ustc.MASKS.values() if mask != "none")
    assert "none" in ustc.MASKS


def test_shards_are_timed_and_told(tmp_path):
    script = FILE.with_name("shards.py")
    command = [sys.executable, script, "--quick", "--rounds", "2", "--cases", "merge"]
    command += ["--out", tmp_path, "--folder", tmp_path / "made"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    records = [json.loads(line) for line in (tmp_path / "shards.jsonl").read_text().splitlines()]
    ours = [record for record in records if record.get("name") == "mix"]
    assert [record["round"] for record in ours] == [0, 1]
    assert all(record["captures"] == 4 and record["packets"] == 8000 for record in ours)
    table = (tmp_path / "shards.txt").read_text()
    assert table in printed + "\n" and "| limit: cp of the shards |" in table
    again = subprocess.check_output(
        [sys.executable, script, "--markdown", "--out", tmp_path], text=True
    )
    assert again == table
