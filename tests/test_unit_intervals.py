"""Intervals over units: against the plain bootstrap, and wider where sessions go together."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from small_dataset import make_dataset

from xai_traffic.evaluation.bootstrap import interval, intervals, levels, unit_intervals, widened
from xai_traffic.evaluation.split_units import unit_name, units_of


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
    assert widened({"mean": 0.5, "low": 0, "high": 1}, 4) == {"mean": 0.5, "low": 0, "high": 1}


def test_one_unit_has_no_interval():
    values = np.random.default_rng(3).random(50)
    (found,) = unit_intervals(mean_of(values), np.zeros(50, int))
    assert (found["low"], found["high"]) == (None, None)
    assert found["mean"] == pytest.approx(values.mean())
    strata = np.repeat([0, 1], 25)  # one host on one side
    units = np.where(strata, 0, np.arange(50))
    assert unit_intervals(mean_of(values), units, strata=strata)[0]["low"] is None
    assert widened({"mean": 1.0, "low": None, "high": None}, 1)["low"] == pytest.approx(
        0.2065, abs=1e-4
    )


def test_means_over_units_are_drawn_at_once_as_one_by_one():
    rng = np.random.default_rng(4)
    values, units = rng.normal(size=(90, 3)), rng.integers(5, 25, 90)
    mean, low, high = intervals(values, units)
    for column, own in enumerate(values.T):
        (plain,) = unit_intervals(mean_of(own), units)
        assert (mean[column], low[column], high[column]) == pytest.approx(
            (plain["mean"], plain["low"], plain["high"])
        )
    holes = np.where(np.arange(90) % 3, values[:, 0], np.nan)
    kept = np.isfinite(holes)
    assert interval(holes, units) == interval(holes[kept], units[kept])
    assert interval(holes, units)["sessions"] == 60


def test_of_three_units_nobody_can_tell():
    values, units = np.arange(30.0), np.arange(30) % 3
    assert interval(values, units) == {"mean": 14.5, "low": None, "high": None, "sessions": 30}
    assert interval(values, np.arange(30) % 4)["low"] is not None
    assert interval(values[:3])["low"] is None and interval(values[:4])["low"] is not None


def test_few_units_are_less_sure():
    assert levels(10**6) == pytest.approx((0.025, 0.975), abs=1e-6)
    # Student's t of 9 degrees, 2.2622, times sqrt(10 / 9), in a table of the normal distribution.
    assert levels(10)[0] == pytest.approx(0.00855, abs=1e-4)
    assert levels(4)[0] < levels(10)[0] < levels(100)[0] < 0.025


def grouped(tmp_path, split, **columns):
    """Return a dataset of the small one's sessions with other columns, split by a key."""
    dataset = make_dataset(tmp_path / "data", sessions=6)
    table = dataset.table
    for name, values in columns.items():
        place = table.column_names.index(name)
        table = table.set_column(place, name, [pa.array(values, table[name].type)])
    object.__setattr__(dataset, "table", table)
    return dataclasses.replace(dataset, manifest={**dataset.manifest, "split": split})


def test_a_statistic_is_as_sure_as_the_units_that_it_rests_on():
    rng = np.random.default_rng(0)
    values, few = rng.random(200), np.arange(200) < 5

    def statistics(rows):
        own = values[rows][few[rows]]
        return np.array([values[rows].mean(), own.mean() if len(own) else np.nan])

    units = np.arange(200)
    (whole, plain), (same, wider) = (
        unit_intervals(statistics, units, rests_on=behind) for behind in (None, {1: 5})
    )
    assert whole == same and wider["mean"] == plain["mean"]
    assert wider["high"] - wider["low"] > 1.15 * (plain["high"] - plain["low"])
    assert unit_intervals(statistics, units, rests_on={1: 3})[1]["low"] is None


def test_halves_of_a_session_in_two_captures_are_one_unit(tmp_path):
    captures = ["a.pcap", "b.pcap"] * 3
    ports = [1, 1, 2, 2, 3, 3]
    for split, expected in (("session:70/10/20", [0, 0, 1, 1, 2, 2]), ("random:70/10/20", None)):
        dataset = grouped(tmp_path / split[:4], split, capture=captures, source_port=ports)
        found = units_of(dataset, np.arange(6))
        if expected is None:
            assert len(set(found)) == 6 and unit_name(dataset) == "5-tuple of a capture"
        else:
            assert unit_name(dataset) == "5-tuple"
            assert [found[k] == found[k + 1] for k in (0, 2, 4)] == [True] * 3
            assert len(set(found)) == 3


def test_clients_of_one_5_tuple_are_one_unit(tmp_path):
    """A capture that begins in the middle takes the wrong end for the client."""
    one, two, three = "10.0.0.1", "10.0.0.2", "10.0.0.3"
    dataset = grouped(
        tmp_path,
        "host:70/10/20",
        capture=["a.pcap"] * 6,
        source=[one, two, one, three, None, None],
        destination=[two, one, three, "10.0.0.9", two, two],
        source_port=[1, 2, 5, 7, 1, 1],
        destination_port=[2, 1, 6, 8, 1, 1],
    )
    found = units_of(dataset, np.arange(6))
    assert found[0] == found[1] == found[2] != found[3]
    assert len(set(found)) == 4
