"""How far the explanations of a split may be believed: means, intervals, cards and controls."""

import json
import sys

import numpy as np
import pytest
from explained_run import CLASSES, make_run, write_capture

from xai_traffic import explain
from xai_traffic.capture.rules import ReadingRules
from xai_traffic.cli.evaluate import show_explanations
from xai_traffic.data.build import convert
from xai_traffic.data.store import open_dataset
from xai_traffic.errors import RunError
from xai_traffic.evaluation import explanations
from xai_traffic.evaluation.bootstrap import interval
from xai_traffic.evaluation.explanations import CONTROLS, explanation_metrics
from xai_traffic.report.evaluation import write_explanation_metrics

METHODS = ("lrp_epsilon", "attention")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    captures = folder / "captures" / "Benign"
    captures.mkdir(parents=True)
    for name in CLASSES[::2]:
        write_capture(captures / f"{name}.pcap", sessions=12)
    convert([captures], folder / "data", rules=ReadingRules(), split="random:40/0/60")
    return open_dataset(folder / "data")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def result(run, dataset):
    return explanation_metrics(run, dataset, methods=METHODS, limit=4)


def test_every_method_and_control_is_measured(result, dataset):
    assert result["sessions"] == 4 and result["of"] == len(dataset.rows("test"))
    assert list(result["methods"]) == [*METHODS, *CONTROLS]
    for method, own in result["methods"].items():
        missing = set(explain.METRICS) - own["metrics"].keys()
        expected = {"completeness"}
        expected |= set(explain.AGAIN) if method in ("shuffled", "random") else set()
        assert missing == expected, method
        for name, metric in own["metrics"].items():
            assert metric["sessions"] <= 4, name
            if metric["sessions"] == 4:
                assert metric["low"] <= metric["mean"] <= metric["high"]
            else:
                assert metric["low"] is None  # of so few nobody can tell
        cards = own["cards"]
        assert sum(cards[grade] for grade in explain.GRADES) == pytest.approx(
            1.0 if cards["sessions"] else 0.0
        )


def test_the_same_seed_gives_the_same_numbers(run, dataset, result):
    again = explanation_metrics(run, dataset, methods=METHODS, limit=4)
    assert again == result


def test_sessions_beyond_the_first_are_not_explained_again(run, dataset, monkeypatch):
    monkeypatch.setattr(explanations, "AT_ONCE", 2)
    monkeypatch.setattr(explanations, "AGAIN", 2)
    monkeypatch.setattr(explanations, "ALIKE", 4)
    found = explanation_metrics(
        run,
        dataset,
        "train",
        methods=("gradient",),
        limit=6,
        names=("gain", "stability", "input_dependence"),
    )
    own = found["methods"]["gradient"]["metrics"]
    assert own["gain"]["sessions"] == 6 and own["stability"]["sessions"] == 2
    assert own["input_dependence"]["sessions"] <= 4


def test_the_interval_is_that_of_the_mean():
    values = np.append(np.random.default_rng(0).normal(3, 2, 400), np.nan)
    found = interval(values)
    assert found["sessions"] == 400 and found["mean"] == pytest.approx(np.nanmean(values))
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * 2 / 20, rel=0.15)
    assert interval(np.array([np.nan]))["mean"] is None


def test_tables_go_where_they_are_wanted(result, capsys, caplog):
    show_explanations({**result, "leaky": ["shared <b>"]}, sys.stderr)
    told = capsys.readouterr()
    assert not told.out and told.err.count("LEAKY") >= 2 and "LEAKY: shared <b>" in caplog.text


def test_data_that_cannot_be_explained_is_refused(run, dataset):
    with pytest.raises(RunError, match="no sessions in split"):
        explanation_metrics(run, dataset, "validation")
    with pytest.raises(RunError, match="unknown"):
        explanation_metrics(run, dataset, methods=("magic",), limit=1)
    with pytest.raises(RunError, match="limit is 0"):
        explanation_metrics(run, dataset, limit=0)


def test_the_file_holds_what_was_measured(run, dataset):
    result, path = write_explanation_metrics(run, data=dataset.path, methods=("gradient",), limit=2)
    assert path.name == "explanations-test.json"
    assert json.loads(path.read_text()) == result
