"""A run is calibrated, judges by it, refuses a calibration of another, and knows the unknown."""

import dataclasses
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from explained_run import write_capture
from matplotlib.figure import Figure
from small_dataset import CLASSES, make_dataset, tiny_config

from xai_traffic.cli import main
from xai_traffic.data.store import Dataset, open_dataset
from xai_traffic.errors import RunError
from xai_traffic.evaluation.answers import answers, asks_unknown, needs_features
from xai_traffic.evaluation.calibrate import calibrate, of_learnt_labels, write_calibration
from xai_traffic.evaluation.classify import classify
from xai_traffic.evaluation.evaluate import judge_split, own_dataset
from xai_traffic.evaluation.unknown_scores import SCORES
from xai_traffic.training.loop import train
from xai_traffic.training.run import load_run
from xai_traffic.training.state import params_sha256

LEFT_OUT = "Virut"


def leave_out(dataset, name):
    """Return the dataset with a class in the test alone, and 5-tuples that differ."""
    table = dataset.table
    label = np.array(table["label"].to_pylist())
    split = np.where(label == name, "test", np.array(table["split"].to_pylist()))
    for column, values in (
        ("split", pa.array(split.tolist())),
        ("source_port", pa.array(np.arange(len(table)), pa.int32())),
    ):
        table = table.set_column(table.schema.get_field_index(column), column, values)
    pq.write_table(table, dataset.path / "sessions.parquet")
    return open_dataset(dataset.path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that has learnt two of three classes."""
    folder = tmp_path_factory.mktemp("calibrate")
    dataset = leave_out(make_dataset(folder / "dataset", sessions=240), LEFT_OUT)
    train(tiny_config(dataset, epochs=2, batch_size=16), folder / "run")
    return folder / "run"


@pytest.fixture
def run(trained, tmp_path):
    """The run in a folder of its own, not calibrated."""
    return load_run(shutil.copytree(trained, tmp_path / "run"))


def test_the_command_writes_what_the_run_then_judges_by(run, tmp_path, capsys):
    assert run.calibration is None
    assert main(["calibrate", str(run.path), "--unknown", "max_logit", "--json"]) == 0
    output = capsys.readouterr()
    record = json.loads(output.out)
    assert record == json.loads((run.path / "calibration.json").read_text())
    assert "without a promise, for no validation session: Virut" in output.err
    assert record["params_sha256"] == params_sha256(run.variables)
    assert record["learnt"] == CLASSES[:2] and record["sets"]["without_promise"] == [LEFT_OUT]
    assert record["unknown"]["on"] and record["unknown"]["rule"].startswith("unknown where")

    after = load_run(run.path)
    images = np.random.default_rng(0).integers(0, 256, (30, 128, 128), np.uint8)
    logits = run.logits(images)
    scaled = np.exp(logits.astype(np.float64) / record["temperature"])
    np.testing.assert_allclose(after.predict(images), scaled / scaled.sum(-1, keepdims=True), 1e-5)
    np.testing.assert_array_equal(after.predict(images).argmax(-1), logits.argmax(-1))

    capture = str(write_capture(tmp_path / "a.pcap"))
    plain = list(classify(run, capture))
    said = list(classify(after, capture))
    calm = list(classify(after, capture, unknown=False))
    highest = run.logits(run.read(capture).images())[:, :2].max(-1)
    by_session = {verdict["session"]: verdict for verdict in plain}
    for verdict, quiet in zip(said, calm, strict=True):
        before = by_session[verdict["session"]]
        unknown = highest[verdict["session"]] < record["unknown"]["threshold"]
        assert verdict["label"] == ("unknown" if unknown else before["label"])
        assert verdict["nearest_label"] == before["label"] == quiet["label"]
        assert verdict["unknown_score"] == pytest.approx(highest[verdict["session"]], abs=1e-4)
        assert verdict["unknown_rule"] == record["unknown"]["rule"]
        assert verdict["nearest_label"] in verdict["prediction_set"] == quiet["prediction_set"]
        assert "nearest_label" not in quiet and set(before) <= set(quiet) <= set(verdict)
        json.dumps(verdict, allow_nan=False)


@pytest.mark.parametrize("score", SCORES)
def test_the_rule_rejects_as_many_validation_sessions_as_it_says(run, score):
    """Judged again one by one through the files, and with features where the score has them."""
    write_calibration(run.path, calibrate(run, unknown=score, accept=80))
    after = load_run(run.path)
    assert (run.path / "calibration.npz").exists() == (score in SCORES[3:])
    dataset = open_dataset(run.config.data.path)
    rows = dataset.rows("validation")
    features = needs_features(after, True)
    _, logits, found = judge_split(after, "validation", dataset, features=features)
    labels = [said["label"] for said in answers(after, logits, found, True)]
    # The rule's threshold is one of these scores: below it are floor((n + 1) / 5) - 1.
    assert labels.count("unknown") == (len(rows) + 1) // 5 - 1 > 0


def test_a_calibration_of_something_else_is_refused(run):
    made = calibrate(run)
    path = write_calibration(run.path, made)
    assert not made.record["unknown"]["on"]
    for key, what in (("params_sha256", "parameters"), ("manifest_sha256", "dataset")):
        path.write_text(json.dumps({**made.record, key: "0" * 64}))
        with pytest.raises(RunError, match=f"another {what} .* `xai-traffic calibrate"):
            load_run(run.path)
        assert load_run(run.path, calibrated=False).calibration is None
    rules = {key: made.record[key] for key in ("sets", "unknown")}
    for damage in (
        "{",
        "[]",
        json.dumps({**made.record, "temperature": 0}),
        '{"schema": 9}',
        json.dumps({**made.record, "sets": {"coverage": 0.9}}),
        json.dumps({**made.record, "sets": {**rules["sets"], "thresholds": {"Chat": "0.5"}}}),
        json.dumps({**made.record, "unknown": {**rules["unknown"], "threshold": "NaN"}}),
        json.dumps({**made.record, "unknown": {**rules["unknown"], "on": "yes"}}),
    ):
        path.write_text(damage)
        with pytest.raises(RunError, match="calibration.json cannot be read"):
            load_run(run.path)
    path.write_text(json.dumps({**made.record, "unknown": {**rules["unknown"], "score": "magic"}}))
    with pytest.raises(RunError, match="unknown score 'magic'"):
        asks_unknown(load_run(run.path), None)
    assert main(["calibrate", str(run.path)]) == 0  # mends it
    assert load_run(run.path).calibration.temperature == made.temperature
    # A rule on features whose file is gone is not applied without them.
    write_calibration(run.path, calibrate(run, unknown="mahalanobis"))
    np.savez(run.path / "calibration.npz", neighbours=np.zeros((2, 2)))
    with pytest.raises(RunError, match="of another calibration"):
        load_run(run.path)
    (run.path / "calibration.npz").unlink()
    with pytest.raises(RunError, match=r"calibration.npz"):
        load_run(run.path)


def test_what_cannot_be_calibrated_says_why(run, monkeypatch, capsys, tmp_path):
    with pytest.raises(RunError, match="'magic': choose one of softmax"):
        calibrate(run, unknown="magic")
    with pytest.raises(RunError, match="accept is 100 per cent"):
        calibrate(run, accept=100)
    with pytest.raises(RunError, match="coverage is nan"):
        calibrate(run, coverage=float("nan"))
    capture = str(write_capture(tmp_path / "a.pcap"))
    assert main(["classify", str(run.path), capture, "--unknown"]) == 1
    assert "no calibration" in capsys.readouterr().err
    dataset = open_dataset(run.config.data.path)
    monkeypatch.setattr(
        type(dataset), "rows", lambda self, split: np.zeros(0, np.int64), raising=True
    )
    with pytest.raises(RunError, match="no validation sessions .* --split random:70/10/20"):
        calibrate(run)


def test_classes_that_training_lacks_set_no_threshold(run):
    """A split by time or by families may put them into validation; they are no known sessions."""
    dataset = open_dataset(run.config.data.path)
    table = dataset.table
    label = np.array(table["label"].to_pylist())
    split = np.array(table["split"].to_pylist())
    strange = np.flatnonzero(label == LEFT_OUT)[:30]
    split[strange] = "validation"
    place = table.schema.get_field_index("split")
    other = dataclasses.replace(dataset)
    object.__setattr__(other, "table", table.set_column(place, "split", pa.array(split.tolist())))
    rows = of_learnt_labels(other, other.rows("validation"))
    assert len(rows) == len(other.rows("validation")) - 30
    np.testing.assert_array_equal(rows, dataset.rows("validation"))


def test_another_networks_sessions_calibrate_as_well(run, tmp_path, capsys):
    """As of an exported run, whose dataset stayed behind, on the network that asks it."""
    write_calibration(run.path, calibrate(run))
    learnt = CLASSES[:2]
    other = make_dataset(tmp_path / "other", sessions=60, classes=learnt, seed=4)
    assert main(["calibrate", str(run.path), "--data", str(other.path), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    rows = other.rows("validation")
    assert record["sessions"] == len(rows) > 0 and not record["own_dataset"]
    assert record["dataset"] == str(other.path) and record["learnt"] == learnt
    _, logits, _ = judge_split(run, "validation", other)
    found = load_run(run.path).calibration
    labels = other.labels[rows]
    held = found.probabilities(logits)[np.arange(len(rows)), labels]
    for label, name in enumerate(learnt):  # what is promised holds on what it was promised by
        assert (held[labels == label] >= record["sets"]["thresholds"][name]).mean() >= 0.9
    card = (run.path / "model_card.md").read_text()
    assert f"of another dataset, `{other.path}`, and hold for sessions like those" in card
    strange = make_dataset(tmp_path / "strange", sessions=40, classes=[LEFT_OUT], seed=4)
    for data, options, told in (
        (other, ["--unknown", "mahalanobis"], "choose one of softmax, max_logit, energy"),
        (strange, [], "no validation sessions of a class that the run has learnt"),
    ):
        assert main(["calibrate", str(run.path), "--data", str(data.path), *options]) == 1
        assert told in capsys.readouterr().err
    assert json.loads((run.path / "calibration.json").read_text()) == record


def test_a_dataset_that_was_moved_is_the_runs_own(run, tmp_path):
    moved = open_dataset(shutil.copytree(own_dataset(run).path, tmp_path / "moved"))
    found = calibrate(run, moved, unknown="mahalanobis")
    assert found.record["own_dataset"] and found.record["unknown"]["on"]
    assert found.temperature == calibrate(run, unknown="mahalanobis").temperature


def test_open_set_knows_the_class_that_was_left_out(run, capsys):
    assert main(["evaluate", str(run.path), "--open-set", "--json"]) == 0
    output = capsys.readouterr()
    result = json.loads(output.out)
    assert result == json.loads((run.path / "open-set-test.json").read_text())
    assert result["unknown"]["classes"] == {LEFT_OUT: 80}
    assert set(result["known"]["classes"]) == set(CLASSES[:2]) and result["accuracy"]["mean"] == 1
    plots = {path.name for path in (run.path / "open-set-test").iterdir()}
    assert plots == {"curves.png", "per_class.png"}
    for name in SCORES:
        own = result["scores"][name]
        for metric in ("auroc", "fpr_at_95", "oscr"):
            value = own[metric]
            assert 0 <= value["low"] <= value["mean"] <= value["high"] <= 1
        assert own["oscr"]["mean"] <= own["auroc"]["mean"] + 1e-9
        assert own["auroc_per_class"][LEFT_OUT]["mean"] == pytest.approx(own["auroc"]["mean"])
        assert own["roc"][0] == [0, 0] and own["roc"][-1] == [1, 1]
        assert name in output.err


def test_open_set_measures_the_rule_that_the_run_has(run, capsys):
    assert main(["calibrate", str(run.path), "--unknown", "energy", "--accept", "60"]) == 0
    assert main(["evaluate", str(run.path), "--open-set", "--json"]) == 0
    capsys.readouterr()
    rule = load_run(run.path).calibration.record["unknown"]
    found = json.loads((run.path / "open-set-test.json").read_text())
    assert found["accept"] == 0.6
    assert found["scores"]["energy"]["rule"]["threshold"] == pytest.approx(rule["threshold"])
    card = (run.path / "model_card.md").read_text()
    passes = f"{100 * found['scores']['energy']['rule']['unknown']['mean']:.2f} %"
    assert f"it let {passes}" in card and "another calibration" not in card
    assert main(["calibrate", str(run.path), "--unknown", "energy", "--accept", "90"]) == 0
    card = (run.path / "model_card.md").read_text()
    assert "made under another calibration" in card and "is not measured here" in card


def test_leaky_is_said_of_a_calibration_and_of_an_open_set(run, monkeypatch, capsys):
    monkeypatch.setattr(Dataset, "leaky", lambda self, task: ["2 clients are shared"])
    drawn = []
    monkeypatch.setattr(Figure, "suptitle", lambda self, text, **_: drawn.append(text))
    for command in (["calibrate"], ["evaluate"], ["evaluate", "--open-set"]):
        drawn.clear()
        assert main([command[0], str(run.path), *command[1:], "--json"]) == 0
        output = capsys.readouterr()
        assert json.loads(output.out)["leaky"] == ["2 clients are shared"]
        titles = [line for line in output.err.splitlines() if line.startswith(("test:", "valid"))]
        assert titles and all("LEAKY" in title for title in titles)
        assert "LEAKY: 2 clients are shared" in output.err
        assert len(drawn) == {"calibrate": 0, "evaluate": 5}[command[0]] - 3 * (len(command) > 1)
        assert all(title.startswith("LEAKY") for title in drawn)


def test_open_set_takes_another_datasets_classes(run, tmp_path, capsys):
    other = make_dataset(tmp_path / "other", sessions=40, classes=["Chat", "Z"], seed=4)
    assert main(["evaluate", str(run.path), "--open-set", str(other.path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    # Chat is known, and so is no session of it unknown; Z's are, whatever their split.
    assert result["unknown"] == {"sessions": 20, "classes": {"Z": 20}}
    known = make_dataset(tmp_path / "known", sessions=40, classes=CLASSES[:2], seed=4)
    assert main(["evaluate", str(run.path), "--open-set", str(known.path)]) == 1
    assert "no sessions of a class that the run has not learnt" in capsys.readouterr().err
    assert main(["evaluate", str(run.path), "--open-set", "--data", str(known.path)]) == 2


def test_evaluate_tells_before_and_after(run):
    write_calibration(run.path, calibrate(run))
    assert main(["evaluate", str(run.path)]) == 0
    found = json.loads((run.path / "evaluation-test.json").read_text())
    confidence = found["confidence"]
    after = confidence["after"]["expected_calibration_error"]["mean"]
    assert found["expected_calibration_error"] == pytest.approx(after, abs=1e-6)
    assert confidence["temperature"] == load_run(run.path).calibration.temperature
    assert set(confidence["sets"]["per_class"]) == set(CLASSES)
    assert confidence["units"] == confidence["sessions"] == found["sessions"]
    for name, own in confidence["sets"]["per_class"].items():
        assert own["sessions"] == found["per_class"][name]["support"]
        assert own["coverage"]["low"] <= own["coverage"]["mean"] <= own["coverage"]["high"]
    # The class that was never learnt is never in a set, and nothing is promised to it.
    assert confidence["sets"]["per_class"][LEFT_OUT]["coverage"]["mean"] == 0
    assert (run.path / "evaluation-test" / "prediction_sets.png").exists()
