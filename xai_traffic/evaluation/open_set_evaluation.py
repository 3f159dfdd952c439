"""Score how well a run tells what it has learnt from classes that it has never seen.

Known are the sessions of a split whose class the training split has, unknown those whose class it
has not: the classes that a `family` split leaves out, or other classes in another dataset. Classes
are the multiclass labels, families of malware say, also where the task is binary.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from xai_traffic.data.store import Dataset
from xai_traffic.errors import RunError
from xai_traffic.evaluation.bootstrap import unit_intervals, widened
from xai_traffic.evaluation.calibrate import (
    ACCEPT,
    learnt_classes,
    of_learnt_labels,
    training_features,
)
from xai_traffic.evaluation.classify import judge_further
from xai_traffic.evaluation.evaluate import asked, check_rules, judge_split, own_dataset
from xai_traffic.evaluation.open_set import (
    acceptance_curve,
    false_positive_rate,
    open_set_classification_rate,
    placements,
)
from xai_traffic.evaluation.split_units import unit_name, units_of
from xai_traffic.evaluation.unknown_scores import (
    FEATURES,
    SCORES,
    acceptance_threshold,
    fit_features,
    known_scores,
)
from xai_traffic.training.overlap import leaks_of
from xai_traffic.training.run import Run

POINTS = 200
"""Most points of a curve."""

METRICS = ("auroc", "fpr_at_95", "oscr")


class _Sides(NamedTuple):
    """Rows of the run's own dataset that are known, and of a dataset that are not."""

    known: np.ndarray
    unknown: np.ndarray
    source: Dataset
    counts: dict[str, int]


def evaluate_open_set(
    run: Run, split: str = "test", other: Dataset | None = None, *, seed: int = 0
) -> dict[str, Any]:
    """Return how well each score of `unknown_scores` tells known from unknown, as JSON values.

    Args:
        run: a trained run; its own dataset gives the known sessions.
        split: of which they are.
        other: where unknown sessions are taken from, all its splits; by default the split itself.

    Returns:
        `sessions` and `classes` of `known` and `unknown`, `accuracy` on the known ones,
        `unit`, and `scores`. Of each score: `auroc`, `fpr_at_95` (part of the unknown
        accepted where 95 per cent of the known are) and `oscr`, each with its interval;
        `auroc_per_class` of the unknown; `rule`, the parts of `known` and `unknown` that the
        threshold accepts which accepts `accept` of the validation split, both as the run's
        calibration has them; and the curves `roc` and
        `oscr_curve` as lists of points.

    Raises:
        RunError: there are no sessions of one of the two kinds, or data was read by other rules.
    """
    dataset = own_dataset(run)
    sides = _sides(dataset, split, other)
    learnt = learnt_classes(run, dataset)
    labels, logits, features = judge_split(run, split, dataset, rows=sides.known, features=True)
    check_rules(run, sides.source)
    parts = list(judge_further(run, sides.source, sides.unknown, "judge unknown", features=True))
    _, *strange = (np.concatenate(each) for each in zip(*parts, strict=True))
    _, held_logits, held_features = judge_split(
        run,
        "validation",
        dataset,
        rows=of_learnt_labels(dataset, dataset.rows("validation")),
        features=True,
    )
    known_learnt = logits[:, learnt]
    right = learnt[known_learnt.argmax(-1)] == labels
    fitted = training_features(run, dataset, seed)
    units = [units_of(dataset, sides.known), units_of(sides.source, sides.unknown)]
    names = np.array(sides.source.table["label"].take(sides.unknown).to_pylist())
    rule = run.calibration.record["unknown"] if run.calibration else None
    accept = rule["accept"] if rule else ACCEPT / 100
    scores = {}
    for name in SCORES:
        compare = fit_features(name, *fitted) if name in FEATURES else None
        of_run = rule is not None and name == rule["score"]
        if of_run and name in FEATURES:
            compare = run.calibration.features  # what `classify` compares with
        known = known_scores(name, known_learnt, features, compare)
        unknown = known_scores(name, strange[0][:, learnt], strange[1], compare)
        held = known_scores(name, held_logits[:, learnt], held_features, compare)
        threshold = acceptance_threshold(held, accept)
        if of_run:  # the run's own, of whatever dataset it is; without one nothing is unknown
            threshold = -np.inf if rule["threshold"] is None else rule["threshold"]
        of_score, accuracy = _metrics(known, unknown, right, names, threshold, units, seed)
        scores[name] = {
            **of_score,
            "roc": _points(*acceptance_curve(known, unknown)),
            "oscr_curve": _points(*acceptance_curve(known, unknown, right)),
        }
    own = dataset.table["label"].take(sides.known).to_pylist()
    about = asked(run, split, dataset)
    if other is not None:
        theirs = leaks_of(run, "unknown", other, sides.unknown)
        about["leaky"] = list(dict.fromkeys([*about["leaky"], *theirs]))
    return {
        **about,
        "unknown_dataset": str(sides.source.path),
        "unit": unit_name(dataset),
        "known": {
            "sessions": len(own),
            "classes": {name: own.count(name) for name in sorted(set(own))},
        },
        "unknown": {"sessions": len(names), "classes": sides.counts},
        "accuracy": accuracy,
        "accept": accept,
        "scores": scores,
    }


