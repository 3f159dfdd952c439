"""Classifiers on the same sessions: their scores with intervals, and each against the best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xai_traffic.data.folder import manifest_sha256
from xai_traffic.data.store import Dataset, open_dataset
from xai_traffic.errors import DatasetError, RunError
from xai_traffic.evaluation.baselines import judge_baselines
from xai_traffic.evaluation.run_summary import RunSummary
from xai_traffic.evaluation.score_intervals import Draws
from xai_traffic.evaluation.split_units import units_of
from xai_traffic.evaluation.verdicts import Verdicts, read_verdicts


def compare_pairs(classifiers: Sequence[Verdicts], seed: int = 0) -> list[dict[str, Any]]:
    """Score classifiers and tell how far each is behind the one with the highest macro-F1.

    Args:
        classifiers: two or more, that judged the same sessions in the same order.
        seed: of the draws.

    Returns:
        Of each, the best first: `name`; `accuracy` and `macro_f1` with `value`, `low`, `high`;
        and but for the best `behind`, the same of the best's scores less its own, on the same
        draws, and `mcnemar`, see `score_intervals`.

    Raises:
        ValueError: the sessions are not the same.
    """
    first = classifiers[0]
    for other in classifiers[1:]:
        if not (
            np.array_equal(other.rows, first.rows) and np.array_equal(other.labels, first.labels)
        ):
            raise ValueError(f"{other.name} judged other sessions than {first.name}")
    names = sorted({*first.labels, *(each for one in classifiers for each in one.verdicts)})
    labels = np.searchsorted(names, first.labels)
    said = {one.name: np.searchsorted(names, one.verdicts) for one in classifiers}
    draws = Draws(labels, first.units, len(names), seed)
    scored = [{"name": name, **draws.interval(verdicts)} for name, verdicts in said.items()]
    scored.sort(key=lambda row: -row["macro_f1"]["value"])
    best = said[scored[0]["name"]]
    for row in scored[1:]:
        own = said[row["name"]]
        row["behind"] = draws.difference(best, own)
        row["mcnemar"] = draws.mcnemar(best, own)
    return scored


def baseline_verdicts(dataset: Dataset, task: str, split: str, seed: int = 0) -> list[Verdicts]:
    """Train all baselines on a dataset and return what they say of a split."""
    rows = dataset.rows(split)
    names = np.asarray(dataset.task_classes(task), object)
    units = units_of(dataset, rows)
    return [
        Verdicts(made.name, rows, units, names[made.labels], names[made.probabilities.argmax(-1)])
        for made in judge_baselines(dataset, task, split, seed=seed)
    ]


def pair_runs(
    runs: Sequence[RunSummary], names: Sequence[str], split: str, *, baselines: bool = False
) -> tuple[list[dict[str, Any]], list[str]]:
    """Compare the runs that judged the same sessions, and baselines with them.

    Args:
        runs, names: and what they are called.
        split: whose verdicts are read.
        baselines: whether to train the baselines on the dataset of each set of runs.

    Returns:
        (of each set of two classifiers and more: `task`, `dataset`, `sessions`, `units`, `leaky`,
        and `classifiers` as `compare_pairs` has them; warnings of what could not be compared).
    """
    sets: dict[tuple, list[tuple[RunSummary, Verdicts]]] = {}
    warnings = []
    for run, name in zip(runs, names, strict=True):
        if run.evaluation is None:
            continue
        try:
            verdicts = read_verdicts(run.path, split, name)
        except RunError as error:
            warnings.append(str(error))
            continue
        if verdicts is None and baselines:
            warnings.append(f"{name}: its verdicts on {split} are not kept: evaluate it again")
        elif verdicts is not None:  # runs that were evaluated by earlier versions have none
            key = run.config["task"], run.evaluated_data, verdicts.rows.tobytes()
            sets.setdefault(key, []).append((run, verdicts))
    found = []
    for (task, data, _), members in sets.items():
        classifiers = [verdicts for _, verdicts in members]
        path = members[0][0].evaluation["dataset"]
        if baselines:
            try:
                dataset = open_dataset(path)
                if manifest_sha256(dataset.manifest) != data:
                    raise DatasetError(f"{path} is another dataset than the runs were scored on")
                classifiers += baseline_verdicts(dataset, task, split)
            except DatasetError as error:
                warnings.append(f"no baselines: {error}")
        if len(classifiers) > 1:
            first = classifiers[0]
            found.append(
                {
                    "task": task,
                    "dataset": path,
                    "sessions": len(first.rows),
                    "units": len(np.unique(first.units)),
                    "leaky": any(run.evaluation.get("leaky") for run, _ in members),
                    "classifiers": compare_pairs(classifiers),
                }
            )
    return found, warnings
