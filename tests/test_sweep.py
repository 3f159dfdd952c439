"""Sweeps: points and their names, one after the other through failures and interruptions."""

import json
import os
import signal

import pytest
from small_dataset import CACHE, TINY, make_dataset

from xai_traffic.cli import main
from xai_traffic.errors import ConfigError, PeerError
from xai_traffic.training import sweep as sweeping
from xai_traffic.training.interruption import Interruption
from xai_traffic.training.loop import train
from xai_traffic.training.recipe import product
from xai_traffic.training.sweep import load_sweep, train_sweep

BAD = {"init_from": "nowhere"}
"""Fails once its folder is made, before anything compiles."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("sweep") / "dataset")


def write_config(folder, points, dataset=None):
    """Write a config file of a tiny ViT whose sweep has these points; return its path."""
    values = {"model.options": TINY, "compilation_cache": CACHE, "log.images": 0}
    values["data.path"] = None if dataset is None else str(dataset.path)
    path = folder / "swept.py"
    path.write_text(
        "from xai_traffic.training.config import load_config\n\n\n"
        f"def get_config(arg=None):\n    return load_config('vit:debug', **{values!r})\n\n\n"
        f"def sweep():\n    return {points!r}\n"
    )
    return str(path)


def test_product_is_every_combination():
    assert product({"a.b": (1, 2), "seed": range(2)}) == [
        {"a.b": 1, "seed": 0},
        {"a.b": 1, "seed": 1},
        {"a.b": 2, "seed": 0},
        {"a.b": 2, "seed": 1},
    ]


def test_points_have_configs_and_readable_names(tmp_path):
    points = load_sweep("vit:debug", ["--config.batch_size=8"])
    assert len(points) == 18 and [point.number for point in points] == list(range(18))
    assert points[1].name == "learning_rate=0.00075,weight_decay=0.3,seed=1"
    assert points[1].config.is_locked and points[1].config.batch_size == 8
    assert (points[17].config.seed, points[17].config.optimizer.learning_rate) == (2, 3e-3)
    path = write_config(
        tmp_path,
        [
            {},
            {"init_from": "/runs/a b", "optimizer.name": "sgd"},
            {"path": "../x", "model.options.depth": 2},
            {"init_from": "y" * 300},
        ],
    )
    names = [point.name for point in load_sweep(path)]
    assert names[:3] == [
        "as-configured",
        "init_from=runs-a-b,optimizer.name=sgd",
        "path=..-x,depth=2",
    ]
    assert len(names[3]) < 140


@pytest.mark.parametrize(
    ("points", "flags", "message"),
    [
        ([], [], "names no point"),
        (None, [], "names no point"),
        ([3], [], "point 0 is no dict of values by dotted key: 3"),
        ([{}, {"optimizer.rate": 1}], [], r"point 1: the config has no field optimizer.rate: did"),
        ([{"epochs": "many"}], [], "point 0: epochs cannot be 'many'"),
        ([{"seed": 1}, {"epochs": 2}, {"seed": 1}], [], "points 0 and 2 are both seed=1"),
        ([{"seed": 1}], ["--config.seed=2"], "--config.seed is set by the sweep"),
        ([{"deterministic": True}], ["--noconfig.deterministic"], "is set by the sweep"),
        ([{"seed": 1}], ["--config.sed=2"], "did you mean seed"),
    ],
)
def test_wrong_sweeps_are_refused(tmp_path, points, flags, message):
    with pytest.raises(ConfigError, match=message):
        load_sweep(write_config(tmp_path, points), flags)


def test_a_config_without_a_sweep_is_told():
    with pytest.raises(ConfigError, match=r"vgg19.py has no sweep\(\): add one"):
        load_sweep("vgg19:debug")


def test_a_contradiction_in_a_later_point_costs_no_training(dataset, tmp_path):
    path = write_config(tmp_path, [{}, {"batch_size": 0}], dataset)
    with pytest.raises(ConfigError, match="point 1, batch_size=0: batch_size is 0: it must be at"):
        train_sweep(load_sweep(path), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_failing_point_costs_none_of_the_others_and_finished_ones_stay(dataset, tmp_path, capsys):
    path = write_config(tmp_path, [{"seed": 0}, BAD, {"seed": 1}], dataset)
    command = ["train", "--config", path, "--workdir", str(tmp_path / "runs"), "--json"]
    assert main([*command, "--sweep-point", "2"]) == 0
    (third,) = json.loads(capsys.readouterr().out)
    written = tmp_path / "runs" / "seed=1" / "result.json"
    before = written.stat().st_mtime_ns
    assert main([*command, "--sweep"]) == 1
    output = capsys.readouterr()
    outcomes = json.loads(output.out)
    assert [outcome["point"] for outcome in outcomes] == [0, 1, 2]
    assert outcomes[2] == third and written.stat().st_mtime_ns == before
    assert outcomes[1]["result"] is None and "nowhere is no run" in outcomes[1]["fault"]
    assert "failed: point 1" in output.err and "Traceback" not in output.err
    assert main(["compare", str(tmp_path / "runs"), "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)
    states = {row["run"]: row["state"] for row in compared["runs"]}
    assert states == {
        "init_from=nowhere": "not begun",
        "seed=0": "finished",
        "seed=1": "finished",
    }
    (group,) = compared["groups"]
    assert group["over"] == {"seed": [0, 1]}


def test_an_interruption_stops_the_sweep_and_the_same_call_goes_on(dataset, tmp_path, monkeypatch):
    path = write_config(tmp_path, [{"seed": 0}, {"seed": 1}], dataset)
    begun = []

    def interrupted(config, run):
        begun.append(run.name)
        return train(config, run, on_step=lambda _: os.kill(os.getpid(), signal.SIGINT))

    with monkeypatch.context() as patch:
        patch.setattr(sweeping, "train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_sweep(load_sweep(path), tmp_path / "runs")
    assert begun == ["seed=0"]
    assert (tmp_path / "runs" / "seed=0" / "checkpoints" / "1").is_dir()
    outcomes = train_sweep(load_sweep(path), tmp_path / "runs")
    assert [outcome.result["epoch"] for outcome in outcomes] == [2, 2]


@pytest.mark.parametrize("when", ["at the end of a point", "between two"])
def test_a_signal_that_no_training_looked_at_stops_the_sweep_too(tmp_path, monkeypatch, when):
    path = write_config(tmp_path, [{"seed": 0}, {"seed": 1}, {"seed": 2}], make_nothing())
    seen = []

    def pretend(config, run):
        if seen and when == "between two":
            os.kill(os.getpid(), signal.SIGTERM)
        with Interruption() as interruption:
            seen.append(interruption.asked)
            if not seen[-1] and when != "between two":
                os.kill(os.getpid(), signal.SIGTERM)
        return {}

    monkeypatch.setattr(sweeping, "train", pretend)
    with pytest.raises(KeyboardInterrupt):
        train_sweep(load_sweep(path), tmp_path)
    assert seen == ([False, True] if when == "between two" else [False])
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_lost_process_ends_the_sweep(dataset, tmp_path, monkeypatch):
    """Nobody is left to train the next point with: going on would wait for ever."""
    tried = []

    def lose(config, run):
        tried.append(run)
        raise PeerError("another one ended")

    monkeypatch.setattr(sweeping, "train", lose)
    points = load_sweep(write_config(tmp_path, [{"seed": 0}, {"seed": 1}], dataset))
    with pytest.raises(PeerError):
        train_sweep(points, tmp_path / "runs")
    assert len(tried) == 1


def make_nothing():
    """Return what has a dataset's path, where nothing is trained."""
    return type("Dataset", (), {"path": "nowhere"})


def test_points_are_listed_one_a_line(capsys):
    command = ["train", "--config", "configs/vit.py:debug", "--sweep-list"]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[17] == "17 learning_rate=0.003,weight_decay=1.0,seed=2" and len(lines) == 18
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [point["name"] for point in told] == [line.split(" ")[1] for line in lines]
    assert told[1]["values"] == {
        "optimizer.learning_rate": 7.5e-4,
        "optimizer.weight_decay": 0.3,
        "seed": 1,
    }


def test_wrong_calls_are_told(tmp_path, capsys):
    command = ["train", "--config", "configs/vit.py:debug"]
    assert main(command) == 2 and "--workdir" in capsys.readouterr().err
    out = ["--workdir", str(tmp_path / "out")]
    assert main([*command, *out, "--sweep-point", "18"]) == 1
    assert "no point 18: its 18 points are 0 to 17" in capsys.readouterr().err
    assert main([*command, *out, "--sweep-point", "-1"]) == 1
    with pytest.raises(SystemExit):
        main([*command, *out, "--sweep", "--sweep-list"])
    assert not (tmp_path / "out").exists()
