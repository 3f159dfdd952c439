"""Intervals over units: against the plain bootstrap, and wider where sessions go together."""

import numpy as np
import pytest

from xai_traffic.evaluation.bootstrap import interval, unit_intervals, widened


def mean_of(values):
    return lambda rows: np.array([values[rows].mean()])


def test_units_of_one_are_the_plain_bootstrap():
    values = np.random.default_rng(0).exponential(size=120)
    (found,) = unit_intervals(mean_of(values), np.arange(120))
    plain = interval(values, seed=1)
    assert found["mean"] == pytest.approx(plain["mean"])
    for end in ("low", "high"):
        assert found[end] == pytest.approx(plain[end], rel=0.02)


def test_sessions_that_go_together_widen_the_interval_as_theory_has_it():
    rng = np.random.default_rng(1)
    units = np.repeat(np.arange(60), 16)
    values = rng.normal(size=60)[units]  # all of a group alike: 60 values, not 960
    (apart,) = unit_intervals(mean_of(values), np.arange(960))
    (together,) = unit_intervals(mean_of(values), units)
    width = [one["high"] - one["low"] for one in (apart, together)]
    assert width[1] / width[0] == pytest.approx(4, rel=0.1)
    assert width[1] == pytest.approx(2 * 1.96 * values.std() / np.sqrt(60), rel=0.1)


def test_strata_keep_their_sizes_and_share_no_unit():
    strata = np.repeat([0, 1], [10, 30])
    seen = []

    def statistics(rows):
        seen.append(((rows < 10).sum(), len(rows)))
        assert (np.diff(rows) >= 0).all()
        return np.zeros(1)

    unit_intervals(statistics, np.r_[np.arange(10), np.arange(30)], strata=strata)
    assert set(seen) == {(10, 40)}


def test_what_noise_can_only_raise_is_moved_back_and_holds_its_value():
    rng = np.random.default_rng(2)
    values = rng.normal(size=50)
    every = np.arange(50)
    (raw,), (moved,) = (
        unit_intervals(lambda rows: np.abs(values[rows].mean(keepdims=True)), every, above=above)
        for above in ((), [0])
    )
    assert moved["mean"] == raw["mean"]
    assert moved["low"] < raw["low"] and moved["high"] < raw["high"]
    assert 0 <= moved["low"] <= moved["mean"] <= moved["high"]


def test_what_is_never_there_is_none_and_what_is_all_alike_is_no_point():
    nothing, sometimes = unit_intervals(
        lambda rows: np.array([np.nan, 1.0 if (rows == 0).any() else np.nan]), np.arange(5)
    )
    assert nothing == {"mean": None, "low": None, "high": None}
    assert sometimes == {"mean": 1, "low": 1, "high": 1}
    # Wilson's interval of 20 of 20, as published tables have it.
    assert widened(sometimes, 20)["low"] == pytest.approx(0.8389, abs=1e-4)
    assert widened({"mean": 0, "low": 0, "high": 0}, 20)["high"] == pytest.approx(0.1611, abs=1e-4)
    assert widened({"mean": 0.5, "low": 0, "high": 1}, 3) == {"mean": 0.5, "low": 0, "high": 1}
