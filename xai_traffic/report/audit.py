"""The `audit` verb: audit a dataset, with a run or without, and write what came out."""

from __future__ import annotations

import os
import pathlib
from typing import Any

from xai_traffic.data.store import Dataset, open_dataset
from xai_traffic.errors import RunError
from xai_traffic.evaluation.audit import SESSIONS, audit_dataset
from xai_traffic.evaluation.evaluate import check_classes, check_rules
from xai_traffic.evaluation.field_reliance import LIMIT, METHOD, field_reliance
from xai_traffic.evaluation.masked_retrain import DATASET, RUN, retrain, retrain_commands
from xai_traffic.report.audit_page import render
from xai_traffic.training.overlap import leaks_of
from xai_traffic.training.run import Run
from xai_traffic.whole import Destination, whole_file, write_json

PAGE, VALUES = "audit.html", "audit.json"
MADE = {PAGE, VALUES, DATASET, RUN}
"""All that an audit's folder may hold."""


def write_audit(
    dataset: Dataset | str | os.PathLike,
    out: str | os.PathLike,
    run: Run | None = None,
    *,
    task: str | None = None,
    method: str = METHOD,
    limit: int = SESSIONS,
    explained: int = LIMIT,
    retraining: bool = False,
    seed: int = 0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Audit a dataset and write `audit.html` and `audit.json` into a new folder.

    Args:
        dataset: the dataset, or its folder.
        run: a run that was trained on it; what it rests on is told as well.
        task: `binary` or `multiclass`; by default the run's, else multiclass.
        method: explainer of the run.
        limit: most sessions of each split.
        explained: most sessions that the run is explained on.
        retraining: derive the masked dataset into the folder, train on it, and compare. The audit
            stands before it begins, and is written again behind it.
        seed: of all that is drawn.
        overwrite: replace `out`, if it holds nothing but an earlier audit.

    Returns:
        what `audit.json` holds, see `evaluation.audit`.

    Raises:
        RunError: `out` is in the way, the run does not fit the dataset or the task, or there is
            nothing to retrain.
        DatasetError: the dataset cannot be audited.
    """
    out = pathlib.Path(out)
    place = Destination(out, overwrite, "an audit", _foreign, RunError)
    place.check_free()
    dataset = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    if run is not None:
        check_rules(run, dataset)
        if task not in (None, run.task):
            raise RunError(f"{run.path} is a {run.task} run: leave --task out, or name another run")
        check_classes(run, dataset)
        task = run.task
    if retraining and run is None:
        raise RunError("a retraining goes by the config of a run: name the RUN")
    found = audit_dataset(dataset, task or "multiclass", limit=limit, seed=seed)
    if run is not None:
        found["leaky"] = leaks_of(run, "test", dataset)
        found["run"] = field_reliance(
            run, dataset, found["fields"], method=method, limit=explained, seed=seed
        )
    mask = found["proposal"]["mask"]
    commands = [] if mask is None else retrain_commands(dataset, mask, out, found["task"], run)
    found["proposal"]["commands"] = commands
    with place.whole_folder() as folder:
        _write(folder, found)
    if retraining:
        if mask is None:
            raise RunError(f"{out}: nothing was found that a mask hides, so nothing to retrain")
        found["retrain"] = retrain(run, dataset, mask, out.absolute())
        _write(out, found)
    return found


def _write(folder: pathlib.Path, found: dict[str, Any]) -> None:
    with whole_file(folder / PAGE) as new:
        new.write_text(render(found), "utf-8")
    write_json(folder / VALUES, found)


def _foreign(folder: pathlib.Path) -> set[str]:
    names = {entry.name for entry in folder.iterdir()}
    return names - MADE if VALUES in names else names
