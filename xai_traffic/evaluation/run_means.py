"""Means over runs that differ in the seed, or some other field, only."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from xai_traffic.evaluation.run_summary import RunSummary, score_columns
from xai_traffic.training.job import MAY_DIFFER


def means_over(
    over: Sequence[str],
    runs: Sequence[RunSummary],
    rows: Sequence[dict[str, Any]],
    fields: Sequence[str],
    split: str,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Take means over finished runs that differ in some fields of the config only.

    Args:
        over: those fields, by dotted key.
        runs: all runs.
        rows: of their table, in the same order.
        fields: of the config, that differ between runs.
        split: whose scores stand in the rows.

    Returns:
        (a row for each set of two or more: what they share, `runs` (how many), `over` (their
        values) and for each score mean, std and n, or None; warnings of what was left out).
    """
    sets: dict[tuple, list[int]] = {}
    for place, run in enumerate(runs):
        if run.result is None:
            continue  # what is best so far may get better
        # A dataset is known by its manifest, wherever it lies.
        ignored = (*MAY_DIFFER, *over, "data.path", "data.mask")
        same = [(k, repr(v)) for k, v in run.config.items() if not k.startswith(ignored)]
        sets.setdefault((run.data, *sorted(same)), []).append(place)
    shared = ["model", "task", "data", "mask", "seed", *fields, "parameters"]
    groups, warnings = [], []
    for places in sets.values():
        members: dict[tuple, int] = {}
        repeated = []
        for place in places:
            values = tuple(runs[place].config.get(key) for key in over)
            first = members.setdefault(values, place)
            if first != place:
                repeated.append(
                    f"{rows[place]['run']} repeats {rows[first]['run']}: only the latter counts in "
                    "the means"
                )
        if len(members) < 2:
            continue
        warnings += repeated
        places = list(members.values())
        row = rows[places[0]]
        group: dict[str, Any] = {key: row[key] for key in shared if key not in over}
        group["leaky"] = next(filter(None, (rows[p]["leaky"] for p in places)), "")
        group["runs"] = len(places)
        group["over"] = {key: [runs[p].config.get(key) for p in places] for key in over}
        for column in score_columns(split):
            group[column] = _spread([(runs[p], rows[p][column]) for p in places], column)
        groups.append(group)
    return groups, warnings


def _spread(scored: Sequence[tuple[RunSummary, float | None]], column: str) -> dict | None:
    """Return mean, sample standard deviation and n; None for fewer than two runs."""
    found = {run: value for run, value in scored if value is not None}
    # What was evaluated on several datasets has no mean; a limit's draw by seed is part of the
    # spread.
    if len(found) < 2 or len({run.scored_on(column)[:2] for run in found}) > 1:
        return None
    values = list(found.values())
    return {"mean": statistics.fmean(values), "std": statistics.stdev(values), "n": len(values)}
