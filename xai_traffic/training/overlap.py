"""Why scores on a dataset are not what they seem: what a run was trained on may be in it."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np

from xai_traffic.data.folder import MANIFEST, manifest_sha256
from xai_traffic.data.store import Dataset, open_dataset
from xai_traffic.errors import DatasetError, RunError
from xai_traffic.terminal import log, printable
from xai_traffic.training.run import Run, read_reading

MANIFEST_COPY = "dataset.json"
"""A run's own copy of the manifest of its dataset, see report/export.py."""


def leaks_of(run: Run, split: str, dataset: Dataset, rows: np.ndarray | None = None) -> list[str]:
    """Return why numbers of a run on a split are LEAKY, empty where they are not.

    Of the dataset that it was trained on these are those that it was trained under. Of another one,
    the dataset's own, and sessions that the training had as well, or that of a run whose
    parameters it started from (`init_from`): by their images where the dataset of the training is
    at hand, else by the hashes of the captures; where neither is, a warning says that nobody
    looked.

    Args:
        run: that is measured.
        split: of the dataset.
        dataset: read by the run's rules.
        rows: int [n], those of the dataset that are measured, by default all of the split.
    """
    found = list(dataset.leaky(run.task))
    if manifest_sha256(dataset.manifest) == run.dataset["manifest_sha256"]:
        return list(dict.fromkeys([*found, *run.dataset.get("leaky", ())]))
    rows = dataset.rows(split) if rows is None else rows
    own = {**run.dataset, "run": str(run.path)}
    return found + trained_on([own, *run.dataset.get("before", ())], split, dataset, rows)


def flattered_by(run: Run, split: str, dataset: Dataset) -> list[str]:
    """Return why scores of a run on a split flatter it, though nothing leaks: it was made by them.

    Of a split that the run was neither trained, chosen nor calibrated on, this is empty.
    """
    sha256, found = manifest_sha256(dataset.manifest), []
    if sha256 == run.dataset["manifest_sha256"]:
        found += {
            "train": ["it was trained on these sessions"],
            "validation": ["its checkpoint was chosen by these sessions"],
        }.get(split, [])
    record = run.calibration.record if run.calibration else {}
    own = record.get("manifest_sha256") if record.get("own_dataset") else None
    calibrated_on = record.get("calibrated_on", own)  # calibrations of earlier versions lack it
    if split == record.get("split") and sha256 == calibrated_on:
        found.append("it was calibrated on these sessions")
    return found


def trainings_before(init_from: str | None) -> list[dict[str, Any]]:
    """Return what parameters to start from were trained on, the latest training first.

    Args:
        init_from: folder of a run, or nothing.

    Returns:
        of each training `run`, and `path` and `manifest_sha256` of its dataset; none where the
        folder is no run: who starts from it is told so, who goes on needs it no more.
    """
    if not init_from:
        return []
    try:
        dataset = read_reading(pathlib.Path(init_from))["dataset"]
    except RunError:
        return []
    own = {"run": init_from, **{key: dataset[key] for key in ("path", "manifest_sha256")}}
    return [own, *dataset.get("before", ())]


def trained_on(
    trainings: list[dict[str, Any]], split: str, dataset: Dataset, rows: np.ndarray
) -> list[str]:
    """Say which trainings had sessions of a dataset, see `leaks_of`.

    Args:
        trainings: as `trainings_before` returns them.
        split: what the rows are called.
        dataset: in which to look.
        rows: int [n], of it.
    """
    found = []
    for training in trainings:
        same = training["manifest_sha256"] == manifest_sha256(dataset.manifest)
        if same and split != "train":
            continue  # what was trained on is not measured
        run = pathlib.Path(training["run"])
        manifest = training_manifest(run, training)
        if manifest is None:
            log.warning(
                "whether %s holds what %s was trained on is not known: its dataset is not at hand",
                *map(printable, (str(dataset.path), str(run))),
            )
            continue
        trained = _training_images(training)
        if trained is not None:
            shared = int(np.isin(_images(dataset, rows), trained).sum())
            what = f"{shared:,} of its {len(rows):,} {split} sessions are images"
        else:
            theirs = {capture["sha256"] for capture in manifest.get("captures", ())}
            captures = dataset.manifest.get("captures", ())
            shared = sum(capture["sha256"] in theirs for capture in captures)
            what = f"{shared:,} of its {len(captures):,} captures are among those"
        if shared:
            found.append(f"{what} that run {printable(run.absolute().name)} was trained on")
    return found


def training_manifest(path: pathlib.Path, dataset: dict[str, Any]) -> dict[str, Any] | None:
    """Return the manifest that a run was trained under: its own copy, or the dataset's.

    Args:
        path: the run's folder.
        dataset: what its `reading.json` says of the dataset.

    Returns:
        None where none of the two is at hand, or is that of another dataset by now.
    """
    for place in (path / MANIFEST_COPY, pathlib.Path(dataset["path"]) / MANIFEST):
        try:
            manifest = json.loads(place.read_text("utf-8"))
        except (OSError, ValueError):
            continue  # no dataset at all, or one that is being made anew
        if manifest_sha256(manifest) == dataset["manifest_sha256"]:
            return manifest
    return None


def _training_images(training: dict[str, Any]) -> np.ndarray | None:
    """Return the hashes of the images that were trained on; None where they are not at hand."""
    path = pathlib.Path(training["path"])
    try:
        dataset = open_dataset(path) if (path / MANIFEST).exists() else None
    except DatasetError:
        return None
    if dataset is None or manifest_sha256(dataset.manifest) != training["manifest_sha256"]:
        return None
    return _images(dataset, dataset.rows("train"))


def _images(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    names = dataset.table["content_hash"].to_numpy(zero_copy_only=False)
    return names[rows].astype(str)
