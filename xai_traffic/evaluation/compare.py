"""Runs side by side: what tells them apart, their scores, and which scores may be compared."""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from xai_traffic.errors import ConfigError, RunError
from xai_traffic.evaluation.paired import pair_runs
from xai_traffic.evaluation.run_means import means_over
from xai_traffic.evaluation.run_summary import (
    SCORES,
    TEST_SCORES,
    RunSummary,
    find_runs,
    lower_is_better,
    score_columns,
    summarise_run,
)

LEAKY = "LEAKY"
"""Stands beside a run whose scores are not what the split of its dataset promises."""

TOLD = (
    *("model.name", "model.variant", "task", "seed", "data.mask", "data.path"),
    *("compilation_cache", "log.every_steps", "log.images", "log.heat_maps_every", "log.mirrors"),
)
"""Fields of the config that have columns of their own, or change nothing that is compared."""


BESIDE = ("best", "intervals")
"""What a row tells of its columns, and is none."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Runs side by side; see `compare`.

    Args:
        split: whose evaluations were read.
        runs: one row a run, value by column; `best` lists the columns in which the run is best of
            those that it may be compared with, `intervals` has low and high of its test scores.
        common: columns and their values that are the same for all runs.
        over: fields of the config that `groups` are taken over.
        pairs: sets of classifiers on the same sessions, see `paired.pair_runs`.
        groups: one row for each set of finished runs that differ in `over` only: what they share,
            `runs` (how many), `over` (their values), and mean, std and n of each score.
        warnings: what a reader of the table must know.
        faults: what could not be read, and why.
    """

    split: str
    runs: list[dict[str, Any]]
    common: dict[str, Any]
    over: tuple[str, ...]
    groups: list[dict[str, Any]]
    pairs: list[dict[str, Any]]
    warnings: list[str]
    faults: list[str]


def compare(
    paths: Sequence[str | os.PathLike],
    *,
    split: str = "test",
    over: Sequence[str] = ("seed",),
    sort: str | None = None,
    baselines: bool = False,
) -> Comparison:
    """Put runs side by side: settings that differ, state, validation and test scores.

    Scores are compared within runs of one task that were scored on the same sessions: for the
    validation scores the same dataset and limit, for those of the split the same dataset.

    Args:
        paths: runs, or folders that hold some.
        split: whose evaluations are read.
        over: fields of the config, by dotted key, over which means are taken.
        sort: column to sort by, scores best first; by default runs stand as they were named.
        baselines: train the shallow baselines on the runs' datasets, to compare with.

    Raises:
        ConfigError: no run has the column to sort by, or the field to take means over.
    """
    folders, errors = find_runs(paths)
    faults = [str(error) for error in errors]
    found = []
    for folder in folders:
        try:
            found.append(summarise_run(folder, split))
        except RunError as error:
            faults.append(str(error))
    for key in over:
        if found and not any(key in run.config for run in found):
            raise ConfigError(f"no run has the config field {key}: name one to take means over")
    fields = _differing(found)
    names = _names(found)
    rows = [_row(run, name, fields, split) for run, name in zip(found, names, strict=True)]
    _mark_best(found, rows, split)
    groups, repeated = means_over(over, found, rows, fields, split)
    pairs, apart = pair_runs(found, names, split, baselines=baselines)
    if sort:
        rows = _sorted(rows, _column(rows, sort))
    return Comparison(
        split=split,
        runs=rows,
        common=_common(rows, split),
        over=tuple(over),
        groups=groups,
        pairs=pairs,
        warnings=[
            *_mixed(found, names, split),
            *_stale(found, names, split),
            *_flattered(found, names, split),
            *repeated,
            *apart,
        ],
        faults=faults,
    )


def _row(run: RunSummary, name: str, fields: Sequence[str], split: str) -> dict[str, Any]:
    result, evaluation = run.result or {}, run.evaluation or {}
    dataset = run.reading["dataset"]
    scores = [*(run.best.get(key) for key in SCORES), *(evaluation.get(key) for key in TEST_SCORES)]
    return {
        "run": name,
        "path": str(run.path),
        "state": run.state,
        "model": f"{run.config['model.name']}/{run.config['model.variant']}",
        "task": run.config["task"],
        "data": f"{pathlib.PurePath(dataset['path']).name} {run.data[:8]}",
        "mask": run.reading["rules"]["mask"],
        "leaky": LEAKY if dataset.get("leaky") or evaluation.get("leaky") else "",
        "seed": run.config["seed"],
        **{key: run.config.get(key) for key in fields},
        "parameters": result.get("parameters", evaluation.get("parameters")),
        "step": run.step,
        "epoch": run.epoch,
        "best_epoch": run.best_epoch or None,
        **dict(zip(score_columns(split), map(_finite, scores), strict=True)),
        "seconds": result.get("seconds"),
        "params_sha256": result.get("params_sha256"),
        "best": [],
        "intervals": dict(zip(score_columns(split)[len(SCORES) :], _intervals(run), strict=True)),
    }


