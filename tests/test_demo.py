"""The demo reuses what stands and never writes into a folder that is not its own."""

import json

import pytest

from xai_traffic import demo as demonstration
from xai_traffic.demo import RUNS, demo
from xai_traffic.errors import XaiTrafficError
from xai_traffic.training.config import check_config, load_config

SCORES = {
    "parameters": 7,
    "accuracy": 0.5,
    "macro_f1": 0.5,
    "expected_calibration_error": 0.1,
}
STAGES = ("write_lab", "convert", "train", "write_evaluation", "explain_run", "load_run")


@pytest.fixture
def finished(tmp_path):
    """What a demo of seed 3 leaves, as far as the next one looks at it."""
    out = tmp_path / "demo"
    for name in ("captures", "dataset", "report"):
        (out / name).mkdir(parents=True)
    (out / "demo.json").write_text('{"seed": 3}')
    for model in RUNS:
        run = out / "runs" / model
        run.mkdir(parents=True)
        (run / "result.json").write_text("{}")
        (run / "evaluation-test.json").write_text(json.dumps(SCORES))
    return out


def test_a_finished_demo_does_nothing_again(finished, monkeypatch, capsys):
    for stage in STAGES:
        monkeypatch.setattr(demonstration, stage, lambda *_, stage=stage, **__: pytest.fail(stage))
    assert demo(finished, seed=3) == finished / "report" / "report.html"
    shown = capsys.readouterr().err
    assert all(model in shown for model in RUNS) and "0.5000" in shown


def test_what_is_missing_is_made(finished, monkeypatch):
    made = []
    monkeypatch.setattr(demonstration, "load_run", lambda path: path)
    monkeypatch.setattr(
        demonstration,
        "explain_run",
        lambda run, captures, out, **where: made.append((run, captures, out, where)),
    )
    (finished / "report").rmdir()
    demo(finished, seed=3)
    where = {"dataset": finished / "dataset", "split": "test"}
    assert made == [(finished / "runs" / "vit", [], finished / "report", where)]


def test_other_folders_and_other_seeds_are_refused(finished, tmp_path):
    with pytest.raises(XaiTrafficError, match="demo with seed 3"):
        demo(finished, seed=4)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(XaiTrafficError, match="holds no demo"):
        demo(tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("content", ["", '{"seed"', "{}", "[]"])
def test_a_damaged_mark_is_told(finished, content):
    (finished / "demo.json").write_text(content)
    with pytest.raises(XaiTrafficError, match=r"demo\.json cannot be read .* another --out"):
        demo(finished, seed=3)


@pytest.mark.parametrize("model", RUNS)
def test_its_configs_are_sound(model):
    check_config(load_config(f"configs/{model}.py:{RUNS[model]}", path="D", seed=0))
