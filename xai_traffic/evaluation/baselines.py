"""Shallow baselines: what there is to be had of a dataset without a network.

    majority class     the class that training has most often
    majority field     a majority rule on the one field that tells most of the validation split
    decision tree, random forest, boosted trees
                       on header fields (of `field_values`, as numbers), and on the bytes of the
                       first TILES tiles; scikit-learn's and LightGBM's, at usual settings

A network that is not ahead of these has learnt nothing that they could not tell. They see what the
networks see: the bytes of the tiles, as the mask left them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from xai_traffic.data.store import Dataset
from xai_traffic.errors import ConfigError, DatasetError
from xai_traffic.evaluation.baseline_features import header_features, tile_features
from xai_traffic.evaluation.baseline_problem import Judged, Problem
from xai_traffic.evaluation.baseline_trees import (
    judge_by_boosting,
    judge_by_forest,
    judge_by_tree,
)
from xai_traffic.evaluation.field_values import FieldValues, field_values
from xai_traffic.evaluation.field_views import ABSENT, View, best_view, views_of
from xai_traffic.evaluation.majority_rule import contingency, score_rule


def judge_baselines(
    dataset: Dataset,
    task: str = "multiclass",
    split: str = "test",
    *,
    names: Sequence[str] | None = None,
    seed: int = 0,
) -> Iterator[Judged]:
    """Train baselines on a dataset's training split and yield what each makes of another.

    Args:
        dataset: with a training split.
        task: multiclass or binary.
        split: to judge.
        names: of BASELINES; by default all that the dataset allows. Sessions that are no packets
            (layout ustc28) have no fields.
        seed: of what they draw.

    Raises:
        ConfigError: a name is unknown, or the dataset has no fields for it.
        DatasetError: there is nothing to train on or to judge.
    """
    if wrong := [name for name in names or () if name not in BASELINES]:
        raise ConfigError(f"baseline {wrong[0]!r} is unknown: choose of {', '.join(BASELINES)}")
    parts = [dataset.rows(name) for name in ("train", "validation", split)]
    for name, part in (("train", parts[0]), (split, parts[2])):
        if not len(part):
            raise DatasetError(f"{dataset.path} has no sessions in split {name!r}")
    rows = np.concatenate(parts)
    ends = np.cumsum([0, *map(len, parts)]).tolist()
    spans = [slice(begin, end) for begin, end in zip(ends, ends[1:], strict=False)]
    labels = dataset.task_labels(task)[rows]
    problem = Problem(dataset, rows, labels, len(dataset.task_classes(task)), *spans, seed)
    has_fields = dataset.rules.layout != "ustc28"
    chosen = names or [name for name in BASELINES if has_fields or "field" not in name]
    if not has_fields and any("field" in name for name in chosen):
        raise ConfigError(
            f"{dataset.path} has layout ustc28, whose bytes belong to no field: leave out "
            f"{', '.join(name for name in chosen if 'field' in name)}"
        )
    fields = None
    if any("field" in name for name in chosen):
        fields = field_values(dataset, rows)
    made: dict[str, np.ndarray] = {}
    for name in chosen:
        kind, _, seen = name.partition(", ")
        if seen and seen not in made:
            made = {seen: _FEATURES[seen](problem, fields)}  # one at a time: they are large
        yield BASELINES[name](name, problem, made.get(seen, fields))


def _majority_class(name: str, problem: Problem, _) -> Judged:
    counts = np.bincount(problem.labels[problem.train], minlength=problem.classes)
    labels = problem.labels[problem.judged]
    shares = np.tile(counts / counts.sum(), (len(labels), 1))
    return Judged(name, labels, shares, 0.0, 0.0, problem.classes)


def _majority_field(name: str, problem: Problem, fields: FieldValues) -> Judged:
    began = time.perf_counter()
    labels, classes = problem.labels, problem.classes
    places = np.arange(len(labels))
    train, choose = places[problem.train], places[problem.validation]
    # A field that is another one in every session tells those that it has seen perfectly.
    learn, pick = (train, choose) if len(choose) else (train[::2], train[1::2])
    pick = pick if len(pick) else train
    best: tuple[float, View] | None = None
    for field in fields.names:
        views = list(views_of(fields, field))
        if not views:
            continue
        view = best_view(views, labels, train, choose, classes)
        accuracy = score_rule(view.codes, labels, learn, pick, classes).accuracy
        if best is None or accuracy > best[0]:
            best = accuracy, view
    if best is None:
        raise DatasetError(f"{problem.dataset.path}: its packets have no protocol fields")
    view = best[1]
    counts = contingency(view.codes[train], labels[train], int(view.codes.max()) + 1, classes)
    total = counts.sum(0)
    counts = np.where(counts.sum(1, keepdims=True) > 0, counts, total)
    trained = time.perf_counter()
    shares = counts[view.codes[problem.judged]].astype(float)
    shares /= shares.sum(1, keepdims=True)
    codes = int((np.unique(view.codes[train]) != ABSENT).sum())
    return Judged(
        name,
        labels[problem.judged],
        shares,
        trained - began,
        time.perf_counter() - trained,
        codes * classes,
        f"{view.field}, {view.side}, {view.part}",
    )


_FEATURES = {"header fields": header_features, "tiles": tile_features}
_TREES = {
    "decision tree": judge_by_tree,
    "random forest": judge_by_forest,
    "boosted trees": judge_by_boosting,
}

BASELINES: dict[str, Callable[..., Judged]] = {
    "majority class": _majority_class,
    "majority field": _majority_field,
    **{f"{kind}, {seen}": judge for seen in _FEATURES for kind, judge in _TREES.items()},
}
"""By name, what makes each."""
