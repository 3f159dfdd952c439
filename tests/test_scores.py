"""Scores against scikit-learn and against numbers worked out by hand."""

import numpy as np
import pytest
from sklearn import metrics

from xai_traffic.evaluation.calibration import expected_calibration_error, reliability
from xai_traffic.evaluation.scores import matthews_correlation, score

CLASSES = ["a", "b", "c", "d", "e", "f", "g"]


@pytest.fixture
def sample():
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 7, 400).astype(np.int32)
    logits = rng.normal(size=(400, 7)) + 2.0 * np.eye(7)[labels]
    probabilities = np.exp(logits)
    return labels, (probabilities / probabilities.sum(1, keepdims=True)).astype(np.float32)


def test_scores_equal_scikit_learn(sample):
    labels, probabilities = sample
    result = score(labels, probabilities, CLASSES)
    predictions = probabilities.argmax(1)
    assert result["accuracy"] == metrics.accuracy_score(labels, predictions)
    assert result["macro_f1"] == pytest.approx(
        metrics.f1_score(labels, predictions, average="macro")
    )
    assert result["mcc"] == pytest.approx(metrics.matthews_corrcoef(labels, predictions))
    assert result["top_5_accuracy"] == pytest.approx(
        metrics.top_k_accuracy_score(labels, probabilities, k=5)
    )
    one_hot = np.eye(7)[labels]
    assert result["roc_auc"] == pytest.approx(metrics.roc_auc_score(one_hot, probabilities))
    assert result["pr_auc"] == pytest.approx(
        metrics.average_precision_score(one_hot, probabilities)
    )
    assert np.sum(result["confusion_matrix"]) == 400 == result["sessions"]
    assert sum(row["support"] for row in result["per_class"].values()) == 400


def test_absent_class_does_not_enter_macro_f1():
    probabilities = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]])
    result = score(np.array([0, 1]), probabilities, ["a", "b", "never"])
    assert result["macro_f1"] == 1.0
    assert result["per_class"]["never"]["support"] == 0
    assert "top_5_accuracy" not in result


def test_one_class_has_no_areas_and_no_correlation():
    result = score(np.zeros(3, int), np.array([[0.9, 0.1]] * 3), ["a", "b"])
    assert result["roc_auc"] is None and result["pr_auc"] is None
    assert matthews_correlation(np.zeros(3, int), np.zeros(3, int), 2) == 0.0


@pytest.mark.parametrize("labels, shape", [([], (0, 2)), ([0, 1], (2, 3))])
def test_what_cannot_be_scored_is_refused(labels, shape):
    with pytest.raises(ValueError):
        score(np.array(labels, int), np.ones(shape), ["a", "b"])


def test_calibration_error_by_hand():
    # Ten sessions at confidence 0.8, six of them right: a gap of 0.2 in the only bin.
    probabilities = np.tile([0.8, 0.2], (10, 1))
    labels = np.array([0] * 6 + [1] * 4)
    assert expected_calibration_error(labels, probabilities) == pytest.approx(0.2)
    confidence, accuracy, count = reliability(labels, probabilities, bins=10)
    assert count[7] == 10 and confidence[7] == pytest.approx(0.8) and accuracy[7] == 0.6


def test_confidence_of_one_falls_into_the_last_bin():
    _, accuracy, count = reliability(np.array([0]), np.array([[1.0, 0.0]]), bins=4)
    assert count.tolist() == [0, 0, 0, 1] and accuracy[3] == 1
