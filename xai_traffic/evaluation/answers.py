"""What a calibrated run answers beside a class: the classes that may be, and "unknown"."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from xai_traffic.errors import RunError
from xai_traffic.evaluation.confidence import thresholds_of
from xai_traffic.evaluation.conformal import prediction_sets
from xai_traffic.evaluation.unknown_scores import known_scores
from xai_traffic.training.calibration import tempered
from xai_traffic.training.run import Run

UNKNOWN = "unknown"
"""What a session is called that looks like nothing that was learnt."""


def asks_unknown(run: Run, unknown: bool | None) -> bool:
    """Return whether the unknown rule is on.

    Args:
        unknown: as the user wants it; None leaves it to the calibration.

    Raises:
        RunError: it is wanted, and there is no calibration.
    """
    if run.calibration is None:
        if unknown:
            raise RunError(
                f"{run.path} has no calibration, so nothing says what is unknown: run "
                f"`xai-traffic calibrate {run.path} --unknown energy`"
            )
        return False
    return run.calibration.record["unknown"]["on"] if unknown is None else unknown


def needs_features(run: Run, unknown: bool) -> bool:
    """Return whether the unknown rule looks at features, where it is on."""
    return unknown and bool(run.calibration.record["unknown"]["features"])


def answers(
    run: Run, logits: np.ndarray, features: np.ndarray | None, unknown: bool
) -> Iterator[dict[str, Any]]:
    """Yield for each session what its verdict says more than probabilities, as JSON values.

    `prediction_set`, the classes whose calibrated probability reaches their threshold; and where
    the unknown rule is on `label` ("unknown" or the nearest class), `nearest_label`,
    `unknown_score` and `unknown_rule` in words.

    Args:
        run: calibrated.
        logits: float32 [n, K], not calibrated.
        features: float32 [n, D], where `needs_features`.
        unknown: whether the rule is on.
    """
    calibration = run.calibration
    rule = calibration.record["unknown"]
    inside = prediction_sets(tempered(logits, calibration.temperature), thresholds_of(calibration))
    if unknown:
        learnt = [run.classes.index(name) for name in calibration.record["learnt"]]
        scores = known_scores(rule["score"], logits[:, learnt], features, calibration.features)
        threshold = -np.inf if rule["threshold"] is None else rule["threshold"]
    for row, best in enumerate(logits.argmax(-1)):
        own = np.flatnonzero(inside[row])
        said: dict[str, Any] = {"prediction_set": [run.classes[k] for k in own]}
        if unknown:
            nearest = run.classes[best]
            said |= {
                "label": UNKNOWN if scores[row] < threshold else nearest,
                "nearest_label": nearest,
                "unknown_score": round(float(scores[row]), 6),
                "unknown_rule": rule["rule"],
            }
        yield said
