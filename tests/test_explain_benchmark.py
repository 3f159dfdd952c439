"""The comparison with Quantus: our side runs, its absence is told, and medians are in the table."""

import importlib.util
import os
import pathlib
import sys

import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("explain_quantus", FOLDER / "explain_quantus.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_ours_runs_where_theirs_is_absent(bench, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FOLDER.parent), *sys.path]))
    cores = os.sched_getaffinity(0)
    found = list(
        bench.cases(tmp_path / "none", rounds=1, sizes=("tiny",), metrics=("deletion",), batch=1)
    )
    ours, theirs = found
    assert ours["images"] == 257 and ours["seconds"] > 0 and ours["first"] > ours["seconds"]
    assert "no Python of the peers" in theirs["absent"]
    table = bench.table(found)
    assert "deletion, tiny       xai_traffic" in table and "no Python" in table
    assert os.sched_getaffinity(0) == cores


def test_table_tells_medians_and_ratios(bench):
    def record(name, seconds):
        timed = {"seconds": seconds, "busy": seconds, "per_second": 1 / seconds}
        return {"case": "deletion, tiny", "name": name, "first": 9, "peak": 2e6, **timed}

    records = [record("xai_traffic", s) for s in (1, 2, 9)] + [record("Quantus", 6)]
    compared = {"faster": 3.0, "busy_ratio": 2.0, "difference": 1e-6}
    records.append({"case": "deletion, tiny", "name": "compared", **compared})
    lines = bench.table(records).splitlines()
    assert "  2.000  " in lines[1] and "  6.000  " in lines[2]
    assert lines[3].strip() == "3.0 times faster, 2.0 times less work, 1.0e-06 apart"


def test_both_sides_get_the_same(bench):
    weights = bench.shared.weights("small", 3)
    assert [w.shape for w in weights][-2:] == [(3, 3, 32, 64), (64, 20)]
    for one, other in zip(weights, bench.shared.weights("small", 3), strict=True):
        np.testing.assert_array_equal(one, other)
    assert bench.shared.evaluations("deletion", 16) == 16 * 256
