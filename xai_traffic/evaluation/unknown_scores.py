"""Scores of how known a session looks: high for what was learnt, low for what never was.

    softmax            highest probability (Hendrycks and Gimpel, ICLR 2017): the reference
    max_logit          highest logit (Hendrycks et al., ICML 2022)
    energy             log sum exp of the logits, the energy with its sign turned (Liu et al.,
                       NeurIPS 2020)
    mahalanobis        distance to the nearest class mean under one covariance for all classes,
                       its sign turned (Lee et al., NeurIPS 2018; of the penultimate activations,
                       without their perturbed inputs), the covariance shrunk by Ledoit and Wolf
    nearest_neighbour  distance to the k-th nearest training session on the unit sphere of the
                       penultimate activations, its sign turned (Sun et al., ICML 2022)

The last two look at features: class means, covariance and neighbours are of training sessions, as
in their papers. Logits are those of the classes that were learnt, at temperature 1.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.special import logsumexp, softmax
from sklearn.covariance import ledoit_wolf_shrinkage

LOGITS = ("softmax", "max_logit", "energy")
FEATURES = ("mahalanobis", "nearest_neighbour")
SCORES = (*LOGITS, *FEATURES)

NEIGHBOUR = 10
"""The k of the nearest neighbour."""

TOLD = {
    "softmax": "the highest probability (at temperature 1)",
    "max_logit": "the highest logit",
    "energy": "minus the energy (the log sum exp of the logits)",
    "mahalanobis": "minus the Mahalanobis distance to the nearest class mean",
    "nearest_neighbour": f"minus the distance to the {NEIGHBOUR}th nearest training session",
}
"""What each score is, in words."""

BANK = 32 << 20
"""Bytes that the features of the training sessions may take, float32."""

_BLOCK = 1024


def fit_features(score: str, features: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Return what a score compares features with, as float32 arrays.

    Args:
        score: one of FEATURES.
        features: float [N, D], of training sessions.
        labels: int [N].
    """
    if score == "nearest_neighbour":
        return {"neighbours": _normalised(features).astype(np.float32)}
    features = np.asarray(features, np.float64)
    classes, place = np.unique(labels, return_inverse=True)
    means = np.stack([features[place == k].mean(0) for k in range(len(classes))])
    centred = features - means[place]
    shrinkage = ledoit_wolf_shrinkage(centred, assume_centered=True)
    covariance = centred.T @ centred / len(centred)
    width = len(covariance)
    variance = max(np.trace(covariance) / width, 1e-12)
    covariance *= 1 - shrinkage
    # Features that never vary would have no scale at all.
    covariance[np.diag_indices(width)] += max(shrinkage, 1e-6) * variance
    whitening = solve_triangular(cholesky(covariance, lower=True), np.eye(width), lower=True)
    return {"means": means.astype(np.float32), "whitening": whitening.astype(np.float32)}


def known_scores(
    score: str,
    logits: np.ndarray,
    features: np.ndarray | None = None,
    fitted: dict[str, np.ndarray] | None = None,
) -> np.ndarray:
    """Return how known each session looks, float64 [N].

    Args:
        score: one of SCORES.
        logits: float [N, K], of the classes that were learnt.
        features: float [N, D], for FEATURES.
        fitted: of `fit_features`, for FEATURES.

    Raises:
        ValueError: there is no such score.
    """
    if score in LOGITS:
        logits = np.asarray(logits, np.float64)
        if score == "energy":
            return logsumexp(logits, axis=-1)
        return (softmax(logits, axis=-1) if score == "softmax" else logits).max(-1)
    compare = {"mahalanobis": _mahalanobis, "nearest_neighbour": _neighbour}.get(score)
    if compare is None:
        raise ValueError(f"score {score!r} is unknown: choose one of {', '.join(SCORES)}")
    parts = [features[start : start + _BLOCK] for start in range(0, len(features), _BLOCK)]
    return np.concatenate([np.zeros(0), *(compare(part, fitted) for part in parts)])


def _mahalanobis(features: np.ndarray, fitted: dict[str, np.ndarray]) -> np.ndarray:
    whitening = fitted["whitening"].astype(np.float64)
    there = features @ whitening.T
    means = fitted["means"].astype(np.float64) @ whitening.T
    squares = [((there - mean) ** 2).sum(-1) for mean in means]
    return -np.sqrt(np.min(squares, axis=0))


def _neighbour(features: np.ndarray, fitted: dict[str, np.ndarray]) -> np.ndarray:
    neighbours = fitted["neighbours"]
    cosines = _normalised(features).astype(np.float32) @ neighbours.T
    place = len(neighbours) - min(NEIGHBOUR, len(neighbours))
    kth = np.partition(cosines, place, axis=-1)[:, place].astype(np.float64)
    return -np.sqrt(np.maximum(2 - 2 * kth, 0))


def _normalised(features: np.ndarray) -> np.ndarray:
    features = np.asarray(features, np.float64)
    return features / np.maximum(np.linalg.norm(features, axis=-1, keepdims=True), 1e-12)


def acceptance_threshold(scores: np.ndarray, accept: float) -> float:
    """Return the score below which a session is called unknown; -inf where none is.

    With n held-out sessions of known classes it is the floor((n + 1) (1 - accept))-th lowest of
    their scores: a new one that is exchangeable with them is accepted with at least that
    probability (split conformal prediction with one class, Vovk et al. 2005).

    Args:
        scores: float [n], of `known_scores`.
        accept: in 0..1.
    """
    rank = int(np.floor((len(scores) + 1) * (1 - accept) + 1e-9))
    return float(np.sort(scores)[rank - 1]) if 1 <= rank <= len(scores) else -np.inf
