"""Scores on another dataset say where it holds what the run was trained on."""

import hashlib
import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_dataset import make_dataset, tiny_config

from xai_traffic.cli import main
from xai_traffic.data.store import open_dataset
from xai_traffic.evaluation.overlap import leaks_of
from xai_traffic.report.export import export_run
from xai_traffic.training.loop import train
from xai_traffic.training.run import load_run


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
    assert reason == "63 of its 63 test sessions are images that the run was trained on"
    assert of_both(run, "validation", other) == []
    strange = make_dataset(tmp_path / "strange", seed=4)
    assert of_both(run, "test", strange) == []
    # An export has the manifest alone, with the hashes of the captures.
    copy = load_run(folder / "copy")
    copy.dataset["manifest_sha256"] = with_captures(folder / "copy" / "dataset.json", "abc")
    for captures, shared in (("bcd", 2), ("xy", 0)):
        with_captures(other.path / "manifest.json", captures)
        found = of_both(copy, "test", open_dataset(other.path))
        told = f"{shared} of its {len(captures)} captures are among those that the run was"
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
