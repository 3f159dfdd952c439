"""Write what others need of a run, and nothing of the machine it was made on: to be handed on.

    variables.npz      the parameters it judges by, see training/exported.py
    config.json, reading.json, result.json, calibration.json, calibration.npz
    dataset.json       the manifest of its dataset: which captures, with their hashes
    evaluation-*.json, forged-*.json, open-set-*.json, explanations-*.json
    audit.json         what the model card tells of it: no values out of captures
    notes.md           of its makers
    model_card.md      written anew

`load_run` and every command take the folder as they take the run's. Paths become names.
"""

from __future__ import annotations

import os
import pathlib
import shutil
from typing import Any

from xai_traffic.errors import RunError
from xai_traffic.evaluation.run_record import (
    AUDIT,
    KINDS,
    NOTES,
    RunRecord,
    read_run_record,
)
from xai_traffic.evaluation.run_summary import read_json
from xai_traffic.report.model_card import CARD, write_model_card
from xai_traffic.training.calibration import CALIBRATION, FEATURES
from xai_traffic.training.exported import VARIABLES, write_variables
from xai_traffic.training.overlap import MANIFEST_COPY
from xai_traffic.training.run import CONFIG, READING, RESULT, load_run
from xai_traffic.whole import Destination, write_json

_PATHS = ("run", "dataset", "unknown_dataset", "path", "init_from")
"""Keys whose values are paths."""

_FIELD = ("field", "verdict", "reason", "balanced_accuracy", "skill", "spread", "presence")
_OF_AUDIT = ("manifest_sha256", "task", "mask", "split", "chance", "captures")
_OF_RUN = ("method", "split", "sessions", "groups")


def export_run(
    folder: str | os.PathLike, out: str | os.PathLike, *, overwrite: bool = False
) -> pathlib.Path:
    """Export a finished run, and return the folder.

    Args:
        folder: of the run, or "default".
        out: to make.
        overwrite: replace `out` if it is an export.

    Raises:
        RunError: the run is not finished or cannot be loaded, or `out` is in the way.
    """
    run, out = load_run(folder), pathlib.Path(out)
    record = read_run_record(run.path)
    if record.summary.result is None:
        raise RunError(f"{folder} is not finished: let the training end, then export it")
    place = Destination(out, overwrite, "an export", _foreign, RunError)
    with place.whole_folder() as new:
        write_variables(new, run.variables)
        _write_told(new, record)
    write_model_card(out)
    return out


def _write_told(new: pathlib.Path, record: RunRecord) -> None:
    """Write all but the parameters and the card."""
    source = record.summary.path
    names = [CONFIG, READING, RESULT, CALIBRATION]
    names += [f"{kind}-{split}.json" for kind in KINDS for split in record.measured[kind]]
    for name in names:
        held = read_json(source / name)
        if held is not None:
            write_json(new / name, _without_paths(held))
    for name in (FEATURES, NOTES):
        if (source / name).exists():
            shutil.copyfile(source / name, new / name)
    if record.manifest is not None:
        write_json(new / MANIFEST_COPY, record.manifest)
    if record.audit is not None:
        write_json(new / AUDIT, _told_of_audit(record.audit))


def _told_of_audit(audit: dict[str, Any]) -> dict[str, Any]:
    """Return what a card tells of an audit, without examples of what was captured."""
    told: dict[str, Any] = {key: audit[key] for key in _OF_AUDIT}
    told["fields"] = [
        {
            **{key: row[key] for key in (*_FIELD, "mask", "in_image")},
            "intervals": row.get("intervals"),  # audits of earlier versions have none
        }
        for row in audit["fields"]
    ]
    told["run"] = audit["run"] and {key: audit["run"][key] for key in _OF_RUN}
    return told


def _without_paths(value: Any) -> Any:
    """Return JSON values in which each path is the name at its end."""
    if isinstance(value, list):
        return [_without_paths(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: pathlib.PurePath(own).name
        if key in _PATHS and isinstance(own, str)
        else _without_paths(own)
        for key, own in value.items()
    }


def _foreign(folder: pathlib.Path) -> set[str]:
    names = {entry.name for entry in folder.iterdir()}
    if VARIABLES not in names:
        return names
    known = {CONFIG, READING, RESULT, CALIBRATION, FEATURES, VARIABLES}
    known |= {MANIFEST_COPY, AUDIT, NOTES, CARD}
    measured = tuple(f"{kind}-" for kind in KINDS)
    return {name for name in names - known if not name.startswith(measured)}
