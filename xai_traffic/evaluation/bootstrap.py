"""Intervals by bootstrap: how far a mean over sessions would move with other sessions.

What is drawn are units of sessions (see `split_units.py`), or single ones. The variance of the
draws falls short of that of the units by (n - 1) / n, and few units tell it badly, so the
percentiles are moved outwards as far as Student's t lies from the normal distribution; of fewer
than FEWEST units not even that makes an interval. Sources: Efron and Tibshirani, "An Introduction
to the Bootstrap", 1993; Hesterberg, "What teachers should know about the bootstrap", The American
Statistician 2015 (expanded percentiles); Field and Welsh, JRSS B 2007 (units).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import sparse, stats

RESAMPLES = 2000
LOW, HIGH = 0.025, 0.975
WILSON = 1.959964**2
"""Squared quantile of the normal distribution at HIGH."""

FEWEST = 4
"""Units of which an interval can be told: draws of three cover seven means of ten."""

_AT_ONCE = 1 << 21
"""Numbers drawn at once where there are many columns."""


def levels(units: int) -> tuple[float, float]:
    """Return which quantiles of the draws of so many units bound 95 %, FEWEST at least."""
    reach = np.sqrt(units / (units - 1)) * stats.t.ppf(HIGH, units - 1)
    low = float(stats.norm.cdf(-reach))
    return low, 1 - low


def interval(
    values: np.ndarray, units: np.ndarray | None = None, *, seed: int = 0
) -> dict[str, float | int | None]:
    """Return mean, low and high (95 %, bootstrap) and number of the finite values.

    Low and high are None of fewer than FEWEST units.

    Args:
        values: float [n].
        units: int [n], what is drawn together; None where each value is its own.
    """
    finite = np.isfinite(values)
    values, units = values[finite], None if units is None else units[finite]
    if not len(values):
        return {"mean": None, "low": None, "high": None, "sessions": 0}
    mean, low, high = (float(end[0]) for end in intervals(values[:, None], units, seed=seed))
    found = {"mean": mean, "low": low, "high": high}
    return {
        **{end: None if np.isnan(at) else at for end, at in found.items()},
        "sessions": len(values),
    }


def intervals(
    values: np.ndarray | sparse.csr_array, units: np.ndarray | None = None, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean, low and high of every column, each float64 [F], as `interval` has them of one.

    Low and high are NaN of fewer than FEWEST units. Memory is bounded, whatever the number of rows.

    Args:
        values: float [n, F], finite, dense or sparse; n at least 1.
        units: int [n], as in `interval`.
    """
    held = sparse.csr_array(values).astype(np.float64)
    sizes = np.ones(held.shape[0])
    if units is not None:
        places = np.unique(units, return_inverse=True)[1]
        sizes = np.bincount(places).astype(np.float64)
        rows = (np.ones(len(places)), (places, np.arange(len(places))))
        held = sparse.csr_array(rows, shape=(len(sizes), len(places))) @ held
    count = len(sizes)
    mean = np.asarray(held.sum(axis=0)).ravel() / sizes.sum()
    if count < FEWEST:
        return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    held = held.T.tocsr()
    rng = np.random.Generator(np.random.Philox(seed))
    step = max(1, _AT_ONCE // count)
    means = []
    for start in range(0, RESAMPLES, step):
        # How often each unit was drawn says as much as which were, in their order.
        draws = rng.integers(0, count, (min(step, RESAMPLES - start), count))
        places = draws + count * np.arange(len(draws))[:, None]
        counts = np.bincount(places.ravel(), minlength=draws.size).reshape(draws.shape)
        means.append((held @ counts.T.astype(np.float64)).T / (counts @ sizes)[:, None])
    low, high = np.quantile(np.concatenate(means), levels(count), axis=0)
    return mean, low, high


def ratio_interval(
    above: np.ndarray, below: np.ndarray, seed: int = 0
) -> dict[str, float | int | None]:
    """Return the ratio of two means over the same sessions as `interval` returns a mean.

    Sessions without one of the two are left out; None where the lower mean may be nothing, and of
    fewer than FEWEST.
    """
    held = np.isfinite(above) & np.isfinite(below)
    above, below = above[held], below[held]
    none = {"mean": None, "low": None, "high": None, "sessions": len(above)}
    if len(above) < FEWEST:
        return none
    rng = np.random.Generator(np.random.Philox(seed))
    draws = rng.integers(0, len(above), (RESAMPLES, len(above)))
    over, under = above[draws].mean(1), below[draws].mean(1)
    if below.mean() <= 0 or (under <= 0).any():
        return none
    low, high = np.quantile(over / under, levels(len(above)))
    return {
        "mean": float(above.mean() / below.mean()),
        "low": float(low),
        "high": float(high),
        "sessions": len(above),
    }


def unit_intervals(
    statistics: Callable[[np.ndarray], np.ndarray],
    units: np.ndarray,
    *,
    strata: np.ndarray | None = None,
    above: Sequence[int] = (),
    rests_on: Mapping[int, int] | None = None,
    seed: int = 0,
) -> list[dict[str, float | None]]:
    """Return each statistic as `interval` has a mean, by drawing units of sessions.

    Where a statistic rests on fewer than FEWEST units nobody knows how far others would be: low
    and high are None.

    Args:
        statistics: of rows int [n], in rising order and with repetitions, float [S]; NaN where
            there is none.
        units: int [N]; sessions of one unit are drawn together.
        strata: int [N], of which the units are drawn apart (a unit that is in two of them counts
            as two); one by default.
        above: the statistics, from 0, that noise can only raise, such as a calibration error: their
            draws lie too high, and are moved by how far their mean does, though not below 0.
        rests_on: units that a statistic, from 0, rests on, where it does not on all: by default as
            many as the smallest stratum has.
    """
    strata = np.zeros(len(units), np.int64) if strata is None else strata
    kinds, place = np.unique(np.stack([strata, units]), axis=1, return_inverse=True)
    place = place.reshape(-1)
    of_stratum = [np.flatnonzero(kinds[0] == stratum) for stratum in np.unique(strata)]
    rng = np.random.Generator(np.random.Philox(seed))
    every = np.arange(len(units))
    found = np.asarray(statistics(every), np.float64)
    drawn = np.empty((RESAMPLES, len(found)))
    counts = np.zeros(kinds.shape[1], np.int64)
    for row in drawn:
        for own in of_stratum:
            counts[own] = np.bincount(rng.integers(0, len(own), len(own)), minlength=len(own))
        row[:] = statistics(np.repeat(every, counts[place]))
    fewest, results = min(map(len, of_stratum)), []
    for number, (value, draws) in enumerate(zip(found, drawn.T, strict=True)):
        draws = draws[np.isfinite(draws)]
        if not np.isfinite(value) or not len(draws):
            results.append({"mean": None, "low": None, "high": None})
            continue
        behind = (rests_on or {}).get(number, fewest)
        if behind < FEWEST:
            results.append({"mean": float(value), "low": None, "high": None})
            continue
        low, high = np.quantile(draws, levels(behind))
        if number in above:
            low, high = np.maximum([low, high] + value - draws.mean(), 0)
        results.append({"mean": float(value), "low": float(low), "high": float(high)})
    return results


def widened(found: dict[str, float | None], units: int) -> dict[str, float | None]:
    """Return the interval of a part of sessions that is not a point where it is all or none.

    No draw of sessions that are all alike differs; Wilson's interval (JASA 1927) does not claim
    more than so many can show. Of fewer than FEWEST units that are neither there is none.

    Args:
        found: of `unit_intervals`, or `value` in place of `mean`.
        units: that were drawn from.
    """
    most = WILSON / (units + WILSON)
    value = found["value"] if "value" in found else found["mean"]
    if value == 1:
        return {**found, "low": 1 - most, "high": 1.0}
    if value == 0:
        return {**found, "low": 0.0, "high": most}
    return found if units >= FEWEST else {**found, "low": None, "high": None}
