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
    known = detected is not None and false is not None
    return {
        "detection_rate": detected,
        "false_alarm_rate": false,
        "sessions_a_day": sessions_a_day,
        "at": [at_prevalence(detected, false, p, sessions_a_day) for p in prevalences if known],
    }


def at_prevalence(
    detected: dict[str, float], false: dict[str, float], prevalence: float, sessions_a_day: int
) -> dict:
    """Return what detection and false-alarm rates mean at one prevalence.

    Args:
        detected, false: the rates, each with value, low and high.
        prevalence: part of all sessions that is malware.
        sessions_a_day: of the network.

    Returns:
        one of `at`, see `base_rates`.
    """
    worst, best = (detected["low"], false["high"]), (detected["high"], false["low"])
    bounds = {"value": (detected["value"], false["value"]), "low": worst, "high": best}
    true = {name: prevalence * rate for name, (rate, _) in bounds.items()}
    wrong = {name: (1 - prevalence) * rate for name, (_, rate) in bounds.items()}
    precision = {
        name: true[name] / (true[name] + wrong[name]) if true[name] + wrong[name] else None
        for name in bounds
    }
    # False alarms are most where precision is lowest.
    alarms = {"value": wrong["value"], "low": wrong["high"], "high": wrong["low"]}
    return {
        "prevalence": prevalence,
        "precision": precision,
        "alerts_a_day": {
            name: sessions_a_day * (true[name] + alarms[name]) for name in ("value", "low", "high")
        },
        "false_alerts_a_day": {
            name: sessions_a_day * alarms[name] for name in ("value", "low", "high")
        },
    }


def _rate(hits: int, of: int) -> dict[str, float | int] | None:
    if not of:
        return None
    found = stats.binomtest(hits, of).proportion_ci(CONFIDENCE, method="exact")
    return {"value": hits / of, "low": float(found.low), "high": float(found.high), "of": of}
