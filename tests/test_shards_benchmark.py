"""The benchmark of reading in shards: its record and its table."""

import json
import pathlib
import subprocess
import sys

SCRIPT = pathlib.Path(__file__).parents[1] / "benchmarks" / "shards.py"


def test_shards_are_timed_and_told(tmp_path):
    command = [sys.executable, SCRIPT, "--quick", "--rounds", "2", "--cases", "merge"]
    command += ["--out", tmp_path, "--folder", tmp_path / "made"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    records = [json.loads(line) for line in (tmp_path / "shards.jsonl").read_text().splitlines()]
    ours = [record for record in records if record.get("name") == "mix"]
    assert [record["round"] for record in ours] == [0, 1]
    assert all(record["captures"] == 4 and record["packets"] == 8000 for record in ours)
    table = (tmp_path / "shards.txt").read_text()
    assert table in printed + "\n" and "| limit: cp of the shards |" in table
    again = subprocess.check_output(
        [sys.executable, SCRIPT, "--markdown", "--out", tmp_path], text=True
    )
    assert again == table
