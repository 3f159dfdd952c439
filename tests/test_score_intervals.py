"""Intervals over units: against scikit-learn, SciPy and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from xai_traffic.evaluation import score_intervals
from xai_traffic.evaluation.base_rates import base_rates
from xai_traffic.evaluation.bootstrap import RESAMPLES
from xai_traffic.evaluation.score_intervals import (
    Draws,
    accuracy_of,
    f1_of,
    matthews_of,
    mean_over_classes,
)
from xai_traffic.evaluation.scores import matthews_correlation, score


def sample(seed=0, sessions=300, classes=4, units=40):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, sessions)
    probabilities = rng.random((sessions, classes)).round(1) + np.eye(classes)[labels] / 2
    probabilities /= probabilities.sum(1, keepdims=True)
    return labels, probabilities, rng.integers(0, units, sessions)


def test_values_are_those_of_all_sessions():
    labels, probabilities, units = sample()
    names = ["a", "b", "c", "d"]
    whole = score(labels, probabilities, names)
    draws = Draws(labels, units, 4)
    found = draws.all_scores(probabilities.argmax(1), probabilities)
    recalls = draws.recalls(probabilities.argmax(1))
    assert recalls == [own["recall"] for own in found["per_class"]]
    for name in ("accuracy", "macro_f1", "mcc", "roc_auc", "pr_auc"):
        assert found[name]["value"] == pytest.approx(whole[name])
        assert found[name]["low"] < found[name]["value"] < found[name]["high"]
    for name, own in zip(names, found["per_class"], strict=True):
        for part in ("precision", "recall", "f1"):
            assert own[part]["value"] == pytest.approx(whole["per_class"][name][part])


def test_draws_are_scored_as_the_sessions_that_they_repeat():
    labels, probabilities, units = sample(sessions=60, units=9)
    predictions = probabilities.argmax(1)
    draws = Draws(labels, units, 4, seed=3)
    matrices, areas = draws.matrices(predictions), draws._areas(probabilities)
    found = {"accuracy": accuracy_of(matrices), "macro_f1": mean_over_classes(f1_of(matrices))}
    drawn = np.concatenate([part for _, part in draws._draws()])
    for number in (1, 2, 57):
        rows = np.repeat(np.arange(60), drawn[number - 1][units])
        whole = score(labels[rows], probabilities[rows], ["a", "b", "c", "d"])
        for name in ("accuracy", "macro_f1"):
            assert found[name][number] == pytest.approx(whole[name])
        for name in ("roc_auc", "pr_auc"):
            mean = mean_over_classes(areas[name])[number]
            assert mean == pytest.approx(whole[name])


@given(st.integers(0, 10**6))
@settings(max_examples=40)
def test_scores_of_matrices(seed):
    rng = np.random.default_rng(seed)
    labels, said = rng.integers(0, 3, (2, 20))
    matrix = metrics.confusion_matrix(labels, said, labels=range(3))[None].astype(float)
    assert matthews_of(matrix)[0] == pytest.approx(matthews_correlation(labels, said, 3))
    macro = metrics.f1_score(labels, said, average="macro")
    assert mean_over_classes(f1_of(matrix))[0] == pytest.approx(macro)


def test_alike_sessions_of_one_unit_widen_the_interval():
    rng = np.random.default_rng(1)
    right = np.repeat(rng.random(30) < 0.7, 20)  # hosts of twenty sessions, all right or all wrong
    labels = np.zeros(600, int)
    alone = Draws(labels, np.arange(600), 2).interval(1 - right.astype(int))["accuracy"]
    hosts = Draws(labels, np.repeat(np.arange(30), 20), 2).interval(1 - right.astype(int))
    width = {k: v["high"] - v["low"] for k, v in (("s", alone), ("h", hosts["accuracy"]))}
    assert width["h"] > 3.5 * width["s"]
    # About the normal interval of thirty draws.
    share = right.mean()
    assert width["h"] == pytest.approx(2 * 1.96 * np.sqrt(share * (1 - share) / 30), rel=0.15)


def test_a_pair_is_compared_on_the_same_draws():
    labels, probabilities, units = sample(sessions=500, units=500)
    said = probabilities.argmax(1)
    better = said.copy()
    wrong = np.flatnonzero(said != labels)
    better[wrong[:10]] = labels[wrong[:10]]
    draws = Draws(labels, units, 4)
    found = draws.difference(better, said)["accuracy"]
    assert found["value"] == pytest.approx(0.02) and 0 < found["low"] < found["high"] < 0.04
    apart = draws.interval(better)["accuracy"]
    assert found["high"] - found["low"] < 0.5 * (apart["high"] - apart["low"])
    assert draws.difference(said, said)["macro_f1"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_no_error_proves_little():
    labels = np.arange(50) % 2
    found = Draws(labels, np.arange(50), 2).all_scores(labels, np.eye(2)[labels])
    for name, count in (("accuracy", 50), ("mcc", 25), ("roc_auc", 25)):
        wilson = stats.binomtest(count, count).proportion_ci(method="wilson")
        assert found[name]["high"] == 1
        assert found[name]["low"] == pytest.approx(wilson.low, abs=1e-6)
    # As of one class of 50: both are seen as often.
    exact = stats.binomtest(50, 50).proportion_ci(method="exact")
    assert found["macro_f1"]["low"] == pytest.approx(exact.low)
    assert found["per_class"][0]["recall"]["low"] < found["accuracy"]["low"]


def test_a_mean_over_classes_is_no_surer_than_its_rarest_class():
    labels = np.repeat([0, 1], [999, 5])
    draws = Draws(labels, np.arange(1004), 2)
    right = draws.interval(labels)
    assert right["accuracy"]["low"] > 0.99
    rare = stats.binomtest(5, 5).proportion_ci(method="exact").low
    for found in (right["macro_f1"], draws.balanced_accuracy(labels)):
        assert found["low"] == pytest.approx((1 + rare) / 2, abs=0.01) and found["high"] == 1
    # Of a class of three nobody knows: its half of the mean may be anything.
    labels = np.repeat([0, 1], [999, 3])
    for rest, ends in ((1, (0.5, 1)), (0, (0.5, 1))):
        said = np.repeat([0, rest], [999, 3])
        found = Draws(labels, np.arange(1002), 2).interval(said)["macro_f1"]
        assert (found["low"], found["high"]) == pytest.approx(ends, abs=0.01)
    apart = Draws(labels, np.arange(1002), 2).difference(labels, said)["macro_f1"]
    assert apart["low"] < -0.4 and apart["high"] < 0.51
    same = Draws(labels, np.arange(1002), 2).difference(labels, labels)["macro_f1"]
    assert same == {"value": 0, "low": 0, "high": 0}


@pytest.mark.parametrize(("units", "least"), [(4, 0.85), (6, 0.88), (20, 0.9)])
def test_few_units_cover_nearly_what_they_promise(units, least):
    rng, covered = np.random.default_rng(3), 0
    for number in range(150):
        right = np.repeat(rng.beta(4, 1, units), 50) > rng.random(50 * units)
        draws = Draws(np.zeros(50 * units, int), np.repeat(np.arange(units), 50), 2, number)
        found = draws.interval(1 - right.astype(int))["accuracy"]
        covered += found["low"] <= 0.8 <= found["high"]
    assert covered >= least * 150


def test_rare_classes_do_not_make_a_mean_surer():
    rng, covered = np.random.default_rng(4), 0
    labels = np.r_[np.repeat(np.arange(8), 60), 8, 9]
    for number in range(100):
        right = rng.random(len(labels)) < np.where(labels < 8, 0.9, 0.5)
        said = np.where(right, labels, 10)  # wrong ones as a class that is there for nobody
        found = Draws(labels, np.arange(len(labels)), 11, number).balanced_accuracy(said)
        covered += found["low"] <= (8 * 0.9 + 2 * 0.5) / 10 <= found["high"]
    assert covered >= 93


def test_a_class_that_nobody_has_has_no_score():
    labels = np.array([0, 0, 1, 1])
    found = Draws(labels, np.arange(4), 3).all_scores(labels, np.eye(3)[labels])
    assert found["per_class"][2]["recall"] == {"value": None, "low": None, "high": None}


def test_one_unit_shows_nothing():
    labels = np.arange(100) % 2
    said = np.where(np.arange(100) < 90, labels, 1 - labels)
    draws = Draws(labels, np.zeros(100, int), 2)
    found = draws.all_scores(said, np.eye(2)[said])
    assert found["accuracy"] == {"value": 0.9, "low": 0, "high": 1}
    assert (found["mcc"]["low"], found["mcc"]["high"]) == (-1, 1)
    assert found["per_class"][0]["recall"]["low"] == 0
    assert draws.difference(said, labels)["accuracy"]["low"] == -1


def test_a_class_of_one_host_that_is_all_right_proves_less_than_its_sessions():
    labels = np.repeat([0, 1], [50, 50])
    units = np.r_[np.zeros(50, int), np.arange(1, 51)]
    own = Draws(labels, units, 2).all_scores(labels, np.eye(2)[labels])["per_class"]
    assert own[0]["recall"]["low"] == own[0]["f1"]["low"] < 0.25
    assert own[1]["recall"]["low"] > 0.9
    said = labels.copy()
    said[:40] = 1  # of the one host a fifth is right, which says nothing of another one
    own = Draws(labels, units, 2).all_scores(said, np.eye(2)[said])["per_class"]
    assert own[0]["recall"] == {"value": 0.2, "low": 0.0, "high": 1.0}
    assert 0 < own[1]["precision"]["low"] < own[1]["precision"]["high"] <= 1


def test_areas_of_one_are_widened_beside_errors():
    labels = np.repeat([0, 1], 20)
    probabilities = np.eye(2)[labels] * 0.1 + np.array([0.3, 0.6])  # all called class 1
    found = Draws(labels, np.arange(40), 2).all_scores(probabilities.argmax(1), probabilities)
    assert found["accuracy"]["value"] == 0.5
    assert found["roc_auc"]["value"] == 1 and 0.8 < found["roc_auc"]["low"] < 0.85


@pytest.mark.parametrize("classes, least", [(2, 0.99), (20, 0.04)])
def test_a_class_of_one_capture_does_not_settle_how_it_ranks(classes, least):
    rng = np.random.default_rng(0)
    labels = np.r_[np.arange(400) % (classes - 1), np.full(50, classes - 1)]
    units = np.r_[np.arange(400), np.full(50, 400)]  # all of the last class are one capture
    probabilities = rng.random((450, classes)) + np.eye(classes)[labels] * 0.6
    probabilities /= probabilities.sum(1, keepdims=True)
    apart = np.arange(450)
    wide, narrow = (
        Draws(labels, own, classes).all_scores(probabilities.argmax(1), probabilities)
        for own in (units, apart)
    )
    for name in ("roc_auc", "pr_auc", "mcc"):
        assert wide[name]["value"] == narrow[name]["value"]
        assert wide[name]["low"] <= narrow[name]["low"] and wide[name]["high"] <= 1
        assert wide[name]["high"] - wide[name]["low"] > least, name


def test_the_base_rate_decides_the_precision():
    malware = np.repeat([True, False], [100, 1000])
    alerts = np.concatenate([np.arange(100) < 90, np.arange(1000) < 10])
    found = base_rates(
        alerts, malware, np.arange(1100), prevalences=(1e-2, 1e-4), sessions_a_day=10**6
    )
    assert found["detection_rate"]["value"] == 0.9 and found["false_alarm_rate"]["value"] == 0.01
    often, rare = found["at"]
    assert often["precision"]["value"] == pytest.approx(0.009 / (0.009 + 0.0099))
    assert rare["alerts_a_day"]["value"] == pytest.approx(90 + 9999)
    assert rare["false_alerts_a_day"]["value"] == pytest.approx(9999)
    for row in found["at"]:
        for name in ("precision", "alerts_a_day", "false_alerts_a_day"):
            assert row[name]["low"] < row[name]["value"] < row[name]["high"]


def test_no_false_alarm_is_no_proof():
    malware = np.repeat([True, False], 100)
    found = base_rates(malware, malware, np.arange(200))
    assert found["false_alarm_rate"]["high"] == pytest.approx(1 - 0.025 ** (1 / 100))
    assert found["at"][-1]["precision"]["value"] == 1 and found["at"][-1]["precision"]["low"] < 0.01
    nothing = base_rates(np.zeros(3, bool), np.zeros(3, bool), np.arange(3))
    assert nothing["detection_rate"] is None and nothing["at"] == []


def test_rates_of_hosts_cover_what_they_promise():
    rng = np.random.default_rng(0)
    units, covered = np.repeat(np.arange(20), 100), 0
    for _ in range(200):
        alerts = np.repeat(rng.random(20) < 0.2, 100)  # a host alarms wholly or not at all
        found = base_rates(alerts, np.zeros(2000, bool), units)["false_alarm_rate"]
        covered += found["low"] <= 0.2 <= found["high"]
        assert (found["of"], found["units"]) == (2000, 20)
    assert covered >= 190
    quiet = base_rates(np.zeros(2000, bool), np.zeros(2000, bool), units)["false_alarm_rate"]
    assert quiet["high"] == pytest.approx(1 - 0.025 ** (1 / 20))
    # Sessions of a host that differ as sessions of any two are worth nearly as many.
    alike = base_rates(rng.random(2000) < 0.2, np.zeros(2000, bool), units)["false_alarm_rate"]
    assert 0.03 < alike["high"] - alike["low"] < 0.06


def test_as_many_draws_as_are_said():
    labels, probabilities, units = sample(sessions=30, units=5)
    assert len(Draws(labels, units, 4).matrices(probabilities.argmax(1))) == 1 + RESAMPLES


def test_draws_are_the_same_held_or_drawn_again(monkeypatch):
    labels, probabilities, units = sample(sessions=200, units=60)
    said = probabilities.argmax(1)
    held = Draws(labels, units, 4, seed=5).all_scores(said, probabilities)
    monkeypatch.setattr(score_intervals, "_HELD", 0)
    monkeypatch.setattr(score_intervals, "_AT_ONCE", 1000)
    assert Draws(labels, units, 4, seed=5).all_scores(said, probabilities) == held
