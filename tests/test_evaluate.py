"""Evaluation and verdicts by a run that is only pretended: what it says is known beforehand."""

import json
import pathlib
import types

import numpy as np
import pytest
from explained_run import write_capture
from scipy.special import softmax
from small_dataset import CLASSES, make_dataset

from xai_traffic.capture.rules import ReadingRules
from xai_traffic.capture.sessions import read_capture
from xai_traffic.data.folder import manifest_sha256
from xai_traffic.errors import RunError
from xai_traffic.evaluation import classify as classifying
from xai_traffic.evaluation.classify import classify, rfc3339
from xai_traffic.evaluation.evaluate import evaluate, own_dataset, predict_split
from xai_traffic.report.evaluation import write_evaluation
from xai_traffic.report.plots import scores_per_class

HOSTILE = "$x_{$ <b>\x1b[31m"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("evaluate") / "dataset")


def pretend(dataset, classes=CLASSES, *, path=pathlib.Path("run"), task="multiclass", **rules):
    """Return a run that reads the class off the bytes that `make_dataset` planted.

    Args:
        classes: of the run, in the order of its logits; CLASSES must be among them.
    """

    def logits(images):
        planted = (images[:, 2, 0].astype(int) - 60) // 60
        place = np.array([classes.index(name) for name in CLASSES])
        return 200 * np.eye(len(classes), dtype=np.float32)[place[planted]]

    return types.SimpleNamespace(
        path=path,
        calibration=None,
        config=types.SimpleNamespace(data=types.SimpleNamespace(path=dataset.path)),
        task=task,
        rules=ReadingRules(**rules),
        classes=list(classes),
        dataset={"path": str(dataset.path), "manifest_sha256": manifest_sha256(dataset.manifest)},
        logits=logits,
        probabilities=lambda logits: softmax(logits, axis=-1),
        predict=lambda images: softmax(logits(images), axis=-1),
        parameter_count=1,
        step=7,
    )


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_classes_are_matched_by_name_not_by_place(dataset, split):
    run = pretend(dataset, ["Virut", "Other", *CLASSES[:2]])
    result = evaluate(run, split)
    rows = dataset.rows(split)
    assert result["sessions"] == len(rows) > 0
    assert result["accuracy"] == 1.0 and result["classes"] == run.classes
    names = [dataset.classes[label] for label in dataset.labels[rows]]
    assert {name: entry["support"] for name, entry in result["per_class"].items()} == {
        name: names.count(name) for name in run.classes
    }
    assert (result["split"], result["mask"], result["task"]) == (split, "none", "multiclass")
    made_by = {"train": "trained on", "validation": "chosen by"}.get(split)
    assert [made_by in reason for reason in result["flattered_by"]] == [True] * bool(made_by)
    labels, probabilities = predict_split(run, split, dataset)
    assert labels.dtype == np.int32 and set(labels) == {0, 2, 3}
    assert probabilities.shape == (len(rows), 4)


def test_the_binary_task_takes_the_binary_labels(dataset):
    run = pretend(dataset, task="binary")
    run.classes = ["Benign", "Malware"]
    run.logits = lambda images: np.tile(np.float32([0, 1]), (len(images), 1))
    result = evaluate(run, "test", dataset)
    benign = int((dataset.labels[dataset.rows("test")] == 0).sum())
    assert result["confusion_matrix"] == [[0, benign], [0, result["sessions"] - benign]]


def test_data_that_was_read_otherwise_is_refused_by_rule(dataset):
    run = pretend(dataset, mask="ports", min_packets=3)
    with pytest.raises(RunError, match="min_packets 3 but the data has 1") as refused:
        evaluate(run, "test", dataset)
    assert "mask 'ports' but the data has 'none'" in str(refused.value)
    assert "layers" not in str(refused.value)
    assert "xai-traffic convert CAPTURES --mask ports --min-packets 3 --out" in str(refused.value)


def test_classes_that_the_run_does_not_know_are_refused_by_name(dataset):
    run = pretend(dataset)
    run.classes = ["Chat", "Virut", "Zeus"]
    with pytest.raises(RunError, match="does not know the data's classes Htbot <b>: its own are"):
        evaluate(run, "test", dataset)


def test_an_empty_split_is_refused(tmp_path):
    # Of nine sessions, three a class, all are of the training split.
    small = make_dataset(tmp_path / "small", sessions=9)
    assert len(small.rows("train")) == 9
    with pytest.raises(RunError, match="no sessions in split 'test'"):
        evaluate(pretend(small), "test", small)


def test_a_run_is_not_scored_on_another_dataset_than_its_own_unasked(dataset, tmp_path):
    run = pretend(dataset)
    assert own_dataset(run).path == dataset.path
    other = make_dataset(tmp_path / "other", seed=1)
    run.config.data.path = other.path
    with pytest.raises(RunError, match="is not the dataset .* --data"):
        evaluate(run, "test")
    assert evaluate(run, "test", other)["accuracy"] == 1.0


def test_written_again_it_replaces_and_hostile_names_are_drawn(dataset, tmp_path):
    run = pretend(dataset, [*CLASSES, HOSTILE], path=tmp_path / "run")
    run.path.mkdir()
    for _ in range(2):
        result, path = write_evaluation(run)
    assert json.loads(path.read_text()) == result
    assert path == run.path / "evaluation-test.json"
    names = {"confusion_matrix.png", "per_class.png", "reliability.png", "risk_coverage.png"}
    assert {plot.name for plot in (run.path / "evaluation-test").iterdir()} == names
    scores_per_class({HOSTILE: {"f1": 1.0, "support": 3}}).canvas.draw()
    # One file of events: TensorBoard would show every point of two twice.
    assert len(list((run.path / "events" / "evaluation-test").iterdir())) == 1


def test_every_session_gets_its_verdict_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(classifying, "BATCH", 2)  # five sessions: two whole batches and a rest
    capture = write_capture(tmp_path / "a.pcap", sessions=5)
    sessions = read_capture(capture)
    run = types.SimpleNamespace(rules=ReadingRules(), classes=["b", "a"], calibration=None)
    run.read = lambda path: read_capture(path)

    def predict(images):
        share = images[:, :16, :16].mean((1, 2)) / 256
        return np.stack([share, 1 - share], axis=1).astype(np.float32)

    run.predict = predict
    said = list(classify(run, str(capture)))
    expected = predict(sessions.images())
    assert [verdict["session"] for verdict in said] == sessions.table["session"].to_pylist()
    for verdict, (b, a), row in zip(said, expected, sessions.table.to_pylist(), strict=True):
        assert verdict["probabilities"] == pytest.approx({"b": b, "a": a}, abs=1e-6)
        assert verdict["label"] == ("b" if b >= a else "a")
        assert verdict["probability"] == max(verdict["probabilities"].values())
        for name in ("source", "source_port", "destination", "packets", "bytes", "community_id"):
            assert verdict[name] == row[name]
        json.dumps(verdict, allow_nan=False)


def test_times_keep_their_nanoseconds():
    assert rfc3339(0) == "1970-01-01T00:00:00.000000000Z"
    assert rfc3339(1_700_000_000_123_456_789) == "2023-11-14T22:13:20.123456789Z"
    assert rfc3339(-1) == "1969-12-31T23:59:59.999999999Z"
