"""A majority rule: each value of a field stands for the label that has it most often in training.

The plainest shortcut there is. What it scores on the test split, a model can score without having
learnt anything of the traffic. Two rules come from the same counts: the plain one, whose accuracy
users know, and one that weighs all classes alike, so that rare classes count and guessing gives
1 / K whatever the classes' sizes are.
"""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class RuleScore:
    """What a rule scored on sessions that it was not made from.

    Args:
        accuracy: of the plain rule.
        balanced_accuracy: mean recall over the classes there are, of the rule with equal weights.
        unseen: part of the sessions whose value no training session has.
        spread: how far balanced accuracy would scatter about guessing if the labels had nothing to
            do with the values: its standard deviation over permutations of the labels, at most.
    """

    accuracy: float
    balanced_accuracy: float
    unseen: float
    spread: float


def score_rule(
    codes: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray, classes: int
) -> RuleScore:
    """Learn a rule on some sessions and score it on others.

    A value that no training session has stands for the label that is most frequent in training.

    Args:
        codes: int [N], values from 0 up; that a session has no such field is a value as well.
        labels: int [N], 0..classes - 1.
        train: int [n], sessions to learn from, at least one.
        test: int [m], sessions to score on, at least one.
        classes: K.
    """
    values = int(codes.max()) + 1
    learned = contingency(codes[train], labels[train], values, classes)
    scored = contingency(codes[test], labels[test], values, classes)
    return score_counts(learned, scored)


def rule_verdicts(
    codes: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return what the plain rule and the one of equal weights say of the test, int [m] each.

    Arguments are those of `score_rule`.
    """
    learned = contingency(codes[train], labels[train], int(codes.max()) + 1, classes)
    plain, weighed = _rules(learned)
    return plain[codes[test]], weighed[codes[test]]


def _rules(learned: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the label of each value by both rules, int [V] each, of counts [V, K]."""
    sizes = learned.sum(0)
    seen, most = learned.sum(1) > 0, int(sizes.argmax())
    plain = np.where(seen, learned.argmax(1), most)
    return plain, np.where(seen, (learned / np.maximum(sizes, 1)).argmax(1), most)


def contingency(codes: np.ndarray, labels: np.ndarray, values: int, classes: int) -> np.ndarray:
    """Count sessions by value and label, int64 [values, classes]."""
    flat = np.bincount(codes.astype(np.int64) * classes + labels, minlength=values * classes)
    return flat.reshape(values, classes)


def score_counts(learned: np.ndarray, scored: np.ndarray) -> RuleScore:
    """Score the rule of counts [V, K] on other counts [V, K], see `contingency`."""
    total, seen = int(scored.sum()), learned.sum(1) > 0
    plain, weighed = _rules(learned)
    sizes = learned.sum(0)
    rows = np.arange(len(scored))
    supports = scored.sum(0)
    hits = np.bincount(weighed, scored[rows, weighed], minlength=len(sizes))
    said = np.bincount(weighed, scored.sum(1), minlength=len(sizes)) / total
    there = supports > 0
    # Hits of a class are hypergeometric; those of two classes move together at most.
    variances = said * (1 - said) / np.maximum(supports, 1) * (total - supports)
    deviations = np.sqrt(variances / max(total - 1, 1))
    return RuleScore(
        accuracy=float(scored[rows, plain].sum() / total),
        balanced_accuracy=float((hits[there] / supports[there]).mean()),
        unseen=float(scored[~seen].sum() / total),
        spread=float(deviations[there].mean()),
    )


def skill(balanced_accuracy: float, chance: float) -> float:
    """Return how far a score is from guessing to perfect: 0 and less is nothing, 1 is all."""
    return (balanced_accuracy - chance) / (1 - chance) if chance < 1 else 0.0
