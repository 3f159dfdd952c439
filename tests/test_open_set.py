"""Known against unknown: by hand, and against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import NearestNeighbors

from xai_traffic.evaluation.open_set import (
    acceptance_curve,
    false_positive_rate,
    open_set_classification_rate,
    placements,
)
from xai_traffic.evaluation.open_set_evaluation import _metrics
from xai_traffic.evaluation.unknown_scores import (
    NEIGHBOUR,
    acceptance_threshold,
    fit_features,
    known_scores,
)

# Few values, so that ties are common.
SCORES = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=30).map(np.array)


@given(SCORES, SCORES)
def test_areas_and_rates_are_those_of_scikit_learn(known, unknown):
    truth = np.repeat([1, 0], [len(known), len(unknown)])
    scores = np.concatenate([known, unknown])
    area = metrics.roc_auc_score(truth, scores)
    assert placements(known, unknown).mean() == pytest.approx(area)
    accepted, recall = acceptance_curve(known, unknown)
    assert np.trapezoid(recall, accepted) == pytest.approx(area)
    false, true, _ = metrics.roc_curve(truth, scores, drop_intermediate=False)
    np.testing.assert_allclose(np.stack([accepted, recall]), np.stack([false, true]))
    assert false_positive_rate(known, unknown) == pytest.approx(false[true >= 0.95 - 1e-12].min())
    # Where all is judged rightly OSCR is the AUROC.
    every = np.ones(len(known), bool)
    assert open_set_classification_rate(known, unknown, every) == pytest.approx(area)
    assert open_set_classification_rate(known, unknown, ~every) == 0


def test_oscr_by_hand():
    known, right = np.array([5.0, 4, 2, 1]), np.array([True, False, True, True])
    # At 3 one of four is accepted and right, at 0 three are: (0, 1/4) to (1/2, 1/4) to (1/2, 3/4).
    assert open_set_classification_rate(known, np.array([3.0, 0]), right) == pytest.approx(
        1 / 2 * 1 / 4 + 1 / 2 * 3 / 4
    )
    # All unknown below all known: the accuracy; all above: nothing is accepted before them.
    assert open_set_classification_rate(known, np.array([0.0, -1]), right) == pytest.approx(3 / 4)
    assert open_set_classification_rate(known, np.array([9.0, 8]), right) == 0


def test_the_rule_accepts_new_sessions_as_promised():
    rng = np.random.default_rng(0)
    accepted = []
    for _ in range(2000):
        threshold = acceptance_threshold(rng.normal(size=59), 0.95)
        accepted.append((rng.normal(size=20) >= threshold).mean())
    # floor(60 * 0.05) = 3 of 60 places are below the threshold.
    assert np.mean(accepted) == pytest.approx(1 - 3 / 60, abs=0.004)
    assert acceptance_threshold(rng.normal(size=10), 0.95) == -np.inf


def test_scores_of_logits_rank_as_they_are_named():
    logits = np.array([[5.0, 0, 0], [5, 4, 0], [1, 0, 0]])
    sure, highest, energy = (
        known_scores(name, logits) for name in ("softmax", "max_logit", "energy")
    )
    assert sure[0] > sure[1] and sure.max() < 1
    np.testing.assert_array_equal(highest, [5, 5, 1])
    np.testing.assert_allclose(energy, np.log(np.exp(logits).sum(-1)))
    with pytest.raises(ValueError, match="'magic' is unknown: choose one of softmax"):
        known_scores("magic", logits)


@pytest.fixture(scope="module")
def features():
    """Features of three classes, and of sessions far from all of them."""
    rng = np.random.default_rng(2)
    labels = np.arange(300) % 3
    means = rng.normal(scale=3, size=(3, 8))
    stretch = rng.normal(size=(8, 8))
    learnt = means[labels] + rng.normal(size=(300, 8)) @ stretch
    strange = rng.normal(scale=9, size=(50, 8))
    return learnt.astype(np.float32), labels, strange.astype(np.float32)


def test_mahalanobis_is_that_of_scikit_learn(features):
    learnt, labels, strange = features
    means = np.stack([learnt[labels == k].mean(0, dtype=np.float64) for k in range(3)])
    peer = LedoitWolf(assume_centered=True).fit(learnt - means[labels])
    expected = np.sqrt(np.min([peer.mahalanobis(strange - mean) for mean in means], axis=0))
    found = known_scores("mahalanobis", None, strange, fit_features("mahalanobis", learnt, labels))
    np.testing.assert_allclose(-found, expected, rtol=1e-4)


def test_features_that_never_vary_have_a_scale_all_the_same(features):
    learnt, labels, strange = features
    flat = np.concatenate([learnt, np.zeros((300, 3), np.float32)], axis=1)
    fitted = fit_features("mahalanobis", flat, labels)
    assert np.isfinite(known_scores("mahalanobis", None, flat, fitted)).all()


def test_nearest_neighbours_are_those_of_scikit_learn(features):
    learnt, labels, strange = features
    unit = [part / np.linalg.norm(part, axis=-1, keepdims=True) for part in (learnt, strange)]
    peer = NearestNeighbors(n_neighbors=NEIGHBOUR).fit(unit[0])
    expected = peer.kneighbors(unit[1])[0][:, -1]
    fitted = fit_features("nearest_neighbour", learnt, labels)
    found = known_scores("nearest_neighbour", None, strange, fitted)
    np.testing.assert_allclose(-found, expected, atol=1e-3)
    few = fit_features("nearest_neighbour", learnt[:4], labels[:4])
    assert known_scores("nearest_neighbour", None, strange, few).shape == (50,)
    assert known_scores("nearest_neighbour", None, strange[:0], fitted).shape == (0,)


def test_all_right_is_no_point():
    """Four known and two unknown that are wholly apart do not show that all others are."""
    known, unknown = np.array([5.0, 6, 7, 8]), np.array([1.0, 2])
    units = [np.arange(4), np.arange(2)]
    names = np.array(["a", "b"])
    found, _ = _metrics(known, unknown, np.ones(4, bool), names, 4.0, units, 0)
    assert found["auroc"]["mean"] == 1 and found["auroc"]["low"] < 0.4
    assert found["fpr_at_95"]["mean"] == 0 and found["fpr_at_95"]["high"] > 0.6
    assert found["oscr"]["low"] < 0.4
    assert found["auroc_per_class"]["a"]["low"] < 0.25
