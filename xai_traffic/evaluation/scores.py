"""Scores of a classifier, from its probabilities and the true labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn import metrics

from xai_traffic.evaluation.calibration import expected_calibration_error


def score(
    labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], *, top: int = 5
) -> dict:
    """Return every score of one split as JSON values.

    Args:
        labels: int32 [N], indices into `classes`.
        probabilities: float32 [N, K], rows sum to one.
        classes: K names.
        top: k of the top-k accuracy; left out where there are no more classes than that.

    Returns:
        `accuracy`, `macro_f1`, `mcc`, `roc_auc` and `pr_auc` (one against the rest, mean over the
        classes present in `labels`), `top_k_accuracy`, `expected_calibration_error`,
        `per_class` (precision, recall, f1, support), `confusion_matrix` (counts, true class by
        row) and `sessions`. Macro-F1 is the mean over classes that occur in `labels` or among the
        predictions; a class that does not occur anywhere has no score and is listed with support 0.

    Raises:
        ValueError: there is nothing to score, or the shapes do not fit.
    """
    labels = np.asarray(labels)
    probabilities = np.asarray(probabilities, np.float64)
    if not len(labels):
        raise ValueError("no sessions to score")
    if probabilities.shape != (len(labels), len(classes)):
        raise ValueError(
            f"probabilities {probabilities.shape} do not fit {len(labels)} labels "
            f"and {len(classes)} classes"
        )
    predictions = probabilities.argmax(-1)
    every = np.arange(len(classes))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        labels, predictions, labels=every, zero_division=0.0
    )
    seen = np.union1d(labels, predictions)
    result = {
        "sessions": len(labels),
        "accuracy": float((predictions == labels).mean()),
        "macro_f1": float(f1[seen].mean()),
        "mcc": matthews_correlation(labels, predictions, len(classes)),
        **_areas(labels, probabilities),
        "expected_calibration_error": expected_calibration_error(labels, probabilities),
        "per_class": {
            name: {
                "precision": float(precision[k]),
                "recall": float(recall[k]),
                "f1": float(f1[k]),
                "support": int(support[k]),
            }
            for k, name in enumerate(classes)
        },
        "confusion_matrix": metrics.confusion_matrix(labels, predictions, labels=every).tolist(),
        "classes": list(classes),
    }
    if len(classes) > top:
        best = np.argpartition(-probabilities, top - 1, axis=-1)[:, :top]
        result[f"top_{top}_accuracy"] = float((best == labels[:, None]).any(-1).mean())
    return result


def matthews_correlation(labels: np.ndarray, predictions: np.ndarray, classes: int) -> float:
    """Return the multiclass Matthews correlation, 0 where it is undefined (Gorodkin 2004)."""
    counts = np.zeros((classes, classes))
    np.add.at(counts, (labels, predictions), 1)
    true, predicted, total = counts.sum(1), counts.sum(0), counts.sum()
    above = np.trace(counts) * total - true @ predicted
    below = np.sqrt(total**2 - predicted @ predicted) * np.sqrt(total**2 - true @ true)
    return float(above / below) if below else 0.0


def _areas(labels: np.ndarray, probabilities: np.ndarray) -> dict:
    roc, pr = [], []
    for k in range(probabilities.shape[1]):
        positive = labels == k
        if positive.any() and not positive.all():
            roc.append(metrics.roc_auc_score(positive, probabilities[:, k]))
            pr.append(metrics.average_precision_score(positive, probabilities[:, k]))
    return {
        "roc_auc": float(np.mean(roc)) if roc else None,
        "pr_auc": float(np.mean(pr)) if pr else None,
    }
