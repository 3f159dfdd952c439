"""Intervals by bootstrap: how far a mean over sessions would move with other sessions."""

from __future__ import annotations

import numpy as np
from scipy import sparse

RESAMPLES = 2000
LOW, HIGH = 0.025, 0.975

_AT_ONCE = 1 << 21
"""Numbers drawn at once where there are many columns."""


def interval(values: np.ndarray, seed: int = 0) -> dict[str, float | int | None]:
    """Return mean, low and high (95 %, percentile bootstrap) and number of the finite values."""
    values = values[np.isfinite(values)]
    if not len(values):
        return {"mean": None, "low": None, "high": None, "sessions": 0}
    low, high = np.quantile(values[_draws(len(values), seed)].mean(1), (LOW, HIGH))
    return {
        "mean": float(values.mean()),
        "low": float(low),
        "high": float(high),
        "sessions": len(values),
    }


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


def _draws(count: int, seed: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(seed)).integers(0, count, (RESAMPLES, count))