def _intervals(run: RunSummary) -> list[list[float] | None]:
    """Return low and high of each test score, None where `evaluate` wrote none."""
    evaluation = run.evaluation or {}
    confidence = evaluation.get("confidence", {})
    judged = confidence.get("after", confidence.get("before", {}))  # calibrated where the run is
    told = {**judged, **evaluation.get("intervals", {})}
    ends = [(told.get(key) or {}).get(end) for key in TEST_SCORES for end in ("low", "high")]
    pairs = zip(ends[::2], ends[1::2], strict=True)
    return [None if None in pair else list(pair) for pair in pairs]


def _finite(value: Any) -> float | None:
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def _names(runs: Sequence[RunSummary]) -> list[str]:
    """Return the shortest names by which the folders differ."""
    paths = [run.path.absolute() for run in runs]
    if not paths:
        return []
    above = os.path.commonpath([path.parent for path in paths])
    return [str(path.relative_to(above)) for path in paths]


def _differing(runs: Sequence[RunSummary]) -> list[str]:
    keys = dict.fromkeys(key for run in runs for key in run.config)
    return [
        key
        for key in keys
        if key not in TOLD and any(run.config.get(key) != runs[0].config.get(key) for run in runs)
    ]


def _common(rows: Sequence[dict[str, Any]], split: str) -> dict[str, Any]:
    if len(rows) < 2:
        return {}
    never = ("run", "path", *BESIDE, "seconds", "params_sha256", *score_columns(split))
    return {
        column: value
        for column, value in rows[0].items()
        if column not in never and all(row[column] == value for row in rows)
    }


def _mark_best(runs: Sequence[RunSummary], rows: Sequence[dict[str, Any]], split: str) -> None:
    for column in score_columns(split):
        comparable: dict[tuple, list[dict[str, Any]]] = {}
        for run, row in zip(runs, rows, strict=True):
            if row[column] is not None:
                comparable.setdefault(run.scored_on(column), []).append(row)
        for among in comparable.values():
            values = [row[column] for row in among]
            best = min(values) if lower_is_better(column) else max(values)
            for row in among:
                if row[column] == best and len(set(values)) > 1:
                    row["best"].append(column)


def _mixed(runs: Sequence[RunSummary], names: Sequence[str], split: str) -> list[str]:
    """Warn of scores that are not comparable."""
    warnings = []
    validation, *_, evaluation = score_columns(split)
    for what, column in (("validation", validation), (split, evaluation)):
        sets: dict[tuple, list[str]] = {}
        for run, name in zip(runs, names, strict=True):
            if (key := run.scored_on(column)) is not None:
                sets.setdefault(key, []).append(name)
        if len(sets) > 1:
            shown = "; ".join(f"{', '.join(some)} ({_told(key)})" for key, some in sets.items())
            warnings.append(
                f"{what} scores come from {len(sets)} different sets of sessions or tasks: they "
                f"are comparable, and marked best, only within each: {shown}"
            )
    return warnings


def _told(sessions: tuple) -> str:
    task, data, *limit = sessions
    limited = f", {limit[0]} sessions by seed {limit[1]}" if limit and limit[0] else ""
    return f"{task}, data {data[:8] if len(data) == 64 else data}{limited}"


def _stale(runs: Sequence[RunSummary], names: Sequence[str], split: str) -> list[str]:
    return [
        f"{name}: its {split} scores are of step {run.evaluation['step']}, its best is step "
        f"{run.best_step}: evaluate it again"
        for run, name in zip(runs, names, strict=True)
        if run.evaluation
        and run.best_step
        and run.evaluation.get("step", run.best_step) != run.best_step
    ]


def _flattered(runs: Sequence[RunSummary], names: Sequence[str], split: str) -> list[str]:
    told = [
        f"{name}: split {split} flatters the run: {', '.join(reasons)}"
        for run, name in zip(runs, names, strict=True)
        if (reasons := (run.evaluation or {}).get("flattered_by"))
    ]
    return told if len(told) <= 1 else [f"{told[0]}; so it is with {len(told) - 1} more"]


def _column(rows: Sequence[dict[str, Any]], wanted: str) -> str:
    """Return the column of that name, or the last with scores whose name ends so: the split's."""
    columns = [column for column in (rows[0] if rows else {}) if column not in BESIDE]
    named = [c for c in columns if wanted in (c, *c.rsplit("/", 1)[1:], *c.rsplit(".", 1)[1:])]
    if not named and rows:
        raise ConfigError(f"no column {wanted} to sort by: choose one of {', '.join(columns)}")
    scored = [c for c in named if any(row[c] is not None for row in rows)]
    return (scored or named or [wanted])[-1]


def _sorted(rows: list[dict[str, Any]], column: str) -> list[dict[str, Any]]:
    """Sort by a column: accuracies and the like from the highest down, all else upwards."""
    some = [row for row in rows if row[column] is not None]
    none = [row for row in rows if row[column] is None]
    numbers = all(isinstance(row[column], int | float) for row in some)
    down = "/" in column and not lower_is_better(column)
    some.sort(key=lambda row: row[column] if numbers else str(row[column]), reverse=down)
    return some + none
