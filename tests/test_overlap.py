"""Scores on another dataset say where it holds what the run was trained on."""

import hashlib
import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_dataset import make_dataset, tiny_config

from xai_traffic.capture.rules import ReadingRules
from xai_traffic.cli import main
from xai_traffic.data.build import convert
from xai_traffic.data.store import open_dataset
from xai_traffic.evaluation.open_set_evaluation import evaluate_open_set
from xai_traffic.evaluation.run_record import read_run_record
from xai_traffic.lab.write import write_lab
from xai_traffic.report.export import export_run
from xai_traffic.training.loop import train
from xai_traffic.training.overlap import leaks_of
from xai_traffic.training.run import load_run

SPLIT = "random:60/20/20"


def under_another_seed(dataset, folder):
    """Return the sessions of a dataset as a split by another seed has them: test was train."""
    shutil.copytree(dataset.path, folder)
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "seed": 9}))
    table = pq.read_table(folder / "sessions.parquet")
    turned = {"train": "test", "test": "train"}
    splits = pa.array([turned.get(name, name) for name in table["split"].to_pylist()])
    table = table.set_column(table.schema.get_field_index("split"), "split", splits)
    pq.write_table(table, folder / "sessions.parquet")
    return open_dataset(folder)


def with_captures(path, captures):
    """Write captures into a manifest and return its hash as datasets have it."""
    manifest = json.loads(path.read_text())
    manifest["captures"] = [{"capture": f"{name}.pcap", "sha256": name} for name in captures]
    path.write_text(json.dumps(manifest))
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def of_both(run, split, dataset):
    """Return what is said beside the leaks of the dataset itself."""
    own = dataset.leaky(run.task)
    found = leaks_of(run, split, dataset)
    assert found[: len(own)] == own
    return found[len(own) :]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("overlap")
    dataset = make_dataset(path / "own")
    train(tiny_config(dataset, epochs=1), path / "run")
    export_run(path / "run", path / "copy")
    return path


def test_sessions_of_the_training_are_found_in_another_dataset(folder, tmp_path, caplog):
    run, own = load_run(folder / "run"), open_dataset(folder / "own")
    assert of_both(run, "test", own) == []
    other = under_another_seed(own, tmp_path / "other")
    [reason] = of_both(run, "test", other)
    assert reason == "63 of its 63 test sessions are images that run run was trained on"
    assert of_both(run, "validation", other) == []
    strange = make_dataset(tmp_path / "strange", seed=4)
    assert of_both(run, "test", strange) == []
    # An export has the manifest alone, with the hashes of the captures.
    copy = load_run(folder / "copy")
    copy.dataset["manifest_sha256"] = with_captures(folder / "copy" / "dataset.json", "abc")
    for captures, shared in (("bcd", 2), ("xy", 0)):
        with_captures(other.path / "manifest.json", captures)
        found = of_both(copy, "test", open_dataset(other.path))
        told = f"{shared} of its {len(captures)} captures are among those that run copy was"
        assert found == ([f"{told} trained on"] if shared else [])
    assert not caplog.records
    (folder / "copy" / "dataset.json").unlink()
    assert of_both(copy, "test", other) == []
    assert "is not known: its dataset is not at hand" in caplog.text


def test_scores_on_such_a_dataset_are_called_leaky(folder, tmp_path, capsys):
    run = shutil.copytree(folder / "run", tmp_path / "run")
    other = under_another_seed(open_dataset(folder / "own"), tmp_path / "other").path
    assert main(["evaluate", str(run), "--data", str(other)]) == 0
    assert "LEAKY: 63 of its 63 test sessions are images" in capsys.readouterr().err
    card = (run / "model_card.md").read_text()
    assert "**LEAKY: `63 of its 63 test sessions" in card and "does not leak" not in card
    assert main(["evaluate", str(run)]) == 0
    assert "images" not in capsys.readouterr().err


def test_splits_that_a_run_was_made_by_are_said_to_flatter_it(folder, tmp_path, capsys):
    run = shutil.copytree(folder / "run", tmp_path / "run")
    assert main(["evaluate", str(run), "--split", "train"]) == 0
    assert "split train flatters the run: it was trained on" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--split", "validation"]) == 0
    told = capsys.readouterr().err
    assert "split validation flatters the run: its checkpoint was chosen" in told
    assert "calibrated on" not in told
    assert main(["calibrate", str(run)]) == main(["evaluate", str(run)]) == 0
    assert "flatters" not in capsys.readouterr().err
    assert main(["evaluate", str(run), "--split", "validation"]) == 0
    assert "flatters the run: it was calibrated on" in capsys.readouterr().err
    card = (run / "model_card.md").read_text()
    assert "Split train flatters the run: it was trained on these sessions." in card
    assert card.count("Split validation flatters the run") == 2
    assert "Split test flatters" not in card
    assert main(["compare", str(run), "--split", "train"]) == 0
    assert "run: split train flatters the run: it was trained" in capsys.readouterr().err


