"""Decision tree, random forest and boosted trees, at the settings that everybody uses."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from xai_traffic.errors import XaiTrafficError
from xai_traffic.evaluation.baseline_problem import Judged, Problem

TREES = 100
"""Of a forest."""

ROUNDS, WITHOUT_GAIN = 300, 10
"""Of boosting: at most, and without a gain on the validation split before the end; where there is
no such split, a tenth of the rounds."""

COLUMNS = 0.3
"""Part of the features that a boosted tree is shown: bytes are many, and alike."""


def judge_by_tree(name: str, problem: Problem, features: np.ndarray) -> Judged:
    """Train one decision tree (scikit-learn) on features [N, F] and judge."""
    from sklearn.tree import DecisionTreeClassifier

    return _judge(name, problem, features, DecisionTreeClassifier(random_state=problem.seed))


def judge_by_forest(name: str, problem: Problem, features: np.ndarray) -> Judged:
    """Train a random forest (scikit-learn) on features [N, F] and judge."""
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(TREES, random_state=problem.seed, n_jobs=-1)
    return _judge(name, problem, features, forest)


def judge_by_boosting(name: str, problem: Problem, features: np.ndarray) -> Judged:
    """Train gradient-boosted trees (LightGBM) on features [N, F] and judge.

    Raises:
        XaiTrafficError: the system lacks the library of OpenMP that LightGBM is linked with.
    """
    try:
        from lightgbm import LGBMClassifier, early_stopping
    except OSError as error:
        raise XaiTrafficError(
            f"LightGBM cannot be loaded: {error}; install the system's libgomp (Debian: libgomp1)"
        ) from error

    # LightGBM numbers the classes of training anew, and not those that it is to stop by.
    learnt = np.unique(problem.labels[problem.train])
    choose = np.arange(len(problem.labels))[problem.validation]
    choose = choose[np.isin(problem.labels[choose], learnt)]
    stops = len(choose) > 0
    boosted = LGBMClassifier(
        n_estimators=ROUNDS if stops else ROUNDS // 10,
        colsample_bytree=COLUMNS,
        random_state=problem.seed,
        deterministic=True,
        force_row_wise=True,
        verbose=-1,
    )
    extra: dict[str, Any] = {}
    if stops:
        extra["eval_X"] = features[choose]
        extra["eval_y"] = np.searchsorted(learnt, problem.labels[choose])
        extra["callbacks"] = [early_stopping(WITHOUT_GAIN, verbose=False)]
    return _judge(name, problem, features, boosted, **extra)


def _judge(name: str, problem: Problem, features: np.ndarray, model: Any, **extra: Any) -> Judged:
    labels = problem.labels[problem.judged]
    probabilities = np.zeros((len(labels), problem.classes))
    learnt, codes = np.unique(problem.labels[problem.train], return_inverse=True)
    if len(learnt) == 1:  # LightGBM takes one class for two
        probabilities[:, learnt] = 1
        return Judged(name, labels, probabilities, 0.0, 0.0, 0)
    began = time.perf_counter()
    model.fit(features[problem.train], codes, **extra)
    trained = time.perf_counter()
    probabilities[:, learnt] = model.predict_proba(features[problem.judged])
    return Judged(
        name,
        labels,
        probabilities,
        trained - began,
        time.perf_counter() - trained,
        _size(model),
    )


def _size(model: Any) -> int:
    """Return how many numbers trees hold: two an inner node, and what stands in each leaf."""
    if hasattr(model, "tree_"):
        leaves = int(model.tree_.n_leaves)
        return 2 * (model.tree_.node_count - leaves) + leaves * len(model.classes_)
    if hasattr(model, "estimators_"):
        return sum(map(_size, model.estimators_))
    trees = model.booster_.dump_model()["tree_info"]
    return sum(3 * tree["num_leaves"] - 2 for tree in trees)
