"""A comparison of runs as tables to read and as CSV to reckon with."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from xai_traffic.evaluation.compare import BESIDE, Comparison
from xai_traffic.evaluation.run_summary import score_columns
from xai_traffic.report.intervals import hundredfold, with_interval
from xai_traffic.terminal import printable

BEST = "*"
"""Stands behind the best of the scores that may be compared."""


LEAST_P = 1e-4
"""Smaller probabilities are told as such."""


def told_once(comparison: Comparison) -> str:
    """Return a line with what is the same for all runs, "" where nothing is."""
    told = [
        f"{name} {_shown(value)}"
        for name, value in comparison.common.items()
        if value not in (None, "")
    ]
    return f"all: {', '.join(told)}" if told else ""


def run_table(comparison: Comparison) -> tuple[list[str], list[list[object]]]:
    """Return (columns, cells) of one row a run, without columns that are empty or told once."""
    scores = score_columns(comparison.split)
    rows = [dict(row) for row in comparison.runs]
    for row in rows:
        best, intervals = (row.pop(name) for name in BESIDE)
        row.pop("path")
        row["params_sha256"] = (row["params_sha256"] or "")[:8]
        for name in scores:
            row[name] = _score(row[name], intervals.get(name), name in best)
    return _table(rows, comparison.common)


def group_table(comparison: Comparison) -> tuple[list[str], list[list[object]]]:
    """Return (columns, cells) of one row a group: mean ± standard deviation of each score."""
    rows = []
    for group in comparison.groups:
        row = {name: value for name, value in group.items() if name != "over"}
        for name in score_columns(comparison.split):
            row[name] = _spread(group[name], group["runs"])
        rows.append(row)
    return _table(rows, comparison.common)


def pair_table(pair: dict[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    """Return (title, columns, cells) of one set of classifiers on the same sessions, per cent."""
    title = (
        f"the same {pair['sessions']} sessions, {pair['units']} units, task {pair['task']}: per "
        "cent, with 95 % intervals, and how far behind the first, which these sessions chose"
    ) + ", LEAKY" * pair["leaky"]
    columns = ["classifier", "accuracy", "macro-F1", "accuracy behind", "macro-F1 behind", "p"]
    names, say, rows = ("accuracy", "macro_f1"), hundredfold(".2f"), []
    for one in pair["classifiers"]:
        row = [printable(one["name"]), *(with_interval(one[name], say) for name in names)]
        if "behind" in one:
            row += [with_interval(one["behind"][name], say) for name in names]
            p = one["mcnemar"]["p"]
            row.append(f"{p:.2g}" if p >= LEAST_P else f"< {LEAST_P:g}")
        rows.append(row + [""] * (len(columns) - len(row)))
    return title, columns, rows


def to_csv(comparison: Comparison) -> str:
    """Return one line a run, every column, numbers in full, paths as the files' own.

    The ends of an interval stand in columns of their own, `low` and `high` behind the score's name.
    """
    rows = []
    for own in comparison.runs:
        row = {name: value for name, value in own.items() if name not in BESIDE}
        for name, ends in own["intervals"].items():
            row[f"{name} low"], row[f"{name} high"] = ends or (None, None)
        rows.append(row)
    text = io.StringIO()
    table = csv.DictWriter(text, rows[0] if rows else (), lineterminator="\n")
    table.writeheader()
    for row in rows:
        # Folder names are hostile text: no control character may reach a terminal.
        table.writerow({k: printable(v) if isinstance(v, str) else v for k, v in row.items()})
    return text.getvalue()


def _table(rows: Sequence[dict[str, Any]], common: dict[str, Any]):
    columns = [
        name
        for name in (rows[0] if rows else {})
        if name not in common and any(row[name] not in (None, "") for row in rows)
    ]
    cells = [[_shown(row[name]) for name in columns] for row in rows]
    return [_folded(name) for name in columns], cells


def _folded(name: str) -> str:
    """Break a long name where a reader would: a terminal has few columns."""
    parts = name.replace("/", "/\n").replace(".", ".\n").split("\n")
    return "\n".join(part.replace("_", "_\n") if len(part) > 16 else part for part in parts)


def _shown(value: object) -> object:
    if value is None:
        return ""
    return value if type(value) is int else str(value)


def _score(value: float | None, ends: Sequence[float] | None, best: bool) -> str:
    if value is None:
        return ""
    interval = " ({:.4f}, {:.4f})".format(*ends) if ends else ""
    return f"{value:.4f}{BEST if best else ''}{interval}"


def _spread(found: dict[str, Any] | None, runs: int) -> str:
    if found is None:
        return ""
    some = f" ({found['n']})" if found["n"] != runs else ""
    return f"{found['mean']:.4f} ± {found['std']:.4f}{some}"
