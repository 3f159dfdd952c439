"""Numbers with their intervals in words, the same way in terminals, on pages and in cards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def with_interval(
    found: Mapping[str, Any] | float | None,
    say: Callable[[float], str],
    unit: str = "",
    missing: str = "",
) -> str:
    """Return a number with the ends of its interval: "98.97 % (98.50, 99.39)".

    Args:
        found: the number, or `value` or `mean` with `low` and `high`, which are None or not there
            where it has no interval.
        say: a number in words, as `"{:.2f}".format`.
        unit: behind the number, with the space before it.
        missing: where there is no number.
    """
    if not isinstance(found, Mapping):
        return missing if found is None else f"{say(found)}{unit}"
    value = found["value"] if "value" in found else found["mean"]
    if value is None:
        return missing
    low, high = found.get("low"), found.get("high")  # evaluations of earlier versions have none
    if low is None or high is None:
        return f"{say(value)}{unit}"
    return f"{say(value)}{unit} ({say(low)}, {say(high)})"


def ends(found: Mapping[str, Any], say: Callable[[float], str]) -> str:
    """Return an interval alone: "98.5 to 99.4", or that it would be one of too few."""
    if found["low"] is None or found["high"] is None:
        return "of too few"
    return f"{say(found['low'])} to {say(found['high'])}"


def hundredfold(form: str) -> Callable[[float], str]:
    """Return what tells a part of all in hundredths, with a format such as ".1f"."""
    return lambda part: format(100 * part, form)
