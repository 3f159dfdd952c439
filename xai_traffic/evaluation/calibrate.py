"""Calibrate a run on a validation split: temperature, sets of classes, and the unknown rule.

Whatever is chosen by outcomes (the temperature, the thresholds) is chosen on validation sessions
alone. Class means and neighbours, which two of the scores compare with, are of training sessions.
Validation also chose the checkpoint, so the promises hold a little less than for fresh sessions;
`evaluate` measures on the test split what is left of them. Another dataset's validation sessions,
of the network that verdicts are asked about, chose nothing before.
"""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

from xai_traffic.data.folder import manifest_sha256
from xai_traffic.data.store import Dataset
from xai_traffic.errors import RunError
from xai_traffic.evaluation.calibration import expected_calibration_error
from xai_traffic.evaluation.classify import judge_further
from xai_traffic.evaluation.conformal import conformal_thresholds
from xai_traffic.evaluation.evaluate import judge_split, own_dataset
from xai_traffic.evaluation.proper_scores import brier, negative_log_likelihood
from xai_traffic.evaluation.temperature import COLDEST, HOTTEST, fit_temperature
from xai_traffic.evaluation.unknown_scores import (
    BANK,
    FEATURES,
    LOGITS,
    SCORES,
    TOLD,
    acceptance_threshold,
    fit_features,
    known_scores,
)
from xai_traffic.terminal import log
from xai_traffic.training.calibration import (
    CALIBRATION,
    SCHEMA,
    Calibration,
    read_calibration,
    tempered,
)
from xai_traffic.training.calibration import FEATURES as FEATURES_FILE
from xai_traffic.training.overlap import leaks_of
from xai_traffic.training.run import Run
from xai_traffic.training.state import params_sha256
from xai_traffic.whole import whole_file, write_json

SCORE, ACCEPT, COVERAGE = "energy", 95.0, 90.0
"""What is taken where nothing is said: score of the unknown rule, and two per cents."""


def calibrate(
    run: Run,
    dataset: Dataset | None = None,
    *,
    unknown: str | None = None,
    accept: float = ACCEPT,
    coverage: float = COVERAGE,
    limit: int = 0,
    seed: int = 0,
) -> Calibration:
    """Return the calibration of a run, made on the validation split of a dataset.

    Args:
        run: a trained run; of a calibration that it has nothing is kept.
        dataset: another one than the run was trained on, with classes that are among the run's.
            The scores of `unknown_scores.FEATURES` need training sessions, and so the run's own.
        unknown: score of the rule by which `classify` answers "unknown" from now on, one of
            `unknown_scores.SCORES`; None keeps a rule at hand (of SCORE) but does not turn it on.
        accept: per cent of sessions of known classes that the rule takes for known.
        coverage: per cent of the sessions of each class whose set shall hold it.
        limit: validation sessions to draw, 0 for all.
        seed: of what is drawn.

    Raises:
        RunError: a per cent or a score makes no sense, there are no validation sessions, the
            dataset does not fit the run, or the run's own is another one by now.
    """
    score = unknown or SCORE
    if score not in SCORES:
        raise RunError(f"unknown score {score!r}: choose one of {', '.join(SCORES)}")
    for name, value in (("accept", accept), ("coverage", coverage)):
        if not 0 < value < 100:
            raise RunError(f"{name} is {value:g} per cent: give a number above 0 and below 100")
    dataset = own_dataset(run) if dataset is None else dataset
    own = manifest_sha256(dataset.manifest) == run.dataset["manifest_sha256"]
    if own:
        rows, learnt = own_sessions(run, dataset)
    else:
        if score in FEATURES:
            raise RunError(
                f"unknown score {score!r} compares with the sessions that the run was trained on, "
                f"which {dataset.path} has not: choose one of {', '.join(LOGITS)}"
            )
        rows, learnt = others_sessions(run, dataset)
    if strange := len(dataset.rows("validation")) - len(rows):
        log.warning("left out: %d validation sessions of classes that training lacks", strange)
    drawn = _drawn(rows, limit, seed)
    labels, logits, features = judge_split(
        run, "validation", dataset, rows=drawn, features=score in FEATURES
    )
    fitted = {}
    if score in FEATURES:
        fitted = fit_features(score, *training_features(run, dataset, seed))
    temperature = fit_temperature(logits, labels)
    record = {
        "schema": SCHEMA,
        "run_step": run.step,
        "params_sha256": params_sha256(run.variables),
        "manifest_sha256": run.dataset["manifest_sha256"],
        "dataset": str(dataset.path),
        "calibrated_on": manifest_sha256(dataset.manifest),
        "own_dataset": own,
        "split": "validation",
        "sessions": len(labels),
        "of_classes_not_learnt": strange,
        "task": run.task,
        "classes": list(run.classes),
        "learnt": [run.classes[k] for k in learnt],
        "leaky": leaks_of(run, "validation", dataset),
        "temperature": temperature,
    }
    before = Calibration({"temperature": 1.0})
    after = Calibration({"temperature": temperature})
    record["scores"] = {
        "before": _scores(labels, logits, before),
        "after": _scores(labels, logits, after),
    }
    record["temperature_rule"] = _temperature_words(record)
    record["sets"] = _sets(tempered(logits, temperature), labels, run.classes, coverage / 100)
    scores = known_scores(score, logits[:, learnt], features, fitted)
    threshold = acceptance_threshold(scores, accept / 100)
    record["unknown"] = {
        "on": unknown is not None,
        "score": score,
        "features": sorted(fitted),
        "accept": accept / 100,
        "threshold": threshold if np.isfinite(threshold) else None,
        "rule": unknown_words(score, threshold, accept, len(labels)),
    }
    return Calibration(record, fitted)


