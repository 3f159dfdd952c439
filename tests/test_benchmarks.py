"""The benchmark's own parts: the forest beside the models, and the table of the README."""

import importlib.util
import pathlib

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
