"""Proper scores: lowest on average where the probabilities are the true ones.

Gneiting and Raftery, "Strictly Proper Scoring Rules, Prediction, and Estimation", JASA 2007.
"""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp


def negative_log_likelihood(
    labels: np.ndarray, logits: np.ndarray, temperature: float = 1.0
) -> np.ndarray:
    """Return -log p(label) of each session in nats, float64 [N].

    Args:
        labels: int [N].
        logits: float [N, K]; from them, not from probabilities, so that nothing underflows.
        temperature: that they are divided by.
    """
    scaled = np.asarray(logits, np.float64) / temperature
    return logsumexp(scaled, axis=-1) - scaled[np.arange(len(labels)), labels]


def brier(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the Brier score of each session, float64 [N] in 0..2: the sum over all classes.

    Brier, "Verification of Forecasts Expressed in Terms of Probability", 1950. Of two classes it is
    twice the score that is told of one of them alone.

    Args:
        labels: int [N].
        probabilities: float [N, K].
    """
    wrong = np.asarray(probabilities, np.float64).copy()
    wrong[np.arange(len(labels)), labels] -= 1
    return (wrong**2).sum(-1)
