"""Deletion and insertion curves on a linear function, where the best order is known."""

import numpy as np
import pytest

from xai_traffic import explain

WEIGHTS = np.array([[3.0, 0], [1.0, 0], [-2.0, 0], [0.5, 0]], np.float32)
X = np.ones((2, 4), np.float32)
GROUPS = np.array([[0, 1, 2, 3], [0, -1, -1, -1]])


def linear(params, x):
    return x @ params


def test_curves_are_the_sums_by_hand():
    scores = np.tile(WEIGHTS[:, 0], (2, 1))
    found = explain.deletion_curves(linear, WEIGHTS, X, GROUPS, scores, 0)
    np.testing.assert_allclose(found.deletion[0], [2.5, -0.5, -1.5, -2, 0], atol=1e-6)
    np.testing.assert_allclose(found.insertion[0], [0, 3, 4, 4.5, 2.5], atol=1e-6)
    np.testing.assert_allclose(found.deletion[1], [2.5, -0.5], atol=1e-6)
    assert found.random_deletion[0].shape == found.random_insertion[0].shape == (10, 5)
    np.testing.assert_allclose(found.random_deletion[0][:, [0, -1]], [[2.5, 0]] * 10, atol=1e-6)
    pieces = explain.deletion_curves(linear, WEIGHTS, X, GROUPS, scores, 0, memory_budget=1)
    np.testing.assert_allclose(found.gain(), pieces.gain(), atol=1e-6)


def test_good_orders_gain_and_bad_ones_lose():
    scores = np.tile(WEIGHTS[:, 0], (2, 1))
    gain = explain.deletion_curves(linear, WEIGHTS, X, GROUPS, scores, 0, draws=30).gain()
    loss = explain.deletion_curves(linear, WEIGHTS, X, GROUPS, -scores, 0, draws=30).gain()
    assert gain[0] > 0 > loss[0]
    # With one player there is but one order.
    assert gain[1] == loss[1] == 0


def test_scores_must_fit():
    with pytest.raises(ValueError, match="draws and scores"):
        explain.deletion_curves(linear, WEIGHTS, X, GROUPS, WEIGHTS[:, 0])
