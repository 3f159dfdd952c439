"""Majority rules and mutual information, held to scikit-learn and to arithmetic."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_mutual_info_score, balanced_accuracy_score
from sklearn.tree import DecisionTreeClassifier

from xai_traffic.evaluation.majority_rule import score_rule, skill
from xai_traffic.evaluation.mutual_information import adjusted_mutual_information


def drawn(count=400, values=6, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, values, count)
    labels = np.where(rng.random(count) < 0.6, codes % classes, rng.integers(0, classes, count))
    order = rng.permutation(count)
    return codes, labels, order[: count // 2], order[count // 2 :]


@pytest.mark.parametrize("seed", range(4))
def test_both_rules_are_what_a_tree_on_the_one_hot_value_learns(seed):
    codes, labels, train, test = drawn(seed=seed)
    score = score_rule(codes, labels, train, test, 3)
    one_hot = np.eye(6)[codes]
    for weights in (None, "balanced"):
        tree = DecisionTreeClassifier(class_weight=weights).fit(one_hot[train], labels[train])
        said = tree.predict(one_hot[test])
        if weights is None:
            assert score.accuracy == pytest.approx((said == labels[test]).mean())
        else:
            theirs = balanced_accuracy_score(labels[test], said)
            assert score.balanced_accuracy == pytest.approx(theirs)


def test_values_that_training_lacks_stand_for_its_most_frequent_label():
    codes, labels = np.array([0, 0, 0, 1, 2, 2]), np.array([1, 1, 1, 0, 1, 0])
    score = score_rule(codes, labels, np.arange(4), np.array([3, 4, 5]), 2)
    assert score.accuracy == pytest.approx(2 / 3)
    assert score.unseen == pytest.approx(2 / 3)


def test_weighing_classes_alike_finds_what_a_rare_class_tells():
    labels = np.repeat([0, 1], [980, 20])
    codes = np.zeros(1000, int)
    codes[:50], codes[980:] = 1, 1  # value 1: all of the rare class, and a few of the other
    half = np.arange(0, 1000, 2), np.arange(1, 1000, 2)
    score = score_rule(codes, labels, *half, 2)
    assert score.accuracy == pytest.approx(0.98)  # no better than saying the frequent class
    assert score.balanced_accuracy > 0.95


@pytest.mark.parametrize("values, classes", [(2, 2), (6, 3), (40, 8)])
def test_chance_scatters_no_further_than_is_told(values, classes):
    codes, labels, train, test = drawn(values=values, classes=classes)
    rng = np.random.default_rng(1)
    scores = []
    for _ in range(300):
        shuffled = labels.copy()
        shuffled[test] = rng.permutation(labels[test])
        scores.append(score_rule(codes, shuffled, train, test, classes))
    found = np.std([score.balanced_accuracy for score in scores])
    assert found < 1.1 * scores[0].spread
    assert classes > 2 or found > 0.9 * scores[0].spread  # of two classes it is exact
    assert np.mean([score.balanced_accuracy for score in scores]) == pytest.approx(
        1 / classes, abs=0.02
    )


def test_skill_runs_from_guessing_to_perfect():
    assert skill(0.05, 0.05) == 0 and skill(1.0, 0.05) == 1
    assert skill(0.525, 0.05) == pytest.approx(0.5)
    assert skill(1.0, 1.0) == 0


def test_mutual_information_is_of_chance_rid():
    for values, classes in ((6, 3), (50, 2), (200, 20)):
        codes, labels, *_ = drawn(values=values, classes=classes)
        theirs = adjusted_mutual_info_score(labels, codes)
        assert adjusted_mutual_information(codes, labels) == pytest.approx(theirs, abs=1e-9)
    codes, labels, *_ = drawn()
    assert adjusted_mutual_information(labels * 7, labels) == pytest.approx(1)
    assert adjusted_mutual_information(np.arange(400), labels) < 1e-6  # each value once
    assert adjusted_mutual_information(np.zeros(400, int), labels) == 0
