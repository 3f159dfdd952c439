"""The training under the proposed mask: done, compared, and the commands that would do it."""

import json
import shlex

import pytest

from xai_traffic.capture.rules import ReadingRules
from xai_traffic.cli import main
from xai_traffic.cli.main import make_parser
from xai_traffic.data.build import convert
from xai_traffic.data.store import open_dataset
from xai_traffic.evaluation.masked_retrain import retrain_commands
from xai_traffic.lab.write import write_lab
from xai_traffic.training.config import parse_flags
from xai_traffic.training.run import load_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("retrain")
    write_lab(folder / "lab", plant="ttl", sessions_per_family=60, families=("web",))
    convert([folder / "lab"], folder / "data", rules=ReadingRules(), workers=1)
    command = ["train", "--config", "configs/vit.py:binary,debug"]
    command += ["--config.epochs=6", "--config.optimizer.learning_rate=3e-3"]
    command += [f"--config.data.path={folder / 'data'}", "--workdir", str(folder / "run")]
    assert main(command) == 0
    return folder


def test_retraining_tells_what_is_left_without_the_plant(folder, capsys):
    out = folder / "audit"
    command = ["audit", str(folder / "data"), str(folder / "run"), "--out", str(out)]
    assert main([*command, "--retrain", "--explained", "16", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((out / "audit.json").read_text())
    assert printed["task"] == "binary" and printed["proposal"]["mask"] == "ttl"
    found = printed["retrain"]
    for side, folder_name in (("before", "run"), ("after", "masked-run")):
        row = found[side]
        assert row["run"].endswith(folder_name)
        assert row["accuracy"]["low"] <= row["accuracy"]["mean"] <= row["accuracy"]["high"]
    assert found["difference"]["sessions"] <= found["before"]["sessions"]
    assert open_dataset(out / "masked-dataset").rules.mask == "ttl"
    assert load_run(out / "masked-run").rules.mask == "ttl"
    assert "Trained again" in (out / "audit.html").read_text()


def test_the_commands_are_those_that_would_do_it(folder, tmp_path):
    run, dataset = load_run(folder / "run"), open_dataset(folder / "data")
    convert_line, train_line = retrain_commands(dataset, "ttl", tmp_path, "binary", run)
    options = make_parser().parse_args(shlex.split(convert_line)[1:])
    assert options.mask == "ttl" and options.inputs == [str(folder / "data")]
    options, rest = make_parser().parse_known_args(shlex.split(train_line)[1:])
    config = parse_flags(options.config, rest)
    theirs, own = config.to_dict(), run.config.to_dict()
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
