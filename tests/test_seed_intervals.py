"""Intervals over seeds: against the formula, and by hand."""

import numpy as np
import pytest
from scipy import stats

from xai_traffic.evaluation.seed_intervals import over_seeds, over_seeds_of_one_test


def test_over_seeds_is_nadeau_and_bengio():
    values = [0.91, 0.93, 0.92, 0.90, 0.94]
    found = over_seeds(values, train=700, test=200)
    reach = stats.t.ppf(0.975, 4) * np.std(values, ddof=1) * np.sqrt(1 / 5 + 2 / 7)
    assert found["mean"] == pytest.approx(0.92) and found["seeds"] == 5
    assert found["high"] - found["mean"] == pytest.approx(reach)
    assert over_seeds([0.5], 7, 2) == {"mean": 0.5, "low": None, "high": None, "seeds": 1}


def test_seeds_with_one_test_tell_nothing_of_other_sessions():
    scores = [{"value": v, "low": v - 0.03, "high": v + 0.04} for v in (0.7, 0.8, 0.9)]
    found = over_seeds_of_one_test(scores)
    of_seeds = over_seeds([0.7, 0.8, 0.9], train=1, test=0)
    assert of_seeds["high"] - 0.8 == pytest.approx(4.302653 * 0.1 / np.sqrt(3))  # Student's t, 2
    assert found["mean"] == pytest.approx(0.8) and found["seeds"] == 3
    assert found["high"] - 0.8 == pytest.approx(np.hypot(of_seeds["high"] - 0.8, 0.04))
    assert 0.8 - found["low"] == pytest.approx(np.hypot(0.8 - of_seeds["low"], 0.03))
    # Networks that agree know the sessions no better than one of them does.
    alike = over_seeds_of_one_test([scores[0]] * 5)
    assert (alike["low"], alike["high"]) == pytest.approx((0.67, 0.74))
    unknown = over_seeds_of_one_test([{"value": 0.5, "low": None, "high": None}, scores[0]])
    assert unknown["low"] is None and unknown["high"] is None and unknown["mean"] == 0.6