def _sides(dataset: Dataset, split: str, other: Dataset | None) -> _Sides:
    rows = dataset.rows(split)
    known = of_learnt_labels(dataset, rows)
    if not len(known):
        raise RunError(
            f"{dataset.path} has no sessions in split {split!r} of a class that was learnt"
        )
    if other is None:
        source, unknown = dataset, np.setdiff1d(rows, known)
    else:
        source = other
        label = dataset.table["label"].to_numpy(zero_copy_only=False)
        learnt = set(label[dataset.rows("train")])
        theirs = other.table["label"].to_numpy(zero_copy_only=False)
        unknown = np.flatnonzero(~np.isin(theirs, list(learnt)))
    if not len(unknown):
        where = (
            f"{source.path} has" if other is not None else f"split {split!r} of {source.path} has"
        )
        raise RunError(
            f"{where} no sessions of a class that the run has not learnt: leave classes out with "
            "`xai-traffic convert ... --split family:CLASS+CLASS` and train on that, or name a "
            "dataset with other classes: --open-set DATASET"
        )
    named = source.table["label"].take(unknown).to_pylist()
    return _Sides(known, unknown, source, {one: named.count(one) for one in sorted(set(named))})


def _metrics(
    known: np.ndarray,
    unknown: np.ndarray,
    right: np.ndarray,
    names: np.ndarray,
    threshold: float,
    units: list[np.ndarray],
    seed: int,
) -> tuple[dict[str, Any], dict[str, float | None]]:
    """Return what is told of one score, and the accuracy on the known sessions."""
    # Sorted once: the draws keep the order, and sort in linear time.
    inner, outer = (np.argsort(side, kind="stable") for side in (known, unknown))
    classes, of_class = np.unique(names[outer], return_inverse=True)
    scores = np.concatenate([known[inner], unknown[outer]])
    well = right[inner]
    ids = np.concatenate([units[0][inner], units[1][outer]])
    count = len(known)

    def statistics(rows: np.ndarray) -> np.ndarray:
        end = np.searchsorted(rows, count)
        inside, outside, held = scores[rows[:end]], scores[rows[end:]], well[rows[:end]]
        place, kind = placements(inside, outside), of_class[rows[end:] - count]
        sizes = np.bincount(kind, minlength=len(classes))
        with np.errstate(invalid="ignore"):
            per_class = np.bincount(kind, place, len(classes)) / sizes
        return np.array(
            [
                place.mean(),
                false_positive_rate(inside, outside),
                open_set_classification_rate(inside, outside, held),
                (inside >= threshold).mean(),
                (outside >= threshold).mean(),
                held.mean(),
                *per_class,
            ]
        )

    side = np.repeat([0, 1], [count, len(unknown)])
    drawn = [len(np.unique(own)) for own in units]
    strange = [len(np.unique(units[1][outer][of_class == kind])) for kind in range(len(classes))]
    fewer = [min(drawn[0], own) for own in strange]
    found = unit_intervals(
        statistics, ids, strata=side, rests_on=dict(enumerate(fewer, 6)), seed=seed
    )
    auroc, accepted, oscr = found[:3]
    named = zip(classes.tolist(), found[6:], fewer, strict=True)
    areas = {name: widened(area, behind) for name, area, behind in named}
    told = widened(auroc, min(drawn)), widened(accepted, drawn[1]), widened(oscr, min(drawn))
    return {
        **dict(zip(METRICS, told, strict=True)),
        "auroc_per_class": areas,
        "rule": {
            "threshold": threshold if np.isfinite(threshold) else None,
            "known": widened(found[3], drawn[0]),
            "unknown": widened(found[4], drawn[1]),
        },
    }, widened(found[5], drawn[0])


def _points(x: np.ndarray, y: np.ndarray) -> list[list[float]]:
    """Return points of a curve, evenly along its length, so that steep parts keep theirs."""
    length = np.cumsum(np.abs(np.diff(x, prepend=0)) + np.abs(np.diff(y, prepend=0)))
    places = np.searchsorted(length, np.linspace(0, length[-1], POINTS))
    places = np.unique(np.r_[0, np.minimum(places, len(x) - 1), len(x) - 1])
    return np.stack([x[places], y[places]], axis=1).tolist()
