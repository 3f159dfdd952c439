"""Score a run on a split of a dataset that was read by the run's own rules."""

from __future__ import annotations

import dataclasses
import pathlib
import shlex

import numpy as np

from xai_traffic.data.folder import MANIFEST, manifest_sha256
from xai_traffic.data.labels import BINARY_CLASSES
from xai_traffic.data.store import Dataset, open_dataset
from xai_traffic.errors import RunError
from xai_traffic.evaluation.base_rates import base_rates
from xai_traffic.evaluation.classify import judge, judge_further
from xai_traffic.evaluation.confidence import assess_confidence
from xai_traffic.evaluation.score_intervals import Draws
from xai_traffic.evaluation.scores import score
from xai_traffic.evaluation.split_units import unit_name, units_of
from xai_traffic.training.overlap import flattered_by, leaks_of
from xai_traffic.training.run import Run


def evaluate(run: Run, split: str = "test", dataset: Dataset | None = None) -> dict:
    """Return the scores of a run on one split, with what they were made from.

    They are those of `scores.score`, by calibrated probabilities where the run is calibrated, and
    `confidence`: see `confidence.assess_confidence`.

    Args:
        run: a trained run.
        split: `train`, `validation` or `test`.
        dataset: another dataset than the run was trained on; its classes must be among the run's.

    Raises:
        RunError: the data was read by other rules, has unknown classes, or the split is empty; or
            the run's own dataset is another one by now.
    """
    return evaluate_split(run, split, dataset or own_dataset(run))[0]


def own_dataset(run: Run) -> Dataset:
    """Return the dataset that a run was trained on.

    Raises:
        RunError: what stands there now is another one, whose test split may hold sessions that
            the run was trained on.
    """
    path = pathlib.Path(run.config.data.path)
    if not (path / MANIFEST).exists():  # as of an exported run, or one that was moved
        raise RunError(
            f"the dataset that {run.path} was trained on, {path}, is not here: put it there, or "
            "name another one with --data (of evaluate and calibrate)"
        )
    dataset = open_dataset(path)
    if manifest_sha256(dataset.manifest) != run.dataset["manifest_sha256"]:
        raise RunError(
            f"{dataset.path} is not the dataset that {run.path} was trained on: sessions of its "
            "splits may have been trained on. Name it with --data to evaluate on it all the same"
        )
    return dataset


def check_rules(run: Run, dataset: Dataset) -> None:
    """Refuse data that was read otherwise than the run reads captures.

    Raises:
        RunError: the message names the rules that differ.
    """
    if dataset.rules == run.rules:
        return
    compared = [field.name for field in dataclasses.fields(run.rules) if field.compare]
    pairs = {name: (getattr(run.rules, name), getattr(dataset.rules, name)) for name in compared}
    pairs = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    differ = ", ".join(f"{name} {a!r} but the data has {b!r}" for name, (a, b) in pairs.items())
    options = " ".join(
        f"--{name.replace('_', '-')} {shlex.quote(str(ours))}" for name, (ours, _) in pairs.items()
    )
    raise RunError(
        f"{dataset.path} was read by other rules: the run reads captures with {differ}. Convert "
        f"the captures by the run's rules: xai-traffic convert CAPTURES {options} --out DATASET"
    )


def check_classes(run: Run, dataset: Dataset) -> None:
    """Refuse data with labels that the run has no class for.

    Raises:
        RunError: names them.
    """
    unknown = sorted(set(dataset.task_classes(run.task)) - set(run.classes))
    if unknown:
        raise RunError(
            f"the run does not know the data's classes {', '.join(unknown)}: its own are "
            f"{', '.join(run.classes)}; to measure how it takes what it does not know, "
            "evaluate RUN --open-set DATASET"
        )


def asked(run: Run, split: str, dataset: Dataset) -> dict:
    """Return what every evaluation says of itself: run, sessions, whether LEAKY or flattering."""
    return {
        "run": str(run.path),
        "step": run.step,
        "dataset": str(dataset.path),
        "manifest_sha256": manifest_sha256(dataset.manifest),
        "split": split,
        "task": run.task,
        "mask": dataset.rules.mask,
        "leaky": leaks_of(run, split, dataset),
        "flattered_by": flattered_by(run, split, dataset),
    }


def evaluate_split(run: Run, split: str, dataset: Dataset) -> tuple[dict, np.ndarray, np.ndarray]:
    """Return (scores, labels int32 [N], logits float32 [N, K], not calibrated); see `evaluate`."""
    labels, logits, _ = judge_split(run, split, dataset)
    probabilities = run.probabilities(logits)
    predictions = probabilities.argmax(-1)
    units = units_of(dataset, dataset.rows(split))
    draws = Draws(labels, units, len(run.classes))
    intervals = draws.all_scores(predictions, probabilities)
    per_class = dict(zip(run.classes, intervals.pop("per_class"), strict=True))
    result = {
        **asked(run, split, dataset),
        "parameters": run.parameter_count,
        **score(labels, probabilities, run.classes),
        "intervals": {
            "unit": unit_name(dataset),
            "units": draws.count,
            **intervals,
            "per_class": per_class,
        },
        **({"base_rates": _base_rates(labels, predictions, units)} if run.task == "binary" else {}),
        "confidence": {
            "unit": unit_name(dataset),
            **assess_confidence(labels, logits, run.classes, units, run.calibration),
        },
    }
    return result, labels, logits


def _base_rates(labels: np.ndarray, predictions: np.ndarray, units: np.ndarray) -> dict:
    malware = BINARY_CLASSES.index("Malware")
    return base_rates(predictions == malware, labels == malware, units)


def predict_split(run: Run, split: str, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return (labels int32 [N] into the run's classes, probabilities float32 [N, K])."""
    labels, rows = _labelled(run, split, dataset)
    parts = [found for _, found in judge(run, dataset, rows, f"judge {split}")]
    return labels, np.concatenate(parts)


def judge_split(
    run: Run,
    split: str,
    dataset: Dataset,
    *,
    rows: np.ndarray | None = None,
    features: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return labels int32 [N] into the run's classes, and what the network says of them.

    Args:
        rows: of the dataset's table, all of the split by default.
        features: whether to return the penultimate activations.

    Returns:
        labels, logits float32 [N, K] that are not calibrated, and features float32 [N, D] or None.
    """
    labels, rows = _labelled(run, split, dataset, rows)
    parts = list(judge_further(run, dataset, rows, f"judge {split}", features=features))
    _, logits, found = zip(*parts, strict=True)
    return labels, np.concatenate(logits), np.concatenate(found) if features else None


def _labelled(
    run: Run, split: str, dataset: Dataset, rows: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return labels int32 [N] into the run's classes, and the rows that they are of."""
    check_rules(run, dataset)
    check_classes(run, dataset)
    names = dataset.task_classes(run.task)
    rows = dataset.rows(split) if rows is None else rows
    if not len(rows):
        raise RunError(f"{dataset.path} has no sessions in split {split!r}")
    place = np.array([run.classes.index(name) for name in names], np.int32)
    return place[dataset.task_labels(run.task)[rows]], rows
