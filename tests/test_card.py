"""Cards: a grade a metric, the worst one that decides, and one sentence."""

import math

import pytest

from xai_traffic import explain

GOOD = {
    "faithfulness": 1 / 80,
    "input_dependence": 0.1,
    "randomisation": -0.2,
    "stability": 0.3,
    "completeness": 1e-3,
    "padding": 0.0,
}


def test_a_card_passes_where_every_metric_does():
    found = explain.card(GOOD)
    assert found.grade == "PASS" and [check.grade for check in found.checks] == ["PASS"] * 6
    assert found.conclusion.startswith("PASS: the bytes that it ranks first hold the verdict")
    assert found.conclusion.count(".") == 1


@pytest.mark.parametrize(
    ("metric", "value", "grade"),
    [
        ("faithfulness", 2 / 80, "WARN"),
        ("faithfulness", 1.0, "FAIL"),
        ("input_dependence", 0.987, "FAIL"),
        ("randomisation", 0.7, "WARN"),
        ("stability", 1.5, "FAIL"),
        ("completeness", 0.1, "WARN"),
        ("padding", 0.9, "FAIL"),
    ],
)
def test_the_worst_metric_decides_and_says_why(metric, value, grade):
    found = explain.card({**GOOD, metric: value})
    assert found.grade == grade
    worst = next(check for check in found.checks if check.grade == grade)
    assert worst.metric == metric and worst.value == value
    assert found.conclusion == f"{grade}: {worst.says}."


def test_the_first_of_equally_bad_metrics_speaks():
    found = explain.card({**GOOD, "padding": 0.9, "faithfulness": 1.0})
    assert "no more than random ones" in found.conclusion


def test_packets_and_fields_are_shown_and_decide_nothing():
    found = explain.card({**GOOD, "faithfulness_packets": 1.0, "sparseness": 0.5})
    assert found.grade == "PASS"
    assert [check.grade for check in found.checks if "packets" in check.metric] == ["FAIL"]


@pytest.mark.parametrize("values", [{}, {**GOOD, "faithfulness": math.nan}])
def test_what_was_not_measured_is_no_pass(values):
    found = explain.card(values)
    assert found.grade == "WARN" and "not measured" in found.conclusion
