"""Conformal sets: the promise holds on exchangeable data, and thresholds are those of the rule."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from xai_traffic.evaluation.conformal import conformal_thresholds, prediction_sets


def probabilities(rng, labels, classes=4):
    """Return a poor model's probabilities: worse for the higher classes."""
    logits = rng.normal(size=(len(labels), classes))
    logits[np.arange(len(labels)), labels] += 2.0 - 0.7 * labels
    return softmax(logits, axis=-1)


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_each_class_is_covered_as_promised_on_average_over_draws(coverage):
    rng = np.random.default_rng(0)
    hits = []
    for _ in range(300):
        held = np.repeat(np.arange(4), (12, 25, 40, 60))
        thresholds = conformal_thresholds(probabilities(rng, held), held, coverage)
        fresh = np.repeat(np.arange(4), 50)
        inside = prediction_sets(probabilities(rng, fresh), thresholds)
        hits.append(inside[np.arange(len(fresh)), fresh].reshape(4, 50).mean(1))
    mean, error = np.mean(hits, 0), np.std(hits, 0) / np.sqrt(len(hits))
    assert (mean >= coverage - 3 * error).all()
    # The poorest class is covered as promised and no more: nothing but its threshold does it.
    assert mean[3] < coverage + 1 / 61 + 3 * error[3]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.sampled_from([0.5, 0.8, 0.9]))
def test_the_threshold_keeps_as_many_held_out_sessions_as_the_rule_says(own, coverage):
    held = np.stack([np.array(own), 1 - np.array(own)], axis=1)
    threshold = conformal_thresholds(held, np.zeros(len(own), int), coverage)[0]
    keep = int(np.ceil(round((len(own) + 1) * coverage, 9)))
    if keep > len(own):
        assert threshold == 0
    else:
        # By the definition of a quantile: so many are kept, and with any higher one fewer are.
        assert (held[:, 0] >= threshold).sum() >= keep > (held[:, 0] > threshold).sum()


def test_few_sessions_promise_by_being_in_every_set_and_none_by_nothing():
    held = np.array([[0.7, 0.2, 0.1]] * 9 + [[0.1, 0.8, 0.1]] * 8)
    labels = np.repeat([0, 1], (9, 8))
    thresholds = conformal_thresholds(held, labels, 0.9)
    np.testing.assert_array_equal(thresholds, [0.7, 0, np.nan])
    inside = prediction_sets(np.array([[0.6, 0.1, 0.3], [0.0, 0.1, 0.9]]), thresholds)
    # The verdict is always in: also of the class that nothing is promised to.
    np.testing.assert_array_equal(inside, [[True, True, False], [False, True, True]])
