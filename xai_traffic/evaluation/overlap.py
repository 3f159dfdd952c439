"""Why scores on a dataset are not what they seem: what a run was trained on may be in it."""

from __future__ import annotations

import hashlib
import json
import pathlib
from typing import Any

import numpy as np

from xai_traffic.data.folder import MANIFEST
from xai_traffic.data.store import Dataset, open_dataset
from xai_traffic.errors import DatasetError, RunError
from xai_traffic.evaluation.run_summary import read_json
from xai_traffic.terminal import log
from xai_traffic.training.job import manifest_sha256
from xai_traffic.training.run import Run

MANIFEST_COPY = "dataset.json"
"""A run's own copy of the manifest of its dataset, see report/export.py."""


def leaks_of(run: Run, split: str, dataset: Dataset) -> list[str]:
    """Return why numbers of a run on a split are LEAKY, empty where they are not.

    Of the dataset that it was trained on these are the dataset's own leaks. Of another one, also
    sessions that are in both: by their images where the dataset of the training is at hand, else by
    the hashes of the captures; where neither is, a warning says that nobody looked.

    Args:
        run: that is measured.
        split: of the dataset.
        dataset: read by the run's rules.
    """
    found = list(dataset.leaky(run.task))
    if manifest_sha256(dataset) == run.dataset["manifest_sha256"]:
        return found
    manifest = training_manifest(run.path, run.dataset)
    if manifest is None:
        log.warning(
            "whether %s holds what %s was trained on is not known: its dataset is not at hand",
            dataset.path,
            run.path,
        )
        return found
    trained = _training_images(run)
    if trained is not None:
        own = _images(dataset, split)
        shared = int(np.isin(own, trained).sum())
        what = f"{shared:,} of its {len(own):,} {split} sessions are images"
    else:
        theirs = {capture["sha256"] for capture in manifest.get("captures", ())}
        captures = dataset.manifest.get("captures", ())
        shared = sum(capture["sha256"] in theirs for capture in captures)
        what = f"{shared:,} of its {len(captures):,} captures are among those"
    if shared:
        found.append(f"{what} that the run was trained on")
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
            manifest = read_json(place)
        except RunError:
            continue  # a dataset that is being made anew, or no dataset at all
        text = json.dumps(manifest, sort_keys=True).encode()
        if manifest is not None and hashlib.sha256(text).hexdigest() == dataset["manifest_sha256"]:
            return manifest
    return None


def _training_images(run: Run) -> np.ndarray | None:
    """Return the hashes of the images that a run was trained on; None where none is at hand."""
    path = pathlib.Path(run.config.data.path)
    try:
        dataset = open_dataset(path) if (path / MANIFEST).exists() else None
    except DatasetError:
        return None
    if dataset is None or manifest_sha256(dataset) != run.dataset["manifest_sha256"]:
        return None
    return _images(dataset, "train")


def _images(dataset: Dataset, split: str) -> np.ndarray:
    names = dataset.table["content_hash"].to_numpy(zero_copy_only=False)
    return names[dataset.rows(split)].astype(str)
