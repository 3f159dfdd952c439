"""What a detector's scores become where malware is rare: precision, and alerts a day.

A test split is half malware, a network is not. Axelsson, "The base-rate fallacy and its
implications for the difficulty of intrusion detection", ACM CCS 1999.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

PREVALENCES = (1e-2, 1e-3, 1e-4, 1e-5)
SESSIONS_A_DAY = 1_000_000
CONFIDENCE = 0.95


def base_rates(
    alerts: np.ndarray,
    malware: np.ndarray,
    prevalences: Sequence[float] = PREVALENCES,
    sessions_a_day: int = SESSIONS_A_DAY,
) -> dict:
    """Return detection and false-alarm rates, and what they mean at each prevalence.

    Rates have exact intervals (Clopper and Pearson, Biometrika 1934), since a test split without a
    false alarm does not prove that there are none. Precision is least where the detection rate is
    lowest and the false-alarm rate highest of these, so its interval is wide rather than narrow.

    Args:
        alerts: bool [N], sessions that the detector calls malware.
        malware: bool [N], sessions that are.
        prevalences: parts of all sessions that are malware.
        sessions_a_day: of the network.

    Returns:
        `detection_rate` and `false_alarm_rate` (value, low, high, of), None where the split has no
        such sessions; `sessions_a_day`; `at`, one dict a prevalence: `prevalence`, `precision`,
        `alerts_a_day`, `false_alerts_a_day` (value, low, high).
    """
    alerts, malware = np.asarray(alerts, bool), np.asarray(malware, bool)
    detected = _rate(int((alerts & malware).sum()), int(malware.sum()))
    false = _rate(int((alerts & ~malware).sum()), int((~malware).sum()))
    result = {
        "detection_rate": detected,
        "false_alarm_rate": false,
        "sessions_a_day": sessions_a_day,
        "at": [],
    }
    if detected is None or false is None:
        return result
    bounds = {
        "value": (detected["value"], false["value"]),
        "low": (detected["low"], false["high"]),
        "high": (detected["high"], false["low"]),
    }
    for prevalence in prevalences:
        true = {name: prevalence * d for name, (d, _) in bounds.items()}
        wrong = {name: (1 - prevalence) * f for name, (_, f) in bounds.items()}
        few, many = wrong["high"], wrong["low"]  # false alarms are most where precision is lowest
        result["at"].append(
            {
                "prevalence": prevalence,
                "precision": {
                    name: true[name] / (true[name] + wrong[name])
                    if true[name] + wrong[name]
                    else None
                    for name in bounds
                },
                "alerts_a_day": {
                    "value": sessions_a_day * (true["value"] + wrong["value"]),
                    "low": sessions_a_day * (true["low"] + few),
                    "high": sessions_a_day * (true["high"] + many),
                },
                "false_alerts_a_day": {
                    "value": sessions_a_day * wrong["value"],
                    "low": sessions_a_day * few,
                    "high": sessions_a_day * many,
                },
            }
        )
    return result


def _rate(hits: int, of: int) -> dict[str, float | int] | None:
    if not of:
        return None
    found = stats.binomtest(hits, of).proportion_ci(CONFIDENCE, method="exact")
    return {"value": hits / of, "low": float(found.low), "high": float(found.high), "of": of}
