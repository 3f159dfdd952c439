"""What a baseline learns from, and what it makes of the sessions that it is judged on."""

from __future__ import annotations

import dataclasses

import numpy as np

from xai_traffic.data.store import Dataset


@dataclasses.dataclass(frozen=True, eq=False)
class Judged:
    """What one classifier made of a split.

    Args:
        name: of the classifier.
        labels: int [N], indices into the classes of the task.
        probabilities: float [N, K].
        training_seconds, seconds: it took to train, and to judge the split.
        parameters: numbers it has learnt (two a tree's inner node, K a leaf); None if none.
        detail: what it chose, in words; "" if nothing.
    """

    name: str
    labels: np.ndarray
    probabilities: np.ndarray
    training_seconds: float
    seconds: float
    parameters: int | None = None
    detail: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """The sessions that baselines learn from and are judged on.

    Args:
        dataset: of them.
        rows: of the dataset's table, int [N]: those of training, validation, then of the split.
        labels: int [N].
        classes: K.
        train, validation, judged: places in `rows`.
        seed: of what the classifiers draw.
    """

    dataset: Dataset
    rows: np.ndarray
    labels: np.ndarray
    classes: int
    train: slice
    validation: slice
    judged: slice
    seed: int
