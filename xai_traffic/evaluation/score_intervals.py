"""Intervals of scores, and of differences between two classifiers on the same sessions.

The bootstrap draws units (see `split_units.py`), with all of their sessions, and takes accuracy
and macro-F1 of each draw from its confusion matrix. Two classifiers are compared on the same draws,
so what is hard for both cancels out. Fewer than FEWEST units show next to nothing: there an
interval is all that the score can be, and a class of so few adds all that it can be to that of a
mean over classes.

Sources: those of `bootstrap.py` and `exact.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import sparse

from xai_traffic.evaluation.bootstrap import FEWEST, RESAMPLES, levels, widened
from xai_traffic.evaluation.exact import hidden_rates, sign_flip

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
        held = np.unique(self.labels.astype(np.int64) * self.count + self.units) // self.count
        self._units_of = np.bincount(held, minlength=classes)  # of each class
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
        hits = np.diagonal(matrices, axis1=1, axis2=2)
        with np.errstate(invalid="ignore"):
            precision = hits / matrices.sum(1)
        parts = {"precision": precision, "recall": _recalls(matrices), "f1": f1_of(matrices)}
        result: dict = self._scores(matrices)
        result["mcc"] = self._matthews(matrices)
        # An area knows no more than the fewer tell of the sessions of its class and of the others.
        sides = [(self.labels == k, self.labels != k) for k in range(self.classes)]
        fewer = np.array([min(len(np.unique(self.units[own])) for own in both) for both in sides])
        least = int(fewer[fewer > 0].min(initial=self.count))
        for name, areas in self._areas(probabilities).items():
            if self.classes == 2:  # the same sessions are in both areas
                found = self._interval(mean_over_classes(areas), units=least)
            else:
                found = self._mean_of_classes(areas, fewer)
            result[name] = widened(found, least) if found["value"] == 1 else found
        result["per_class"] = []
        for k in range(self.classes):
            has, named = self.labels == k, predictions == k
            places = {"recall": has, "precision": named, "f1": has | named}
            own = {name: self._part(values[:, k], places[name]) for name, values in parts.items()}
            if own["f1"]["value"] == 1:
                own["f1"]["low"] = min(own["precision"]["low"], own["recall"]["low"])
            result["per_class"].append(own)
        return result

    def _areas(self, probabilities: np.ndarray) -> dict[str, np.ndarray]:
        """Return the areas below the ROC and precision-recall curves, one class against the rest.

        Float [1 + AREA_DRAWS, K], for all sessions and for draws; NaN where a class or all others
        are not there. Weights of the sessions stand for the draws, so that each class is sorted
        once.
        """
        areas = {
            name: np.full((1 + AREA_DRAWS, self.classes), np.nan) for name in ("roc_auc", "pr_auc")
        }
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
                for name, values in found.items():
                    areas[name][part, k] = np.where(there, values, np.nan)
        return areas

    def _matthews(self, matrices: np.ndarray) -> dict[str, float | None]:
        """Return value, low and high of Matthews' coefficient.

        To what the draws show is added how far it would move if all sessions, or none, of a class
        were judged rightly of which there are fewer than FEWEST units; and where it is perfect,
        what may hide behind the units of the class that has been seen least.
        """
        found = self._interval(matthews_of(matrices), -1.0)
        there = self._units_of > 0
        if found["value"] is None or self.count < FEWEST:
            return found
        if found["value"] == 1:
            return widened(found, int(self._units_of[there].min()))
        value, whole = found["value"], matrices[0]
        below, above = [max(value - found["low"], 0.0)], [max(found["high"] - value, 0.0)]
        for k in np.flatnonzero(there & (self._units_of < FEWEST)):
            said = whole.sum(0)
            said[k] = -1
            for place in (k, int(said.argmax())):
                other = whole.copy()
                other[k] = 0
                other[k, place] = whole[k].sum()
                moved = float(matthews_of(other[None])[0])
                if np.isfinite(moved):
                    (above if moved > value else below).append(abs(moved - value))
        low, high = (float(np.linalg.norm(ends)) for ends in (below, above))
        return {"value": value, "low": max(value - low, -1.0), "high": min(value + high, 1.0)}

    def interval(self, predictions: np.ndarray) -> dict[str, dict[str, float]]:
        """Return value, low and high (95 %) of each of SCORES."""
        return self._scores(self.matrices(predictions))

    def balanced_accuracy(self, predictions: np.ndarray) -> dict[str, float | None]:
        """Return value, low and high (95 %) of the mean recall of the classes there are."""
        return self._mean_of_classes(_recalls(self.matrices(predictions)))

    def recalls(self, predictions: np.ndarray) -> list[dict[str, float | None]]:
        """Return value, low and high (95 %) of the recall of each of the K classes."""
        values = _recalls(self.matrices(predictions))
        return [self._part(values[:, k], self.labels == k) for k in range(self.classes)]

    def difference(self, first: np.ndarray, second: np.ndarray) -> dict[str, dict[str, float]]:
        """Return value, low and high (95 %) of the first classifier's scores less the second's."""
        ours, theirs = self.matrices(first), self.matrices(second)
        own, other = f1_of(ours), f1_of(theirs)
        apart = self._interval(mean_over_classes(own) - mean_over_classes(other), -1.0)
        return {
            "accuracy": self._interval(accuracy_of(ours) - accuracy_of(theirs), -1.0),
            "macro_f1": self._with_rare(apart, own[0] - other[0], -1.0),
        }

    def mcnemar(self, first: np.ndarray, second: np.ndarray) -> dict[str, float | int]:
        """Test whether two classifiers have equally many sessions right, exactly.

        If they are alike, each unit might as well have gone the other way: of all ways the part is
        told in which the units' differences add up to as much as here or more. Where every unit is
        one session this is McNemar's own test.

        Args:
            first, second: int [N], predictions.

        Returns:
            `only_first` and `only_second`, sessions that one of the two has right, and `p`, the
            two-sided probability.
        """
        right, other = first == self.labels, second == self.labels
        ahead = np.bincount(self.units, right.astype(float) - other, self.count).astype(int)
        return {
            "only_first": int((right & ~other).sum()),
            "only_second": int((other & ~right).sum()),
            "p": sign_flip(ahead[ahead != 0]),
        }

    def _scores(self, matrices: np.ndarray) -> dict[str, dict[str, float | None]]:
        """Return value, low and high of each of SCORES."""
        accuracy = self._interval(accuracy_of(matrices))
        if accuracy["value"] in (0, 1):  # without an error no draw has one, and it may be there
            accuracy = widened(accuracy, self.count)
        return {"accuracy": accuracy, "macro_f1": self._mean_of_classes(f1_of(matrices))}

    def _mean_of_classes(
        self, values: np.ndarray, units: np.ndarray | None = None
    ) -> dict[str, float | None]:
        """Return value, low and high of a mean over classes.

        Args:
            values: float [1 + draws, K], NaN where a class is not there.
            units: int [K], that each class's value rests on, by default its own.
        """
        return self._with_rare(self._interval(mean_over_classes(values)), values[0], 0.0, units)

    def _with_rare(
        self, found: dict, own: np.ndarray, least: float = 0.0, of_class: np.ndarray | None = None
    ) -> dict:
        """Return the interval of a mean over classes with what the draws do not show added to it.

        That is of a class of fewer than FEWEST units all that its part can be, and of those without
        an error, or without a hit, what may hide behind so few units. These errors are independent
        of the draws'.

        Args:
            found: of `_interval`.
            own: the classes' parts, float [K], NaN where a class is not there.
            least: what a part can be; 1 at most. Of differences, -1, only rare classes of which
                there is one count.
            of_class: int [K], the units that each part rests on, by default those of the class.
        """
        if found["value"] is None or self.count < FEWEST:
            return found
        of_class = self._units_of if of_class is None else of_class
        there, size = np.isfinite(own) & (of_class > 0), np.isfinite(own).sum()
        rare = there & (of_class < FEWEST)
        if least < 0:
            rare &= own != 0
        down, up = list(own[rare] - least), list(1 - own[rare])
        if least == 0:
            for value, ends in ((1, down), (0, up)):
                units = of_class[there & ~rare & (own == value)]
                ends.append(hidden_rates(units) * len(units))
        value = found["value"]
        below, above = max(value - found["low"], 0.0), max(found["high"] - value, 0.0)
        low = value - float(np.linalg.norm([below, *np.divide(down, size)]))
        high = value + float(np.linalg.norm([above, *np.divide(up, size)]))
        return {"value": value, "low": max(low, least), "high": min(high, 1.0)}

    def _part(self, values: np.ndarray, those: np.ndarray) -> dict[str, float | None]:
        """Return the interval of a score of some sessions, as wide as their units make it.

        Args:
            values: float [1 + draws].
            those: bool [N].
        """
        units = len(np.unique(self.units[those]))
        found = self._interval(values, units=units)
        return widened(found, units) if found["value"] in (0, 1) else found

    def _interval(
        self, values: np.ndarray, least: float = 0.0, units: int | None = None
    ) -> dict[str, float | None]:
        """Return the first value, and low and high of those of the others that there are.

        Args:
            values: float [1 + draws].
            least: what the score can be; 1 at most.
            units: that it rests on; all by default.
        """
        units = self.count if units is None else units
        drawn = values[1:][np.isfinite(values[1:])]
        if not np.isfinite(values[0]) or not len(drawn):
            return {"value": None, "low": None, "high": None}
        low, high = least, 1.0
        if units >= FEWEST:
            low, high = np.quantile(drawn, levels(units))
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


def accuracy_of(matrices: np.ndarray) -> np.ndarray:
    """Return the accuracy, float64 [R], of confusion matrices [R, K, K]."""
    return np.trace(matrices, axis1=1, axis2=2) / matrices.sum((1, 2))


def _recalls(matrices: np.ndarray) -> np.ndarray:
    """Return the recall of each class, float [n, K], NaN where there is none of it."""
    with np.errstate(invalid="ignore"):
        return np.diagonal(matrices, axis1=1, axis2=2) / matrices.sum(2)


def f1_of(matrices: np.ndarray) -> np.ndarray:
    """Return F1 of each class, float64 [R, K], NaN where none is so, of confusion matrices."""
    hits = np.diagonal(matrices, axis1=1, axis2=2)
    with np.errstate(invalid="ignore"):
        return 2 * hits / (matrices.sum(2) + matrices.sum(1))


def mean_over_classes(values: np.ndarray) -> np.ndarray:
    """Return the means, float64 [R], over the classes that the first row has.

    A draw that lacks one of them knows nothing else of it than the first row does.

    Args:
        values: float [R, K], NaN where a class is not there.
    """
    filled = np.where(np.isfinite(values), values, values[:1])
    return filled[:, np.isfinite(values[0])].mean(1)


def matthews_of(matrices: np.ndarray) -> np.ndarray:
    """Return the multiclass Matthews correlation [R] of confusion matrices [R, K, K].

    0 where it is undefined, as in `scores.matthews_correlation`.
    """
    true, said, total = matrices.sum(2), matrices.sum(1), matrices.sum((1, 2))
    right = np.trace(matrices, axis1=1, axis2=2)
    above = right * total - (true * said).sum(1)
    below = np.sqrt((total**2 - (said**2).sum(1)) * (total**2 - (true**2).sum(1)))
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)
