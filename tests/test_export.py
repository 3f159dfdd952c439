"""An export judges as its run does, tells nothing of where it was made, and is refused damaged."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from explained_run import write_capture
from small_dataset import make_dataset, tiny_config

from xai_traffic.cli import main
from xai_traffic.data.folder import manifest_sha256
from xai_traffic.errors import RunError
from xai_traffic.evaluation.calibrate import calibrate, write_calibration
from xai_traffic.evaluation.classify import classify
from xai_traffic.report.comments import parse_comment
from xai_traffic.report.export import export_run
from xai_traffic.training.exported import VARIABLES
from xai_traffic.training.loop import train
from xai_traffic.training.run import load_run
from xai_traffic.training.state import params_sha256


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a dataset, a run that is calibrated, and its export."""
    folder = tmp_path_factory.mktemp("export")
    dataset = make_dataset(folder / "dataset", sessions=150)
    train(tiny_config(dataset, epochs=1), folder / "run")
    run = load_run(folder / "run", calibrated=False)
    write_calibration(run.path, calibrate(run, unknown="nearest_neighbour"))
    row = dict.fromkeys(("balanced_accuracy", "skill", "spread", "presence"), 0.5)
    row |= {"field": "ip.ttl", "verdict": "artefact", "reason": "hops", "mask": "ttl"}
    told = dict.fromkeys(("task", "mask", "split", "chance", "run"))
    audit = {
        **told,
        "manifest_sha256": manifest_sha256(dataset.manifest),
        "chance": 0.3,
        "captures": {"per_class": {}},
        "fields": [{**row, "in_image": True, "examples": ["10.0.0.1"]}],
    }
    (run.path / "audit.json").write_text(json.dumps(audit))
    (run.path / "notes.md").write_text("Said by its makers.")
    assert main(["export", str(run.path), "--out", str(folder / "out")]) == 0
    return folder


def test_it_judges_as_the_run_does(made, tmp_path):
    run, copy = load_run(made / "run"), load_run(made / "out")
    assert copy.step == run.step and params_sha256(copy.variables) == params_sha256(run.variables)
    capture = str(write_capture(tmp_path / "a.pcap"))
    assert list(classify(copy, capture)) == list(classify(run, capture))
    assert copy.calibration.features.keys() == run.calibration.features.keys() != set()
    # An export of it has the same bytes.
    export_run(made / "out", tmp_path / "again")
    for name in (VARIABLES, "config.json", "calibration.json", "dataset.json"):
        assert (tmp_path / "again" / name).read_bytes() == (made / "out" / name).read_bytes()


def test_what_classify_calls_unknown_is_explained_as_such(made, tmp_path):
    copy = shutil.copytree(made / "out", tmp_path / "copy")
    record = json.loads((copy / "calibration.json").read_text())
    said = list(classify(load_run(copy), str(write_capture(tmp_path / "a.pcap")), unknown=True))
    scores = sorted(verdict["unknown_score"] for verdict in said)
    record["unknown"] |= {"on": True, "threshold": (scores[0] + scores[-1]) / 2}
    (copy / "calibration.json").write_text(json.dumps(record))
    command = ["explain", str(copy), str(tmp_path / "a.pcap"), "--out", str(tmp_path / "why")]
    assert main([*command, "--methods", "gradient_x_input"]) == 0
    wanted = {verdict["session"]: verdict for verdict in classify(load_run(copy), command[2])}
    lines = (tmp_path / "why" / "explanations.jsonl").read_text().splitlines()
    kinds = set()
    for line in map(json.loads, lines):
        own = wanted[line["session"]]
        for key in ("label", "nearest_label", "unknown_score", "prediction_set"):
            assert line[key] == own[key]
        assert line["target"] == own["nearest_label"]
        kinds.add(line["label"])
    assert "unknown" in kinds and len(kinds) > 1
    table = pq.read_table(tmp_path / "why" / "explanations.parquet")
    assert "unknown" not in table["target"].to_pylist() and "unknown" in table["label"].to_pylist()
    page = (tmp_path / "why" / "report.html").read_text()
    assert "unknown, nearest " in page and "unknown\u00a0" in page
    frames = Path(tmp_path / "why" / "annotated.pcapng").read_bytes()
    assert b'verdict "unknown", nearest "' in frames
    told = parse_comment(frames[frames.index(b"xai-traffic: verdict") :].decode("latin-1"))
    assert told["label"] in kinds


def test_any_folder_of_that_name_is_not_its_dataset(made, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dataset").mkdir()  # of captures, say
    assert main(["evaluate", str(made / "out")]) == 1
    assert "is not here: put it there, or name another one with --data" in capsys.readouterr().err


def test_it_is_small_and_tells_nothing_of_where_it_was_made(made):
    out = made / "out"
    names = {entry.name for entry in out.iterdir()}
    assert names >= {VARIABLES, "model_card.md", "dataset.json", "calibration.npz", "notes.md"}
    assert not names & {"checkpoints", "metrics.csv", "events"}
    parameters = load_run(out).parameter_count
    assert (out / VARIABLES).stat().st_size < 4 * parameters + 600 * 60  # no optimiser's state
    for path in out.glob("*.json"):
        assert str(made) not in path.read_text(), path
    card = (out / "model_card.md").read_text()
    assert str(made) not in card and "Said by its makers." in card
    assert "*Not looked for:*" not in card and f"`{VARIABLES}`" in card
    assert "examples" not in json.loads((out / "audit.json").read_text())["fields"][0]


def test_damage_and_other_models_are_refused(made, tmp_path):
    out = shutil.copytree(made / "out", tmp_path / "out")
    with np.load(out / VARIABLES) as held:
        arrays = dict(held)
    first = next(iter(arrays))
    np.savez(out / VARIABLES, **{**arrays, first: arrays[first] + 1e-6})
    with pytest.raises(RunError, match="other numbers than were exported"):
        load_run(out)
    np.savez(out / VARIABLES, **{**arrays, first: arrays[first][..., None]})
    with pytest.raises(RunError, match="of another model"):
        load_run(out)
    (out / VARIABLES).write_bytes(b"PK\3\4 no more")
    with pytest.raises(RunError, match="cannot be read"):
        load_run(out)


def test_what_stands_there_is_not_overwritten(made, tmp_path):
    out = shutil.copytree(made / "out", tmp_path / "out")
    with pytest.raises(RunError, match="exists: choose another"):
        export_run(made / "run", out)
    export_run(made / "run", out, overwrite=True)
    (out / "mine.txt").write_text("kept")
    with pytest.raises(RunError, match="something other than an export"):
        export_run(made / "run", out, overwrite=True)
    assert (out / "mine.txt").exists()
