"""Risk over coverage: by hand, against a loop, and ties in no order."""

import itertools

import numpy as np
import pytest

from xai_traffic.evaluation.risk_coverage import area_under_risk_coverage, risk_coverage


def test_by_hand():
    confidence, wrong = [0.9, 0.5, 0.7, 0.6], [False, True, True, False]
    np.testing.assert_allclose(risk_coverage(confidence, wrong), [0, 1 / 2, 1 / 3, 2 / 4])
    area, excess = area_under_risk_coverage(risk_coverage(confidence, wrong))
    assert area == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert excess == pytest.approx(area - (0 + 0 + 1 / 3 + 2 / 4) / 4)


def test_ties_count_as_the_mean_over_all_orders():
    wrong = np.array([True, False, False, True])
    orders = [
        np.cumsum(wrong[list(order)]) / np.arange(1, 5)
        for order in itertools.permutations(range(4))
    ]
    np.testing.assert_allclose(risk_coverage(np.ones(4), wrong), np.mean(orders, axis=0))


def test_as_a_loop_has_it_and_whatever_the_order_of_the_sessions():
    rng = np.random.default_rng(1)
    confidence, wrong = rng.random(200), rng.random(200) < 0.3
    expected = [wrong[np.argsort(-confidence)[:count]].mean() for count in range(1, len(wrong) + 1)]
    np.testing.assert_allclose(risk_coverage(confidence, wrong), expected)
    order = rng.permutation(200)
    np.testing.assert_allclose(risk_coverage(confidence[order], wrong[order]), expected)
    area, excess = area_under_risk_coverage(risk_coverage(confidence, wrong))
    # An order that knows the truth has no excess.
    best, none = area_under_risk_coverage(risk_coverage(~wrong, wrong))
    assert none == pytest.approx(0, abs=1e-12) and area - best == pytest.approx(excess)
