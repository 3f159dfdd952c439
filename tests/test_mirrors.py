"""Mirrors of the log: whole after interruptions, harmless when they fail, and W&B's own file."""

import csv
import json
import pathlib
import subprocess
import sys
import types

import pytest
from small_dataset import make_dataset, tiny_config

from xai_traffic.errors import ConfigError
from xai_traffic.training import mirrors
from xai_traffic.training.config import check_config, load_config
from xai_traffic.training.logging import RunLog
from xai_traffic.training.loop import train
from xai_traffic.training.pictures import confusion_matrix_png

PNG = confusion_matrix_png([[3, 0], [1, 2]], ["a", "b"])


class Pretended:
    """A service that keeps in a list what it is sent, and fails where it is told to."""

    def __init__(self, run, config):
        self.sent = sent.setdefault(run.name, [])
        self.sent.append(("open", config["seed"]))

    def scores(self, step, epoch, values):
        if values.get("train/loss") == 13.0:
            raise OSError("no more \x1b[31mnetwork")
        self.sent.append((step, epoch, values))

    def picture(self, tag, data, step):
        self.sent.append((step, tag))

    def finished(self, step):
        self.sent.append("finished")

    def close(self):
        self.sent.append("close")


sent: dict = {}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return the folder of a run whose config names a pretended service."""
    monkeypatch.setattr(mirrors, "MIRRORS", {"pretended": Pretended})
    sent.clear()
    config = load_config("vit:debug", seed=5, **{"log.mirrors": "pretended"})
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    return tmp_path


def test_mirrors_get_what_the_folder_holds_and_then_what_comes(run):
    with RunLog(run, -1, writes=True) as run_log:
        run_log.settings({}, "")
        for step in (1, 2, 3):
            run_log.scores(step, 1, "train", {"loss": 1 / step})
        run_log.picture("validation/confusion_matrix", PNG, 3)
        run_log.picture("examples/0", PNG, 3, captured=True)
    first = sent[run.name].copy()
    assert first == [
        ("open", 5),
        *((step, 1, {"train/loss": 1 / step}) for step in (1, 2, 3)),
        (3, "validation/confusion_matrix"),
        "close",
    ]
    sent[run.name].clear()
    with RunLog(run, 2, writes=True) as run_log:
        run_log.scores(3, 1, "train", {"loss": 0.25})
        run_log.finished(3)
    assert sent[run.name] == [*first[:3], (3, 1, {"train/loss": 0.25}), "finished", "close"]


def test_a_mirror_that_fails_costs_nothing_else(run, caplog):
    with RunLog(run, -1, writes=True) as run_log:
        for step, loss in enumerate((12.0, 13.0, 14.0)):
            run_log.scores(step, 1, "train", {"loss": loss})
    assert [row[0] for row in sent[run.name][1:]] == [0]
    assert "the mirror pretended failed and is left out" in caplog.text
    assert "\x1b" not in caplog.text
    assert len((run / "metrics.csv").read_text().splitlines()) == 4


def test_other_processes_and_other_runs_have_no_mirrors(run):
    with RunLog(run, -1, writes=False) as run_log:
        run_log.scores(1, 1, "train", {"loss": 1.0})
    config = json.loads((run / "config.json").read_text())
    del config["log"]["mirrors"]  # a run of an earlier version
    (run / "config.json").write_text(json.dumps(config))
    with RunLog(run, -1, writes=True) as run_log:
        run_log.scores(1, 1, "train", {"loss": 1.0})
    assert not sent


def test_wrong_mirrors_are_refused_before_anything_begins(monkeypatch):
    with pytest.raises(ConfigError, match="log.mirrors is 'wand': choose of wandb"):
        check_config(load_config("vit", **{"data.path": "D", "log.mirrors": "wand"}))
    monkeypatch.setattr(mirrors.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install '\.\[wandb\]'"):
        check_config(load_config("vit", **{"data.path": "D", "log.mirrors": "wandb"}))


def test_wandb_is_sent_what_it_lacks_be_it_between_a_step_and_its_validation():
    logged = []
    service = types.SimpleNamespace(
        starting_step=13, log=lambda values, step: logged.append((step, values))
    )
    mirror = object.__new__(mirrors.WandbMirror)
    mirror._run = service
    for step in (5, 6, 7):  # W&B has all up to the row of training of step 6
        mirror.scores(step, 1, {"train/loss": 1.0})
        mirror.scores(step, 1, {"validation/loss": 2.0})
    assert [row for row, _ in logged] == [13, 14, 15]
    assert logged[0] == (13, {"step": 6, "epoch": 1, "validation/loss": 2.0})


@pytest.fixture
def wandb(tmp_path, monkeypatch):
    """Return the package, in a mode in which it neither asks nor sends."""
    package = pytest.importorskip("wandb", reason="the extra [wandb] is not installed")
    for kind in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"WANDB_{kind}_DIR", str(tmp_path / "wandb-home"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("PROJECT", "ENTITY", "RUN_ID", "RUN_GROUP", "NAME"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    package.teardown()  # what another test made of the environment
    yield package
    package.teardown()


def read_offline(run: pathlib.Path) -> dict[str, list]:
    """Return the records of a run's only offline file by type, as W&B's own reader tells them."""
    (path,) = (run / "wandb").glob("offline-run-*/*.wandb")
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--json", path],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, list] = {}
    for line in done.stdout.splitlines():
        record = json.loads(line)
        found.setdefault(record["type"], []).append(record[record["type"]])
    return found


def test_wandb_offline_holds_every_row_once_after_an_interruption(wandb, tmp_path):
    class Stopped(Exception):
        pass

    def on_step(step):
        if step == 5:
            raise Stopped

    dataset = make_dataset(tmp_path / "dataset")
    options = {"log.mirrors": "wandb", "checkpoint.every_steps": 2}
    run = tmp_path / "run"
    with pytest.raises(Stopped):
        train(tiny_config(dataset, **options), run, on_step=on_step)
    halfway = read_offline(run)
    assert [record["exit_code"] for record in halfway["exit"]] == [1]
    train(tiny_config(dataset, **options, **{"log.images": 1}), run)
    found = read_offline(run)
    (begun,) = found["run"]
    assert begun["run_id"] == halfway["run"][0]["run_id"] == (run / "wandb" / "id").read_text()
    assert (begun["project"], begun["display_name"]) == ("xai-traffic", "run")
    assert begun["config"]["update"]["optimizer"]["learning_rate"] == 1e-2
    rows, pictures = [], set()
    for record in found["history"]:
        values = record["item"]
        told = {tag: values[tag] for tag in values if "/" in tag and "." not in tag}
        rows.append({"step": values["step"], "epoch": values["epoch"], **told})
        pictures |= {(values["step"], tag.partition(".")[0]) for tag in values if "." in tag}
    with open(run / "metrics.csv", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert rows == [{tag: float(row[tag]) for tag in row if row[tag]} for row in table]
    assert len(rows) == 6 + 2
    # No heat map of a session: bytes of captures stay where they are.
    assert pictures == {(6, "validation/confusion_matrix")}
    assert [record.get("exit_code", 0) for record in found["exit"]] == [0]


def test_wandb_that_cannot_be_reached_is_written_offline(wandb, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    run = pathlib.Path("run")  # as users name it: not from the root
    run.mkdir()
    config = load_config("vit:debug", **{"log.mirrors": "wandb"})
    (run / "config.json").write_text(json.dumps(config.to_dict()))
    real = wandb.init

    def init(*, mode=None, **options):
        if mode != "offline":
            raise wandb.errors.CommError("no route to host")
        return real(mode=mode, **options)

    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setattr(wandb, "init", init)
    wandb.teardown()
    for step in (-1, 0):
        with RunLog(run, step, writes=True) as run_log:
            run_log.scores(1, 1, "train", {"loss": 0.5})
            run_log.finished(1)
    assert "no route to host: written to" in caplog.text and "wandb sync" in caplog.text
    (row,) = read_offline(run)["history"]
    assert row["item"]["train/loss"] == 0.5
