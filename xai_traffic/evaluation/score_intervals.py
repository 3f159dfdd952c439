"""Intervals of scores, and of differences between two classifiers on the same sessions.

The bootstrap draws units (see `split_units.py`), with all of their sessions, and takes accuracy
and macro-F1 of each draw from its confusion matrix. Two classifiers are compared on the same draws,
so what is hard for both cancels out.

Sources: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993 (percentiles; units as in
the cluster bootstrap of Field and Welsh, JRSS B 2007). McNemar, Psychometrika 1947, in its exact
form. Nadeau and Bengio, "Inference for the generalization error", Machine Learning 2003.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse, stats

from xai_traffic.evaluation.bootstrap import HIGH, LOW, RESAMPLES

SCORES = ("accuracy", "macro_f1")


class Draws:
    """Draws of units, the same ones for all classifiers that are scored on some sessions.

    Args:
        labels: int [N], 0..classes - 1.
        units: int [N], number of each session's unit.
        classes: K.
        seed: of the draws.
    """

    def __init__(self, labels: np.ndarray, units: np.ndarray, classes: int, seed: int = 0):
        self.labels, self.units, self.classes = np.asarray(labels), np.asarray(units), classes
        self.count = int(self.units.max()) + 1
        rng = np.random.Generator(np.random.Philox(seed))
        even = np.full(self.count, 1 / self.count)
        self._drawn = rng.multinomial(self.count, even, RESAMPLES)

    def scores(self, predictions: np.ndarray) -> dict[str, np.ndarray]:
        """Return each of SCORES for all sessions, then for every draw: float64 [1 + RESAMPLES].

        Args:
            predictions: int [N].
        """
        size = self.classes**2
        cells = self.labels.astype(np.int64) * self.classes + predictions
        counts = sparse.csr_array(
            (np.ones(len(cells)), (self.units, cells)), shape=(self.count, size)
        )
        whole = np.asarray(counts.sum(axis=0)).reshape(1, size)
        drawn = np.asarray((counts.T @ self._drawn.T.astype(np.float64)).T)
        matrices = np.concatenate([whole, drawn]).reshape(-1, self.classes, self.classes)
        hits = np.diagonal(matrices, axis1=1, axis2=2)
        either = matrices.sum(2) + matrices.sum(1)
        there = either > 0
        f1 = np.where(there, 2 * hits / np.maximum(either, 1), 0)
        return {
            "accuracy": hits.sum(1) / matrices.sum((1, 2)),
            "macro_f1": f1.sum(1) / there.sum(1),
        }

    def interval(self, predictions: np.ndarray) -> dict[str, dict[str, float]]:
        """Return value, low and high (95 %) of each of SCORES."""
        return {name: _interval(values) for name, values in self.scores(predictions).items()}

    def difference(self, first: np.ndarray, second: np.ndarray) -> dict[str, dict[str, float]]:
        """Return value, low and high (95 %) of the first classifier's scores less the second's."""
        ours, theirs = self.scores(first), self.scores(second)
        return {name: _interval(ours[name] - theirs[name]) for name in SCORES}


def _interval(values: np.ndarray) -> dict[str, float]:
    low, high = np.quantile(values[1:], (LOW, HIGH))
    return {"value": float(values[0]), "low": float(low), "high": float(high)}


def mcnemar(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> dict[str, float | int]:
    """Test whether two classifiers err equally often on the same sessions, exactly.

    Args:
        labels, first, second: int [N]; labels and predictions.

    Returns:
        `only_first` and `only_second`, sessions that one of the two has right, and `p`, the
        two-sided probability of so uneven a division or a more uneven one.
    """
    right, other = first == labels, second == labels
    one, two = int((right & ~other).sum()), int((other & ~right).sum())
    p = float(stats.binomtest(one, one + two).pvalue) if one + two else 1.0
    return {"only_first": one, "only_second": two, "p": p}


def over_seeds(values: Sequence[float], train: int, test: int) -> dict[str, float | int | None]:
    """Return mean and 95 % interval of a score, or a difference, over splits by several seeds.

    Test splits of several seeds share sessions and so do training splits, which a plain t interval
    knows nothing of: the variance is taken times 1 / n + test / train instead of 1 / n.

    Args:
        values: one a seed.
        train, test: sessions of a split.

    Returns:
        `mean`, `low`, `high` and `seeds`; low and high are None for one seed.
    """
    array = np.asarray(values, np.float64)
    mean, count = float(array.mean()), len(array)
    found = {"mean": mean, "low": None, "high": None, "seeds": count}
    if count > 1:
        spread = array.std(ddof=1) * np.sqrt(1 / count + test / train)
        reach = float(stats.t.ppf(HIGH, count - 1) * spread)
        found |= {"low": mean - reach, "high": mean + reach}
    return found
