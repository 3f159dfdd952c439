"""Temperature scaling: one number that makes probabilities mean what they say.

Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2: logits are divided
by T, chosen where the negative log-likelihood of held-out sessions is lowest. No verdict changes.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.special import softmax

COLDEST, HOTTEST = 0.05, 20.0
"""Temperatures between which one is looked for."""


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature with the lowest negative log-likelihood.

    The likelihood is convex in 1 / T, so the one root of its slope is found. Where every session is
    judged rightly the likelihood rises for ever as T falls, and nothing can be told of
    T: 1 is returned.

    Args:
        logits: float [N, K].
        labels: int [N].

    Raises:
        ValueError: there are no sessions.
    """
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    if not len(labels):
        raise ValueError("no sessions to fit a temperature to")
    own = logits[np.arange(len(labels)), labels]
    if (own >= logits.max(-1)).all():
        return 1.0

    def slope(inverse: float) -> float:
        return float(((softmax(inverse * logits, axis=-1) * logits).sum(-1) - own).mean())

    if slope(1 / COLDEST) <= 0:
        return COLDEST
    if slope(1 / HOTTEST) >= 0:
        return HOTTEST
    return float(1 / brentq(slope, 1 / HOTTEST, 1 / COLDEST, xtol=1e-12))
