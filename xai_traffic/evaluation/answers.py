"""What a calibrated run answers beside a class: the classes that may be, and "unknown"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from xai_traffic.errors import RunError
from xai_traffic.evaluation.confidence import thresholds_of
from xai_traffic.evaluation.conformal import prediction_sets
from xai_traffic.evaluation.unknown_scores import SCORES, known_scores
from xai_traffic.training.calibration import tempered
from xai_traffic.training.run import Run

UNKNOWN = "unknown"
"""What a session is called that looks like nothing that was learnt."""


def nearest_class(verdict: Mapping[str, Any]) -> str:
    """Return the class that a verdict is nearest to, its label unless that is "unknown"."""
    return verdict.get("nearest_label", verdict["label"])


def verdict_words(verdict: Mapping[str, Any]) -> str:
    """Return a verdict's label, with the nearest class behind it where that is another."""
    label, nearest = verdict["label"], nearest_class(verdict)
    return label if label == nearest else f"{label}, nearest {nearest}"


def is_wrong(verdict: Mapping[str, Any], truth: str | None) -> bool:
    """Tell whether a verdict names a class that the session is not of; "unknown" names none."""
    return truth not in (None, verdict["label"]) and verdict["label"] == nearest_class(verdict)


def asks_unknown(run: Run, unknown: bool | None) -> bool:
    """Return whether the unknown rule is on.

    Args:
        unknown: as the user wants it; None leaves it to the calibration.

    Raises:
        RunError: it is wanted, and there is no calibration, or none that can be followed.
    """
    if run.calibration is None:
        if unknown:
            raise RunError(
                f"{run.path} has no calibration, so nothing says what is unknown: run "
                f"`xai-traffic calibrate {run.path} --unknown energy`"
            )
        return False
    rule = run.calibration.record["unknown"]
    if rule["score"] not in SCORES:
        raise RunError(
            f"the calibration of {run.path} asks for an unknown score {rule['score']!r}: run "
            f"`xai-traffic calibrate {run.path}` again"
        )
    return rule["on"] if unknown is None else unknown


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
