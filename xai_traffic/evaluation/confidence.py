"""How far the probabilities of a split may be believed, with intervals over units of sessions."""

from __future__ import annotations

from typing import Any

import numpy as np

from xai_traffic.evaluation.bootstrap import unit_intervals, widened
from xai_traffic.evaluation.calibration import binned, binned_error
from xai_traffic.evaluation.conformal import prediction_sets
from xai_traffic.evaluation.proper_scores import brier, negative_log_likelihood
from xai_traffic.evaluation.risk_coverage import area_under_risk_coverage, risk_coverage
from xai_traffic.training.calibration import Calibration, tempered

COVERAGES = (0.5, 0.8, 0.9, 0.95, 0.99, 1.0)
"""Parts of the sessions at which the risk is told."""

POINTS = 200
"""Most points of the risk-coverage curve."""


def thresholds_of(calibration: Calibration) -> np.ndarray:
    """Return the conformal thresholds of a calibration, float64 [K], as `conformal` has them."""
    held = calibration.record["sets"]["thresholds"]
    return np.array([held.get(name, np.nan) for name in calibration.record["classes"]])


def assess_confidence(
    labels: np.ndarray,
    logits: np.ndarray,
    classes: list[str],
    units: np.ndarray,
    calibration: Calibration | None,
    seed: int = 0,
) -> dict[str, Any]:
    """Return what is known of the probabilities of one split, as JSON values.

    Args:
        labels: int [N].
        logits: float32 [N, K], not calibrated.
        classes: K names.
        units: int [N], see `split_units.units_of`.
        calibration: of the run, if there is one.

    Returns:
        `temperature`; `before` and, where the run is calibrated, `after` it: `nll`, `brier`,
        `expected_calibration_error`; `aurc` and `excess_aurc`; `risk_coverage`, a list of
        (coverage, risk), and `risk_at` some coverages, both by the probability that the run gives;
        `sets`, where calibrated: `promised`, `coverage`, `size` and `single` (parts of the sessions
        that have their class in the set, classes in a set, parts of the sessions whose set is one
        class), and `per_class` `sessions`, `coverage`, `size`. Each number is `mean`, `low` and
        `high` (see `unit_intervals`).
    """
    confidence = tempered(logits, calibration.temperature if calibration else 1.0).max(-1)
    order = np.argsort(-confidence, kind="stable")  # so that sorting again costs little
    labels, logits, units, confidence = (
        part[order] for part in (np.asarray(labels), logits, units, confidence)
    )
    correct = logits.argmax(-1) == labels
    temperatures = {"before": 1.0}
    if calibration is not None:
        temperatures["after"] = calibration.temperature
    means, told, sure = [], [], []
    for when, temperature in temperatures.items():
        probabilities = tempered(logits, temperature)
        means += [
            negative_log_likelihood(labels, logits, temperature),
            brier(labels, probabilities),
        ]
        told += [(when, "nll"), (when, "brier")]
        sure.append(probabilities.max(-1))
    of_class: list[np.ndarray] = []
    if calibration is not None:
        inside = prediction_sets(
            tempered(logits, calibration.temperature), thresholds_of(calibration)
        )
        size = inside.sum(-1)
        covered = inside[np.arange(len(labels)), labels]
        means += [covered, size, size == 1]
        told += [("sets", "coverage"), ("sets", "size"), ("sets", "single")]
        of_class = [covered.astype(np.float64), size.astype(np.float64)]
    columns = np.stack(means, axis=1).astype(np.float64)

    def statistics(rows: np.ndarray) -> np.ndarray:
        held, seen = correct[rows], labels[rows]
        errors = [binned_error(*binned(own[rows], held)) for own in sure]
        counts = np.bincount(seen, minlength=len(classes))
        with np.errstate(invalid="ignore"):
            per_class = [np.bincount(seen, own[rows], len(classes)) / counts for own in of_class]
        risks = risk_coverage(confidence[rows], ~held)
        at = risks[np.ceil(np.array(COVERAGES) * len(rows) - 1e-9).astype(int) - 1]
        areas = area_under_risk_coverage(risks)
        return np.concatenate([columns[rows].mean(0), errors, areas, at, *per_class])

    errors_at = range(columns.shape[1], columns.shape[1] + len(sure))
    begin = errors_at.stop + 2 + len(COVERAGES)  # of the classes' statistics
    of_each = [max(len(np.unique(units[labels == k])), 1) for k in range(len(classes))]
    rests_on = {begin + k: count for k, count in enumerate(of_each * len(of_class))}
    found = unit_intervals(statistics, units, above=errors_at, rests_on=rests_on, seed=seed)
    result: dict[str, Any] = {
        "temperature": calibration.temperature if calibration else None,
        "sessions": len(labels),
        "units": len(np.unique(units)),
        **{when: {} for when in temperatures},
    }
    if calibration is not None:
        result["sets"] = {"promised": calibration.record["sets"]["coverage"]}
    told += [(when, "expected_calibration_error") for when in temperatures]
    for (part, name), value in zip(told, found, strict=False):
        result[part][name] = value
    if calibration is not None:
        for name in ("coverage", "single"):
            result["sets"][name] = widened(result["sets"][name], result["units"])
    result["aurc"], result["excess_aurc"], *rest = found[len(told) :]
    surest = [len(np.unique(units[: int(np.ceil(part * len(units)))])) for part in COVERAGES]
    result["risk_at"] = {
        str(part): widened(risk, count)
        for part, risk, count in zip(COVERAGES, rest, surest, strict=False)
    }
    if result["aurc"]["mean"] == 0:  # no error at all
        result["aurc"] |= {"low": 0.0, "high": result["risk_at"]["1.0"]["high"]}
    rest = rest[len(COVERAGES) :]
    risks = risk_coverage(confidence, ~correct)
    last = len(risks) - 1
    points = np.unique(np.linspace(0, last, POINTS).astype(int))
    result["risk_coverage"] = [[(k + 1) / len(risks), float(risks[k])] for k in points.tolist()]
    if calibration is not None:
        result["sets"]["per_class"] = {}
        for k in np.unique(labels).tolist():
            result["sets"]["per_class"][classes[k]] = {
                "sessions": int((labels == k).sum()),
                "coverage": widened(rest[k], of_each[k]),
                "size": rest[len(classes) + k],
            }
    return result
