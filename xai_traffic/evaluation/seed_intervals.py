"""Intervals of scores over seeds: splits drawn anew, or trainings on one split.

Source: Nadeau and Bengio, "Inference for the generalization error", Machine Learning 2003.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from xai_traffic.evaluation.bootstrap import HIGH


def over_seeds(values: Sequence[float], train: int, test: int) -> dict[str, float | int | None]:
    """Return mean and 95 % interval of a score, or a difference, over splits by several seeds.

    Test splits of several seeds share sessions and so do training splits, which a plain t interval
    knows nothing of: the variance is taken times 1 / n + test / train instead of 1 / n.

    Args:
        values: one a seed.
        train, test: sessions of a split.

    Returns:
        `mean`, `low`, `high` and `seeds`; low and high are None for one seed.
    """
    array = np.asarray(values, np.float64)
    mean, count = float(array.mean()), len(array)
    found = {"mean": mean, "low": None, "high": None, "seeds": count}
    if count > 1:
        spread = array.std(ddof=1) * np.sqrt(1 / count + test / train)
        reach = float(stats.t.ppf(HIGH, count - 1) * spread)
        found |= {"low": mean - reach, "high": mean + reach}
    return found


def over_seeds_of_one_test(scores: Sequence[dict[str, float | None]]) -> dict:
    """Return what `over_seeds` does where all seeds were tested on the same sessions.

    Seeds then tell how far training moves the score and nothing of other sessions, which the
    bootstrap of each seed tells: the reach of a plain t interval and that of the bootstraps are
    added up as those of independent errors are.

    Args:
        scores: one a seed: `value` and its bootstrap's `low` and `high`, None where there is none.
    """
    found = over_seeds([score["value"] for score in scores], train=1, test=0)
    if any(score["low"] is None for score in scores):
        return found | {"low": None, "high": None}
    mean = found["mean"]
    for side, sign in (("low", -1), ("high", 1)):
        of_sessions = np.mean([score[side] - score["value"] for score in scores])
        of_seeds = 0.0 if len(scores) == 1 else found[side] - mean
        found[side] = mean + sign * float(np.hypot(of_sessions, of_seeds))
    return found
