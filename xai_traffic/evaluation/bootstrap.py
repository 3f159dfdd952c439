"""Intervals by bootstrap: how far a mean over sessions would move with other sessions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import sparse

RESAMPLES = 2000
LOW, HIGH = 0.025, 0.975
WILSON = 1.959964**2
"""Squared quantile of the normal distribution at HIGH."""

_AT_ONCE = 1 << 21
"""Numbers drawn at once where there are many columns."""


def interval(values: np.ndarray, seed: int = 0) -> dict[str, float | int | None]:
    """Return mean, low and high (95 %, percentile bootstrap) and number of the finite values."""
    values = values[np.isfinite(values)]
    if not len(values):
        return {"mean": None, "low": None, "high": None, "sessions": 0}
    mean, low, high = (float(end[0]) for end in intervals(values[:, None], seed))
    return {"mean": mean, "low": low, "high": high, "sessions": len(values)}


def intervals(
    values: np.ndarray | sparse.csr_array, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean, low and high of every column, each float64 [F], as `interval` has them of one.

    Memory is bounded, whatever the number of rows.

    Args:
        values: float [n, F], finite, dense or sparse; n at least 1.
    """
    rows = values.shape[0]
    held = sparse.csr_array(values).astype(np.float64).T.tocsr()
    rng = np.random.Generator(np.random.Philox(seed))
    step = max(1, _AT_ONCE // rows)
    means = []
    for start in range(0, RESAMPLES, step):
        # How often each row was drawn says as much as which rows were, in their order.
        draws = rng.integers(0, rows, (min(step, RESAMPLES - start), rows))
        places = draws + rows * np.arange(len(draws))[:, None]
        counts = np.bincount(places.ravel(), minlength=draws.size).reshape(draws.shape)
        means.append((held @ counts.T.astype(np.float64)).T / rows)
    low, high = np.quantile(np.concatenate(means), (LOW, HIGH), axis=0)
    return np.asarray(held.sum(axis=1)).ravel() / rows, low, high


def ratio_interval(
    above: np.ndarray, below: np.ndarray, seed: int = 0
) -> dict[str, float | int | None]:
    """Return the ratio of two means over the same sessions as `interval` returns a mean.

    Sessions without one of the two are left out; None where the lower mean may be nothing.
    """
    held = np.isfinite(above) & np.isfinite(below)
    above, below = above[held], below[held]
    none = {"mean": None, "low": None, "high": None, "sessions": len(above)}
    if not len(above):
        return none
    draws = _draws(len(above), seed)
    over, under = above[draws].mean(1), below[draws].mean(1)
    if below.mean() <= 0 or (under <= 0).any():
        return none
    low, high = np.quantile(over / under, (LOW, HIGH))
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
    seed: int = 0,
) -> list[dict[str, float | None]]:
    """Return each statistic as `interval` has a mean, by drawing units of sessions.

    Where a stratum has a single unit nobody knows how far another one would be: low and high are
    None.

    Args:
        statistics: of rows int [n], in rising order and with repetitions, float [S]; NaN where
            there is none.
        units: int [N]; sessions of one unit are drawn together.
        strata: int [N], of which the units are drawn apart (a unit that is in two of them counts
            as two); one by default.
        above: the statistics, from 0, that noise can only raise, such as a calibration error: their
            draws lie too high, and are moved by how far their mean does, though not below 0.
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
    results = []
    for number, (value, draws) in enumerate(zip(found, drawn.T, strict=True)):
        draws = draws[np.isfinite(draws)]
        if not np.isfinite(value) or not len(draws):
            results.append({"mean": None, "low": None, "high": None})
            continue
        if min(map(len, of_stratum)) < 2:
            results.append({"mean": float(value), "low": None, "high": None})
            continue
        low, high = np.quantile(draws, (LOW, HIGH))
        if number in above:
            low, high = np.maximum([low, high] + value - draws.mean(), 0)
        results.append({"mean": float(value), "low": float(low), "high": float(high)})
    return results


def widened(found: dict[str, float | None], units: int) -> dict[str, float | None]:
    """Return the interval of a part of sessions that is not a point where it is all or none.

    No draw of sessions that are all alike differs; Wilson's interval (JASA 1927) does not claim
    more than so many can show. Of a single unit that is neither there is none.

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
    return found if units > 1 else {**found, "low": None, "high": None}


def unit_mean(values: np.ndarray, units: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """Return mean, low, high and number of values, as `interval` does, by drawing units.

    Args:
        values: float [N], finite; N at least 1.
        units: int [N].
    """
    (found,) = unit_intervals(lambda rows: values[rows].mean(keepdims=True), units, seed=seed)
    return {**found, "sessions": len(values)}


def _draws(count: int, seed: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(seed)).integers(0, count, (RESAMPLES, count))
