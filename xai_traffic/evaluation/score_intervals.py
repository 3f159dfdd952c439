"""Intervals of scores, and of differences between two classifiers on the same sessions.

The bootstrap draws units (see `split_units.py`), with all of their sessions, and takes accuracy
and macro-F1 of each draw from its confusion matrix. Two classifiers are compared on the same draws,
so what is hard for both cancels out. Of a single unit no draw differs, which shows nothing: there
an interval is all that the score can be.

Sources: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993 (percentiles; units as in
the cluster bootstrap of Field and Welsh, JRSS B 2007). McNemar, Psychometrika 1947, in its exact
form, with units in place of sessions. Nadeau and Bengio, "Inference for the generalization
error", Machine Learning 2003.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import sparse, stats

from xai_traffic.evaluation.bootstrap import HIGH, LOW, RESAMPLES, widened

SCORES = ("accuracy", "macro_f1")

AREA_DRAWS = 400
"""Draws that areas below curves are taken of: each costs as much as a pass over all sessions."""

_AT_ONCE = 1 << 20
"""Weights of sessions that are made at once."""

_HELD = 1 << 24
"""Numbers of all draws together up to which they are held."""


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
        self._seed = seed
        self._held: np.ndarray | None = None

    def _draws(self, number: int = RESAMPLES) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (place of the first, how often each unit is in some of the draws, int [n, units]).

        The same ones each time. They are held where they are few, and else drawn again, so that
        memory does not grow with sessions.
        """
        step = max(1, _AT_ONCE // len(self.labels))
        if self._held is None:
            rng = np.random.Generator(np.random.Philox(self._seed))
            even = np.full(self.count, 1 / self.count)
            if self.count * RESAMPLES <= _HELD:
                self._held = rng.multinomial(self.count, even, RESAMPLES)
        for begin in range(0, number, step):
            size = min(step, number - begin)
            if self._held is not None:
                yield begin, self._held[begin : begin + size]
            else:
                yield begin, rng.multinomial(self.count, even, size)

    def matrices(self, predictions: np.ndarray) -> np.ndarray:
        """Return the confusion matrix of all sessions, then of every draw.

        Args:
            predictions: int [N].

        Returns:
            float64 [1 + RESAMPLES, K, K], sessions, true class by row.
        """
        size = self.classes**2
        cells = self.labels.astype(np.int64) * self.classes + predictions
        counts = sparse.csr_array(
            (np.ones(len(cells)), (self.units, cells)), shape=(self.count, size)
        )
        whole = np.asarray(counts.sum(axis=0)).reshape(1, size)
        drawn = [(counts.T @ part.T.astype(np.float64)).T for _, part in self._draws()]
        return np.concatenate([whole, *drawn]).reshape(-1, self.classes, self.classes)

    def scores(self, predictions: np.ndarray) -> dict[str, np.ndarray]:
        """Return each of SCORES for all sessions, then for every draw: float64 [1 + RESAMPLES].

        Args:
            predictions: int [N].
        """
        return scores_of(self.matrices(predictions))

    def all_scores(self, predictions: np.ndarray, probabilities: np.ndarray) -> dict[str, dict]:
        """Return value, low and high of every score of `scores.score` that a draw has.

        Those of SCORES, `mcc`, `roc_auc` and `pr_auc` (None where they are undefined), and
        `per_class`, of K classes in turn `precision`, `recall` and `f1`. A draw that lacks a class
        has no score of it.

        Args:
            predictions: int [N].
            probabilities: float [N, K].
        """
        matrices = self.matrices(predictions)
        found = {**scores_of(matrices), "mcc": matthews_of(matrices), **self._areas(probabilities)}
        hits = np.diagonal(matrices, axis1=1, axis2=2)
        true, said = matrices.sum(2), matrices.sum(1)
        with np.errstate(invalid="ignore"):
            parts = {
                "precision": hits / said,
                "recall": hits / true,
                "f1": 2 * hits / (true + said),
            }
        result: dict = {
            name: self._interval(values, -1.0 if name == "mcc" else 0.0)
            for name, values in found.items()
        }
        _not_too_sure(result, self.count)
        result["per_class"] = []
        for k in range(self.classes):
            own = {name: self._interval(values[:, k]) for name, values in parts.items()}
            has, named = self.labels == k, predictions == k
            for name, those in (("recall", has), ("precision", named), ("f1", has | named)):
                own[name] = self._as_shown(own[name], those)
            if own["f1"]["value"] == 1:
                own["f1"]["low"] = min(own["precision"]["low"], own["recall"]["low"])
            result["per_class"].append(own)
        return result

    def _areas(self, probabilities: np.ndarray) -> dict[str, np.ndarray]:
        """Return the areas below the ROC and precision-recall curves, one class against the rest.

        Means over classes as `scores.score` takes them, for all sessions and for AREA_DRAWS draws.
        Weights of the sessions stand for the draws, so that each class is sorted once.
        """
        count = np.zeros(1 + AREA_DRAWS)
        total = {"roc_auc": np.zeros_like(count), "pr_auc": np.zeros_like(count)}
        scores = np.asarray(probabilities)
        sides = [self.labels == k for k in range(self.classes)]
        asked = [k for k, side in enumerate(sides) if side.any() and not side.all()]
        orders = {k: np.argsort(-scores[:, k], kind="stable") for k in asked}
        whole = np.ones((1, self.count), np.int64)
        for begin, units in [(-1, whole), *self._draws(AREA_DRAWS)]:
            weights = units[:, self.units].astype(np.float64)
            part = slice(begin + 1, begin + 1 + len(units))
            for k, order in orders.items():
                starts = np.flatnonzero(np.diff(scores[order, k], prepend=np.inf))  # of ties
                found = _areas_of(weights[:, order], sides[k][order], starts)
                there = np.isfinite(found["roc_auc"])
                count[part] += there
                for name, values in found.items():
                    total[name][part] += np.where(there, values, 0)
        with np.errstate(invalid="ignore"):
            return {name: values / count for name, values in total.items()}

    def interval(self, predictions: np.ndarray) -> dict[str, dict[str, float]]:
        """Return value, low and high (95 %) of each of SCORES."""
        scores = self.scores(predictions)
        found = {name: self._interval(values) for name, values in scores.items()}
        _not_too_sure(found, self.count)
        return found

    def balanced_accuracy(self, predictions: np.ndarray) -> dict[str, float | None]:
        """Return value, low and high (95 %) of the mean recall of the classes there are."""
        matrices = self.matrices(predictions)
        hits, true = np.diagonal(matrices, axis1=1, axis2=2), matrices.sum(2)
        there = true > 0
        recalls = np.where(there, hits / np.maximum(true, 1), 0)
        found = self._interval(recalls.sum(1) / there.sum(1))
        return widened(found, self.count) if found["value"] in (0, 1) else found

    def difference(self, first: np.ndarray, second: np.ndarray) -> dict[str, dict[str, float]]:
        """Return value, low and high (95 %) of the first classifier's scores less the second's."""
        ours, theirs = self.scores(first), self.scores(second)
        return {name: self._interval(ours[name] - theirs[name], -1.0) for name in SCORES}

    def mcnemar(self, first: np.ndarray, second: np.ndarray) -> dict[str, float | int]:
        """Test whether two classifiers err equally often on the same units, exactly.

        A unit is for the one that has more of its sessions right; that of a single session is as
        in McNemar's own test.

        Args:
            first, second: int [N], predictions.

        Returns:
            `only_first` and `only_second`, sessions that one of the two has right, and `p`, the
            two-sided probability of so uneven a division of the units or a more uneven one.
        """
        right, other = first == self.labels, second == self.labels
        ahead = np.bincount(self.units, right.astype(float) - other, self.count)
        one, two = int((ahead > 0).sum()), int((ahead < 0).sum())
        return {
            "only_first": int((right & ~other).sum()),
            "only_second": int((other & ~right).sum()),
            "p": float(stats.binomtest(one, one + two).pvalue) if one + two else 1.0,
        }

    def _as_shown(self, found: dict[str, float | None], those: np.ndarray) -> dict:
        """Return the interval of a part of some sessions, as wide as their units make it.

        Args:
            found: of `_interval`.
            those: bool [N].
        """
        if found["value"] is None:
            return found
        units = len(np.unique(self.units[those]))
        found = widened(found, units)
        return found if found["low"] is not None else {**found, "low": 0.0, "high": 1.0}

    def _interval(self, values: np.ndarray, least: float = 0.0) -> dict[str, float | None]:
        """Return the first value, and low and high of those of the others that there are.

        Args:
            values: float [1 + draws].
            least: what the score can be; 1 at most.
        """
        drawn = values[1:][np.isfinite(values[1:])]
        if not np.isfinite(values[0]) or not len(drawn):
            return {"value": None, "low": None, "high": None}
        low, high = np.quantile(drawn, (LOW, HIGH)) if self.count > 1 else (least, 1.0)
        return {"value": float(values[0]), "low": float(low), "high": float(high)}


def _areas_of(
    weights: np.ndarray, positive: np.ndarray, starts: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the areas of one class, float64 [n], NaN where a draw has one side only.

    Args:
        weights: of the sessions from the highest score down, float64 [n, N].
        positive: bool [N].
        starts: places where another score begins.
    """
    hits = np.add.reduceat(weights * positive, starts, axis=1)
    others = np.add.reduceat(weights * ~positive, starts, axis=1)
    above, false = np.cumsum(hits, axis=1), np.cumsum(others, axis=1)
    p, n = above[:, -1], false[:, -1]
    with np.errstate(invalid="ignore", divide="ignore"):
        roc = ((above - hits / 2) * others).sum(1) / (p * n)
        pr = (hits * above / np.maximum(above + false, 1)).sum(1) / p
    return {"roc_auc": roc, "pr_auc": pr}


def scores_of(matrices: np.ndarray) -> dict[str, np.ndarray]:
    """Return each of SCORES, float64 [R], of confusion matrices [R, K, K]."""
    hits = np.diagonal(matrices, axis1=1, axis2=2)
    either = matrices.sum(2) + matrices.sum(1)
    there = either > 0
    f1 = np.where(there, 2 * hits / np.maximum(either, 1), 0)
    return {
        "accuracy": hits.sum(1) / matrices.sum((1, 2)),
        "macro_f1": f1.sum(1) / there.sum(1),
    }


def matthews_of(matrices: np.ndarray) -> np.ndarray:
    """Return the multiclass Matthews correlation [R] of confusion matrices [R, K, K].

    0 where it is undefined, as in `scores.matthews_correlation`.
    """
    true, said, total = matrices.sum(2), matrices.sum(1), matrices.sum((1, 2))
    right = np.trace(matrices, axis1=1, axis2=2)
    above = right * total - (true * said).sum(1)
    below = np.sqrt((total**2 - (said**2).sum(1)) * (total**2 - (true**2).sum(1)))
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _not_too_sure(found: dict[str, dict], units: int) -> None:
    """Widen the interval of an accuracy of 1 or 0, and of other scores of 1, see `widened`.

    Without an error no draw has one, which does not show that there is none.
    """
    for name, own in found.items():
        if own["value"] == 1 or (own["value"] == 0 and name == "accuracy"):
            found[name] = widened(own, units)


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


def over_seeds_of_one_test(scores: Sequence[dict[str, float | None]]) -> dict:
    """Return what `over_seeds` does where all seeds were tested on the same sessions.

    Seeds then tell how far training moves the score and nothing of other sessions, which the
    bootstrap of each seed tells: the reach of a plain t interval and that of the bootstraps are
    added up as those of independent errors are.

    Args:
        scores: one a seed: `value` and its bootstrap's `low` and `high`, None where there is none.
    """
    found = over_seeds([score["value"] for score in scores], train=1, test=0)
    if any(score["low"] is None for score in scores):
        return found | {"low": None, "high": None}
    mean = found["mean"]
    for side, sign in (("low", -1), ("high", 1)):
        of_sessions = np.mean([score[side] - score["value"] for score in scores])
        of_seeds = 0.0 if len(scores) == 1 else found[side] - mean
        found[side] = mean + sign * float(np.hypot(of_sessions, of_seeds))
    return found
