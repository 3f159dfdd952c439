"""How well a score tells sessions of known classes from sessions of classes never seen.

A score is higher for sessions that look known. A known session that is accepted is a true positive,
an unknown one that is accepted a false positive.
"""

from __future__ import annotations

import numpy as np


def placements(known: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Return the part of known sessions that score above each unknown one, ties by half.

    Their mean is the area under the ROC curve (Hanley and McNeil, Radiology 1982).

    Args:
        known: scores float [N].
        unknown: scores float [M].

    Returns:
        float64 [M].
    """
    ranked = np.sort(known, kind="stable")
    not_above = [np.searchsorted(ranked, unknown, side) for side in ("left", "right")]
    return 1 - (not_above[0] + not_above[1]) / (2 * len(known))


def false_positive_rate(
    known: np.ndarray, unknown: np.ndarray, true_positive_rate: float = 0.95
) -> float:
    """Return the part of unknown sessions accepted where that part of the known ones is, or more.

    Args:
        known: scores float [N].
        unknown: scores float [M].
    """
    keep = max(int(np.ceil(len(known) * true_positive_rate - 1e-9)), 1)
    threshold = np.partition(known, len(known) - keep)[len(known) - keep]
    return float((np.asarray(unknown) >= threshold).mean())


def acceptance_curve(
    known: np.ndarray, unknown: np.ndarray, right: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return (part of the unknown, part of the known) accepted at each threshold, highest first.

    Both float64 [T + 1], from (0, 0) on: the ROC curve; with `right` the OSCR curve.

    Args:
        known: scores float [N].
        unknown: scores float [M].
        right: bool [N]; only known sessions that are also judged rightly then count.
    """
    scores = np.concatenate([known, unknown])
    counts = np.ones(len(known)) if right is None else np.asarray(right, np.float64)
    good = np.concatenate([counts, np.zeros(len(unknown))])
    bad = np.concatenate([np.zeros(len(known)), np.ones(len(unknown))])
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last = np.flatnonzero(np.r_[ranked[1:] != ranked[:-1], True])
    good, bad = (np.cumsum(part[order])[last] for part in (good, bad))
    return np.append(0.0, bad / len(unknown)), np.append(0.0, good / len(known))


def open_set_classification_rate(
    known: np.ndarray, unknown: np.ndarray, right: np.ndarray
) -> float:
    """Return the area under correct classification rate over false positive rate (OSCR).

    Dhamija, Günther and Boult, "Reducing Network Agnostophobia", NeurIPS 2018. At most the accuracy
    on known sessions, reached where every unknown one scores below all that are judged rightly.

    Args:
        known: scores float [N].
        unknown: scores float [M].
        right: bool [N], whether the known session's class is judged rightly.
    """
    accepted, correct = acceptance_curve(known, unknown, right)
    return float(np.trapezoid(correct, accepted))
