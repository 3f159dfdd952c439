"""An interrupted run goes on and ends with the bits of an uninterrupted one."""

import csv
import dataclasses
import json
import os
import signal

import jax
import numpy as np
import pytest
from small_dataset import make_dataset, tiny_config

from xai_traffic.errors import RunError
from xai_traffic.training.logging import read_events
from xai_traffic.training.loop import train
from xai_traffic.training.run import load_run


class Stopped(Exception):
    pass


def config_for(dataset, **overrides):
    return tiny_config(
        dataset,
        **{
            "checkpoint.every_steps": 2,
            "augment.packet_dropout": 0.2,
            "augment.tail_dropout": 0.2,
            "model.options.dropout": 0.1,
            **overrides,
        },
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("resume") / "dataset")


@pytest.fixture(scope="module")
def straight(dataset, tmp_path_factory):
    run = tmp_path_factory.mktemp("resume") / "straight"
    return run, train(config_for(dataset), run)


def stop_at(step):
    def on_step(done):
        if done == step:
            raise Stopped

    return on_step


def rows_of(run):
    with open(run / "metrics.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:  # depends on the clock
        row.pop("train/images_per_second")
    return rows


@pytest.mark.parametrize("step", [1, 3, 5])
def test_goes_on_to_the_same_bits(dataset, straight, tmp_path, step):
    """Stopped before the first checkpoint, at an epoch's end, and inside an epoch."""
    with pytest.raises(Stopped):
        train(config_for(dataset), tmp_path, on_step=stop_at(step))
    assert not (tmp_path / "result.json").exists()
    result = train(config_for(dataset), tmp_path)
    run, expected = straight
    for key in ("params_sha256", "best_params_sha256", "best", "best_step", "step", "epoch"):
        assert result[key] == expected[key], key
    assert rows_of(tmp_path) == rows_of(run)
    steps = [
        (event.step, value.tag)
        for path in sorted((tmp_path / "events" / "train").iterdir())
        for _, event in read_events(path)
        for value in event.summary.value
        if value.tag.startswith(("train/loss", "validation/loss"))
    ]
    assert len(steps) == len(set(steps)) == result["step"] + result["epoch"]


def test_signal_saves_the_step_it_came_in(dataset, straight, tmp_path):
    def on_step(done):
        if done == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        train(config_for(dataset, **{"checkpoint.every_steps": 0}), tmp_path, on_step=on_step)
    assert (tmp_path / "checkpoints" / "4").is_dir()
    result = train(config_for(dataset), tmp_path)
    assert result["params_sha256"] == straight[1]["params_sha256"]


def test_finished_run_is_left_as_it_is(dataset, straight):
    run, expected = straight
    before = (run / "result.json").stat().st_mtime_ns
    assert train(config_for(dataset), run) == expected
    assert (run / "result.json").stat().st_mtime_ns == before


def test_other_config_is_refused_with_what_differs(dataset, straight):
    with pytest.raises(RunError, match="seed is 0 there and 5 here"):
        train(config_for(dataset, seed=5), straight[0])


def test_other_folder_is_refused(dataset, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="is no run"):
        train(config_for(dataset), tmp_path)


def test_changed_dataset_is_refused(tmp_path):
    other = make_dataset(tmp_path / "dataset", seed=1)
    with pytest.raises(Stopped):
        train(config_for(other), tmp_path / "run", on_step=stop_at(1))
    manifest = json.loads((other.path / "manifest.json").read_text())
    (other.path / "manifest.json").write_text(json.dumps({**manifest, "seed": 9}))
    with pytest.raises(RunError, match="another dataset"):
        train(config_for(other), tmp_path / "run")


def damage(checkpoint, how):
    """Damage the biggest file of a checkpoint's variables."""
    files = [path for path in (checkpoint / "variables").rglob("*") if path.is_file()]
    path = max(files, key=lambda path: path.stat().st_size)
    data = bytearray(path.read_bytes())
    if how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif how == "missing":
        path.unlink()
    else:
        data[len(data) // 2] ^= 1  # one bit, which orbax reads as it is
        path.write_bytes(data)


@pytest.mark.parametrize("how", ["truncated", "missing", "one bit"])
def test_damaged_newest_checkpoint_falls_back_to_the_one_before(
    dataset, straight, tmp_path, caplog, how
):
    with pytest.raises(Stopped):
        train(config_for(dataset), tmp_path, on_step=stop_at(5))
    newest, before = sorted((tmp_path / "checkpoints").iterdir(), reverse=True)[:2]
    assert (newest.name, before.name) == ("4", "3")
    damage(newest, how)
    result = train(config_for(dataset), tmp_path)
    (told,) = [text for text in caplog.messages if text.startswith("the checkpoint")]
    assert "checkpoint of step 4 is damaged" in told and "going on from the one before" in told
    assert (tmp_path / "damaged-checkpoint-4").is_dir()
    for key in ("params_sha256", "best_params_sha256", "best", "best_step"):
        assert result[key] == straight[1][key], key
    assert rows_of(tmp_path) == rows_of(straight[0])


def test_run_whose_checkpoints_are_all_damaged_is_refused(dataset, tmp_path):
    with pytest.raises(Stopped):
        train(config_for(dataset), tmp_path, on_step=stop_at(5))
    for checkpoint in (tmp_path / "checkpoints").iterdir():
        damage(checkpoint, "one bit")
    with pytest.raises(RunError, match="no checkpoint in .* can be read: those of steps 4, 3"):
        train(config_for(dataset), tmp_path)


def test_damaged_best_checkpoint_is_not_used(dataset, tmp_path):
    result = train(config_for(dataset), tmp_path)
    damage(tmp_path / "checkpoints" / str(result["best_step"]), "one bit")
    with pytest.raises(RunError, match="is damaged: .* holds other bytes than were written"):
        load_run(tmp_path)


def test_run_that_met_a_bad_loss_goes_on_and_skips_it(dataset, straight, tmp_path, monkeypatch):
    from xai_traffic.training import loop

    make = loop.prepare

    def prepare(config):
        job = make(config)

        def train_step(state, batch, tiles):
            with jax.transfer_guard("allow"):
                if int(state.step) == 4:
                    batch = {**batch, "weights": batch["weights"] * np.float32("nan")}
                return job.train_step(state, batch, tiles)

        return dataclasses.replace(job, train_step=train_step)

    monkeypatch.setattr(loop, "prepare", prepare)
    with pytest.raises(RunError, match="step 5.*last good checkpoint is step 4.*not_finite=skip"):
        train(config_for(dataset), tmp_path)
    result = train(config_for(dataset, **{"loss.not_finite": "skip"}), tmp_path)
    assert (result["skipped"], result["step"]) == (1, 6)
    assert result["params_sha256"] != straight[1]["params_sha256"]
