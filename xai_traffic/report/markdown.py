"""Names and numbers as Markdown: whatever comes out of captures is made harmless here.

A name stands in a code span, in which nothing is markup, link or HTML, of whatever renderer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from xai_traffic.evaluation.bootstrap import WILSON
from xai_traffic.report.intervals import hundredfold, with_interval
from xai_traffic.terminal import printable


def code(name: object) -> str:
    """Return a name as a code span that nothing in it can end, also within a table."""
    # A bar ends a cell of a table even here, and a backslash before it saves it in some only.
    text = printable(name).replace("|", "\\x7c")
    if not text.strip():
        return "(no name)"
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    space = " " if longest or text != text.strip() else ""
    return f"{fence}{space}{text}{space}{fence}"


def codes(names: Iterable[object]) -> str:
    """Return names as a list in a line, or "none"."""
    return ", ".join(map(code, names)) or "none"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a table; the cells are Markdown already."""
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return [*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows), ""]


def bullets(items: Iterable[str]) -> list[str]:
    """Return the lines of a list."""
    return [*(f"- {item}" for item in items), ""]


def percent(found: dict[str, Any] | float | None) -> str:
    """Return a part of all as per cent: "98.97 % (98.50, 99.39)", the interval where there is one.

    Args:
        found: the part, or `value` or `mean` with `low` and `high`.
    """
    return with_interval(found, hundredfold(".2f"), " %")


def points(found: dict[str, Any] | float | None) -> str:
    """Return a difference of two parts in points: "5.73 points (4.74, 6.71)"."""
    return with_interval(found, hundredfold(".2f"), " points")


def number(found: dict[str, Any] | float | None) -> str:
    """Return a number like "0.0250 (0.0179, 0.0331)"."""
    return with_interval(found, "{:.4g}".format)


def part_of(hits: int, of: int) -> dict[str, float]:
    """Return a part with its 95 % interval (Wilson, JASA 1927) as `percent` takes it."""
    part, least = hits / of, WILSON / of
    middle = (part + least / 2) / (1 + least)
    reach = np.sqrt(WILSON * (part * (1 - part) + least / 4) / of) / (1 + least)
    return {"value": part, "low": max(middle - reach, 0.0), "high": min(middle + reach, 1.0)}
