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
    units: np.ndarray,
    prevalences: Sequence[float] = PREVALENCES,
    sessions_a_day: int = SESSIONS_A_DAY,
) -> dict:
    """Return detection and false-alarm rates, and what they mean at each prevalence.

    Rates have exact intervals (Clopper and Pearson, Biometrika 1934), since a test split without a
    false alarm does not prove that there are none; where units have several sessions, of as many as
    they are worth (Korn and Graubard, Survey Methodology 1998). Precision is least where the
    detection rate is lowest and the false-alarm rate highest of these, so its interval is wide
    rather than narrow.

    Args:
        alerts: bool [N], sessions that the detector calls malware.
        malware: bool [N], sessions that are.
        units: int [N], see `split_units.units_of`.
        prevalences: parts of all sessions that are malware.
        sessions_a_day: of the network.

    Returns:
        `detection_rate` and `false_alarm_rate` (value, low, high, `of` so many sessions, `units`),
        None where the split has no such sessions; `sessions_a_day`; `at`, one dict a prevalence:
        `prevalence`, `precision`, `alerts_a_day`, `false_alerts_a_day` (value, low, high).
    """
    alerts, malware = np.asarray(alerts, bool), np.asarray(malware, bool)
    detected, false = (_rate(alerts[side], units[side]) for side in (malware, ~malware))
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


def _rate(alerts: np.ndarray, units: np.ndarray) -> dict[str, float | int] | None:
    """Return the part of some sessions that are called malware, with its exact interval."""
    if not len(alerts):
        return None
    _, unit, sizes = np.unique(units, return_inverse=True, return_counts=True)
    part, worth = float(alerts.mean()), float(len(alerts))
    if len(sizes) < len(alerts):
        worth = _worth(np.bincount(unit, alerts), sizes)
    hits, tail = part * worth, (1 - CONFIDENCE) / 2
    low = stats.beta.ppf(tail, hits, worth - hits + 1) if hits else 0.0
    high = stats.beta.ppf(1 - tail, hits + 1, worth - hits) if hits < worth else 1.0
    found = {"value": part, "low": float(low), "high": float(high)}
    return {**found, "of": len(alerts), "units": len(sizes)}


def _worth(hits: np.ndarray, sizes: np.ndarray) -> float:
    """Return how many sessions, each a unit, would show as much as these units do.

    Where all sessions agree nobody knows how alike those of a unit are: each unit counts as one.

    Args:
        hits, sizes: of each unit, sessions.
    """
    units, sessions = len(sizes), int(sizes.sum())
    part = hits.sum() / sessions
    if part in (0, 1) or units == 1:
        return float(units)
    variance = units / (units - 1) * ((hits - part * sizes) ** 2).sum() / sessions**2
    worth = part * (1 - part) / variance if variance else sessions
    level = 1 - (1 - CONFIDENCE) / 2
    few = stats.t.ppf(level, sessions - 1) / stats.t.ppf(level, units - 1)
    return float(min(worth * few**2, sessions))
