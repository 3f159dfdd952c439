"""How far a probability may be taken at its word."""

from __future__ import annotations

import numpy as np


def reliability(
    labels: np.ndarray, probabilities: np.ndarray, bins: int = 15
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the reliability diagram of the predicted class.

    Args:
        labels: int [N].
        probabilities: float [N, K].
        bins: equal widths over (0, 1].

    Returns:
        (confidence [bins], accuracy [bins], count [bins]); means are 0 in an empty bin.
    """
    return binned(probabilities.max(-1), probabilities.argmax(-1) == labels, bins)


def binned(
    confidence: np.ndarray, correct: np.ndarray, bins: int = 15
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what `reliability` does, of confidences float [N] and whether they held, bool [N]."""
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    most = np.maximum(count, 1)
    return (
        np.bincount(index, confidence, bins) / most,
        np.bincount(index, correct, bins) / most,
        count,
    )


def expected_calibration_error(
    labels: np.ndarray, probabilities: np.ndarray, bins: int = 15
) -> float:
    """Return the mean gap of confidence and accuracy over bins (Guo et al. 2017, equation 3)."""
    return binned_error(*reliability(labels, probabilities, bins))


def binned_error(confidence: np.ndarray, accuracy: np.ndarray, count: np.ndarray) -> float:
    """Return the calibration error of bins, each float [bins], of `reliability`."""
    return float((count * np.abs(confidence - accuracy)).sum() / max(count.sum(), 1))