def test_what_parameters_to_start_from_were_trained_on_counts(folder, tmp_path, caplog):
    other = under_another_seed(open_dataset(folder / "own"), tmp_path / "other")
    config = tiny_config(other, epochs=1, batch_size=8, init_from=str(folder / "run"))
    train(config, tmp_path / "second")
    reason = "63 of its 63 test sessions are images that run run was trained on"
    assert f"is LEAKY: {reason}" in caplog.text
    second = load_run(tmp_path / "second")
    assert second.dataset["leaky"] == [*other.leaky("multiclass"), reason]
    [before] = second.dataset["before"]
    assert before["run"] == str(folder / "run")
    assert leaks_of(second, "test", other) == second.dataset["leaky"]
    assert reason in read_run_record(second.path).leaky
    [reason_of_train] = of_both(second, "train", open_dataset(folder / "own"))
    assert reason_of_train == reason.replace("test", "train")
    # Of the dataset that the first run was trained on, it is the second's training that is there.
    assert of_both(second, "test", open_dataset(folder / "own")) == [
        reason.replace("run run", "run second").replace("63", "9")
    ]
    # Its own reading keeps that when it goes on without the first run.
    began = (second.path / "reading.json").read_text()
    (second.path / "result.json").unlink()  # as if it was interrupted at its end
    gone = (folder / "run").rename(tmp_path / "gone")
    train(config, second.path)
    gone.rename(folder / "run")
    assert json.loads((second.path / "reading.json").read_text()) == json.loads(began)
    # A third run has both behind it, also where the second is not to be found any more.
    strange = make_dataset(tmp_path / "strange", seed=4)
    train(tiny_config(strange, epochs=1, init_from=str(second.path)), tmp_path / "third")
    third = load_run(tmp_path / "third")
    assert [row["run"] for row in third.dataset["before"]] == [str(second.path), before["run"]]
    assert of_both(third, "test", other) == [reason]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A run on captures of a lab, and the same captures split by another seed."""
    path = tmp_path_factory.mktemp("lab")
    write_lab(path / "lab", sessions_per_family=20, families=("dns", "web", "beacon"))
    for name, seed in (("own", 0), ("other", 1)):
        convert([path / "lab"], path / name, rules=ReadingRules(), split=SPLIT, seed=seed)
    train(tiny_config(open_dataset(path / "own"), epochs=1, batch_size=8), path / "run")
    return path


def test_audits_forgeries_and_the_unknown_ask_what_was_trained_on(lab, tmp_path, capsys):
    run, other = shutil.copytree(lab / "run", tmp_path / "run"), lab / "other"
    reason = "test sessions are images that run run was trained on"
    assert main(["evaluate", str(run), "--data", str(other), "--forge", "ttl"]) == 0
    assert reason in "".join(read_run_record(run).leaky)
    out = tmp_path / "audit"
    assert main(["audit", str(other), str(run), "--out", str(out), "--explained", "8"]) == 0
    found = json.loads((out / "audit.json").read_text())
    assert reason in found["leaky"][-1] and reason in capsys.readouterr().err
    low, high = (found["run"]["interval"][end] for end in ("low", "high"))
    assert low <= found["run"]["accuracy"] <= high
    # The same sessions under other names are no unknown ones.
    strange = shutil.copytree(other, tmp_path / "strange")
    table = pq.read_table(strange / "sessions.parquet")
    renamed = pa.array([f"other {name}" for name in table["label"].to_pylist()])
    table = table.set_column(table.schema.get_field_index("label"), "label", renamed)
    pq.write_table(table, strange / "sessions.parquet")
    found = evaluate_open_set(load_run(run), other=open_dataset(strange))
    assert any("unknown sessions are images that run run" in told for told in found["leaky"])
    write_lab(tmp_path / "mail", sessions_per_family=9, families=("dns", "mail"))
    convert([tmp_path / "mail"], tmp_path / "data", rules=ReadingRules(), split=SPLIT)
    assert main(["audit", str(tmp_path / "data"), str(run), "--out", str(tmp_path / "new")]) == 1
    assert "does not know the data's classes mail" in capsys.readouterr().err


def test_a_card_tells_of_no_other_run_what_it_rests_on(lab, tmp_path, capsys):
    own = lab / "own"
    train(tiny_config(open_dataset(own), epochs=1, batch_size=8, seed=1), tmp_path / "other")
    run = shutil.copytree(lab / "run", tmp_path / "run")
    for name in ("run", "other"):
        out = tmp_path / f"audit-{name}"
        command = ["audit", str(own), str(tmp_path / name), "--out", str(out), "--explained", "8"]
        assert main(command) == 0
    assert main(["card", str(run), "--audit", str(tmp_path / "audit-other")]) == 0
    assert "whose parameters are not those of" in capsys.readouterr().err
    assert "*Not measured* what it rests on" in (run / "model_card.md").read_text()
    assert main(["card", str(run), "--audit", str(tmp_path / "audit-run")]) == 0
    assert "What it rests on, of" in (run / "model_card.md").read_text()