def write_calibration(folder: pathlib.Path, calibration: Calibration) -> pathlib.Path:
    """Write the files of a calibration over those that stand there; return the path of the JSON."""
    features = folder / FEATURES_FILE
    if calibration.features:
        with whole_file(features) as new, open(new, "wb") as stream:
            np.savez(stream, **calibration.features)
    path = folder / CALIBRATION
    write_json(path, calibration.record)
    if not calibration.features:
        features.unlink(missing_ok=True)
    return path


def own_sessions(run: Run, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return validation rows of labels that were learnt, and the classes that were, int64.

    Raises:
        RunError: there are none.
    """
    rows = of_learnt_labels(dataset, dataset.rows("validation"))
    if not len(rows):
        raise RunError(
            f"{dataset.path} has no validation sessions of a class that was learnt: convert with a "
            "split that deals classes out to both, such as --split random:70/10/20, and train again"
        )
    return rows, learnt_classes(run, dataset)


def others_sessions(run: Run, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the same of a dataset that the run was not trained on.

    What was learnt stands in the calibration that the run has; all classes, where it has none.

    Raises:
        RunError: there are none, or that calibration is damaged or another run's.
    """
    stands = read_calibration(run.path)
    if stands:
        stands.check(params_sha256(run.variables), run.dataset["manifest_sha256"], run.path)
    names = stands.record["learnt"] if stands else run.classes
    learnt = np.array(sorted(map(run.classes.index, names)), np.int64)
    rows = dataset.rows("validation")
    own = np.array([name in names for name in dataset.task_classes(run.task)])
    rows = rows[own[dataset.task_labels(run.task)[rows]]]
    if not len(rows):
        raise RunError(
            f"{dataset.path} has no validation sessions of a class that the run has learnt: "
            "convert with a split that has some, such as --split random:0/50/50"
        )
    return rows, learnt


def of_learnt_labels(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """Return those of some rows whose label training has, families of malware say.

    Args:
        rows: int [n], rows of the dataset's table, rising.
    """
    label = dataset.table["label"].to_numpy(zero_copy_only=False)
    learnt = set(label[dataset.rows("train")])
    return rows[np.isin(label[rows], list(learnt))]


def learnt_classes(run: Run, dataset: Dataset) -> np.ndarray:
    """Return which of the run's classes its training split has sessions of, int64 [k]."""
    names = dataset.task_classes(run.task)
    labels = np.unique(dataset.task_labels(run.task)[dataset.rows("train")])
    return np.array(sorted(run.classes.index(names[label]) for label in labels), np.int64)


def training_features(run: Run, dataset: Dataset, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return penultimate activations float32 [n, D] and labels int32 [n] of training sessions.

    As many are drawn as BANK holds.
    """
    width = run.logits_and_features(np.zeros((1, 128, 128), np.uint8))[1].shape[1]
    rows = _drawn(dataset.rows("train"), max(BANK // (4 * width), 1), seed)
    parts = [
        features
        for _, _, features in judge_further(run, dataset, rows, "judge train", features=True)
    ]
    names = dataset.task_classes(run.task)
    place = np.array([run.classes.index(name) for name in names], np.int32)
    return np.concatenate(parts), place[dataset.task_labels(run.task)[rows]]


def unknown_words(score: str, threshold: float, accept: float, sessions: int) -> str:
    """Return the unknown rule in words."""
    if not np.isfinite(threshold):
        return (
            f"none is unknown: {sessions} validation sessions are too few for a rule that accepts "
            f"{accept:g} per cent"
        )
    return (
        f"unknown where {TOLD[score]} is below {threshold:.6g}, which accepts {accept:g} per cent "
        f"of sessions like the {sessions} of the validation split"
    )


def _drawn(rows: np.ndarray, limit: int, seed: int) -> np.ndarray:
    if not limit or len(rows) <= limit:
        return rows
    rng = np.random.Generator(np.random.Philox(seed))
    return np.sort(rng.choice(rows, limit, replace=False))


def _scores(labels: np.ndarray, logits: np.ndarray, calibration: Calibration) -> dict[str, float]:
    probabilities = calibration.probabilities(logits)
    return {
        "nll": float(negative_log_likelihood(labels, logits, calibration.temperature).mean()),
        "brier": float(brier(labels, probabilities).mean()),
        "expected_calibration_error": expected_calibration_error(labels, probabilities),
    }


def _temperature_words(record: dict[str, Any]) -> str:
    temperature, scores = record["temperature"], record["scores"]
    if temperature == 1.0:
        return (
            f"temperature 1: none of {record['sessions']} validation sessions is judged wrongly, "
            "so nothing can be told of it"
        )
    end = " (the end of what is looked at)" * (temperature in (COLDEST, HOTTEST))
    return (
        f"temperature {temperature:.4g}{end}: the negative log-likelihood of {record['sessions']} "
        f"validation sessions goes from {scores['before']['nll']:.4g} to "
        f"{scores['after']['nll']:.4g}"
    )


def _sets(
    probabilities: np.ndarray, labels: np.ndarray, classes: list[str], coverage: float
) -> dict[str, Any]:
    thresholds = conformal_thresholds(probabilities, labels, coverage)
    held = {
        name: float(value)
        for name, value in zip(classes, thresholds, strict=True)
        if np.isfinite(value)
    }
    return {
        "coverage": coverage,
        "thresholds": held,
        "sessions": np.bincount(labels, minlength=len(classes)).tolist(),
        "always": [name for name, value in held.items() if value == 0],
        "without_promise": [name for name in classes if name not in held],
        "rule": f"a class is in the set where its calibrated probability is at least its "
        f"threshold, by which {coverage:.4g} of the sessions of each class that are exchangeable "
        "with those of the validation split have it in their set; the verdict always is in it",
    }
