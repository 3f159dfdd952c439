"""What is gained by leaving the least sure verdicts to somebody else.

Geifman and El-Yaniv, "Selective Classification for Deep Neural Networks", NeurIPS 2017: coverage is
the part of sessions that are judged, those of the highest confidence first, risk the part of these
that is judged wrongly. The area under the curve (AURC) is the mean risk over all coverages; what is
above that of an order that puts all wrong verdicts last is the excess (Geifman, Uziel and El-Yaniv,
"Bias-Reduced Uncertainty Estimation", ICLR 2019).
"""

from __future__ import annotations

import numpy as np


def risk_coverage(confidence: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Return the risk where 1, 2, ... N sessions are judged, float64 [N].

    Sessions of equal confidence are in no order: each counts with the mean of them all.

    Args:
        confidence: float [N].
        wrong: bool [N].
    """
    order = np.argsort(-np.asarray(confidence, np.float64), kind="stable")
    ranked = np.asarray(confidence)[order]
    wrong = np.asarray(wrong, np.float64)[order]
    begins = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]][: len(ranked)])
    sizes = np.diff(np.append(begins, len(ranked)))
    means = np.add.reduceat(wrong, begins) / sizes if len(wrong) else wrong
    return np.cumsum(np.repeat(means, sizes)) / np.arange(1, len(wrong) + 1)


def area_under_risk_coverage(risks: np.ndarray) -> tuple[float, float]:
    """Return AURC, and the excess of it that a better order would save.

    Args:
        risks: float [N], of `risk_coverage`.
    """
    sessions = len(risks)
    wrong = round(risks[-1] * sessions)
    counts = np.arange(1, wrong + 1)
    best = (counts / (sessions - wrong + counts)).sum() / sessions
    area = float(risks.mean())
    return area, max(area - float(best), 0.0)
