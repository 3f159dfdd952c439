"""Sets of classes that hold the true one as often as promised: split conformal prediction.

A class is in the set of a session where its probability is at least the class's own threshold
(least ambiguous sets: Sadinle, Lei and Wasserman, JASA 2019; a threshold for each class, Mondrian:
Vovk, "Conditional Validity of Inductive Conformal Predictors", 2012). The threshold of a class with
n validation sessions is such that ceil((n + 1) coverage) of them keep it, so a new session of that
class keeps it with at least that probability, whatever the model: as long as it is exchangeable
with them, that is, from the same networks and days. The first verdict is always in the set, which
can only raise the coverage; a set without it would be empty, and say nothing.
"""

from __future__ import annotations

import numpy as np


def conformal_thresholds(
    probabilities: np.ndarray, labels: np.ndarray, coverage: float
) -> np.ndarray:
    """Return the least probability with which each class is in a set, float64 [K].

    0 where a class has too few sessions for the promise, below coverage / (1 - coverage): it is
    then in every set. NaN where it has none: nothing is promised, and only the verdict puts it in.

    Args:
        probabilities: float [N, K], of sessions that were not learnt from.
        labels: int [N].
        coverage: promised to each class, in 0..1.
    """
    thresholds = np.full(probabilities.shape[1], np.nan)
    for label in np.unique(labels):
        own = np.sort(np.asarray(probabilities, np.float64)[labels == label, label])[::-1]
        keep = int(np.ceil((len(own) + 1) * coverage - 1e-9))
        thresholds[label] = own[keep - 1] if 1 <= keep <= len(own) else float(keep < 1)
    return thresholds


def prediction_sets(probabilities: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return which classes are in the set of each session, bool [N, K].

    Args:
        probabilities: float [N, K].
        thresholds: float [K], of `conformal_thresholds`.
    """
    probabilities = np.asarray(probabilities, np.float64)
    inside = probabilities >= thresholds  # not so where a threshold is NaN
    inside[np.arange(len(inside)), probabilities.argmax(-1)] = True
    return inside
