"""The training under the proposed mask: done, compared, and the commands that would do it."""

import json
import shlex
import types

import pytest
from small_dataset import tiny_config

from xai_traffic.capture.rules import ReadingRules
from xai_traffic.cli import main
from xai_traffic.cli.main import make_parser
from xai_traffic.data.build import convert
from xai_traffic.data.store import open_dataset
from xai_traffic.evaluation.masked_retrain import retrain_commands
from xai_traffic.lab.write import write_lab
from xai_traffic.training.config import load_config, parse_flags
from xai_traffic.training.loop import train
from xai_traffic.training.run import load_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("retrain")
    write_lab(folder / "lab", plant="ttl", sessions_per_family=60, families=("web",))
    convert([folder / "lab"], folder / "data", rules=ReadingRules(), workers=1)
    train(tiny_config(open_dataset(folder / "data"), task="binary"), folder / "run")
    return folder


def test_retraining_tells_what_is_left_without_the_plant(folder, capsys):
    out = folder / "audit"
    command = ["audit", str(folder / "data"), str(folder / "run"), "--out", str(out)]
    assert main([*command, "--retrain", "--explained", "16", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((out / "audit.json").read_text())
    assert printed["task"] == "binary" and printed["proposal"]["mask"] == "ttl"
    assert printed["run"]["sessions"] == 16
    found = printed["retrain"]
    for side, folder_name in (("before", "run"), ("after", "masked-run")):
        row = found[side]
        assert row["run"].endswith(folder_name)
        for name in ("accuracy", "macro_f1"):
            assert row[name]["low"] <= row[name]["value"] <= row[name]["high"]
    assert found["difference"]["sessions"] <= found["before"]["sessions"]
    assert open_dataset(out / "masked-dataset").rules.mask == "ttl"
    assert load_run(out / "masked-run").rules.mask == "ttl"
    assert "Trained again" in (out / "audit.html").read_text()


def test_the_commands_are_those_that_would_do_it(folder, tmp_path):
    dataset = open_dataset(folder / "data")
    changed = {"data.path": dataset.path, "epochs": 6, "optimizer.learning_rate": 3e-3}
    run = types.SimpleNamespace(config=load_config("configs/vit.py:binary,debug", **changed))
    lines = retrain_commands(dataset, "ttl", tmp_path, "binary", run)
    assert "configs/vit.py:binary,best,debug --config.data.mask=ttl --config.epochs=6" in lines[1]
    options = make_parser().parse_args(shlex.split(lines[0])[1:])
    assert options.mask == "ttl" and options.inputs == [str(folder / "data")]
    options, rest = make_parser().parse_known_args(shlex.split(lines[1])[1:])
    theirs, own = parse_flags(options.config, rest).to_dict(), run.config.to_dict()
    assert theirs["data"].pop("mask") == "ttl" and own["data"].pop("mask") is None
    assert theirs["data"].pop("path") == str(options.workdir.parent / "masked-dataset")
    own["data"].pop("path")
    assert theirs == own


def test_without_a_run_there_is_nothing_to_train(folder, capsys):
    out = str(folder / "none")
    assert main(["audit", str(folder / "data"), "--out", out, "--retrain"]) == 2
    assert "need a RUN" in capsys.readouterr().err
    command = ["audit", str(folder / "data"), str(folder / "run"), "--task", "multiclass"]
    assert main([*command, "--out", out]) == 1
    assert "is a binary run" in capsys.readouterr().err
