"""Adjusted mutual information of values and labels, with what chance alone would give taken off.

Vinh, Epps and Bailey, "Information theoretic measures for clusterings comparison" (JMLR 2010), as
scikit-learn computes it: exact, normalised by the mean of both entropies. Its time grows with
classes x sessions for each field, so above SAMPLE sessions that many are drawn.
"""

from __future__ import annotations

import numpy as np
from sklearn.metrics import adjusted_mutual_info_score

SAMPLE = 10_000
"""Most sessions that it is computed over."""


def adjusted_mutual_information(codes: np.ndarray, labels: np.ndarray) -> float:
    """Return the AMI of values int [N] and labels int [N]: 0 by chance, 1 where each tells the
    other; never below 0."""
    if len(codes) == 0 or (codes == codes[0]).all() or (labels == labels[0]).all():
        return 0.0
    return max(float(adjusted_mutual_info_score(labels, codes)), 0.0)
